// Picks the worker, and so the listener, of a new connection.
#pragma once
#include "maps.h"

// By hash, not in turn: a SYN sent again finds the listener that it found before.
INLINE __u32 hash_flow(__u32 source, __u32 destination, __u32 ports) {
  __u32 hash = source * 0x9e3779b1u ^ destination * 0x85ebca6bu ^ ports * 0xc2b2ae35u;
  hash ^= hash >> 15;
  hash *= 0x2c1b3c6du;
  return hash ^ hash >> 13;
}

// `sockets`: a SOCKMAP with so many sockets of each worker, of which this is the `kind`th.
// `stale`: whether a listener was passed over because its worker does not beat.
// Returns a referenced socket: bpf_sk_release it. NULL: no worker can take the connection.
INLINE struct bpf_sock *pick_socket(const struct weft_config *config, void *sockets, __u32 per_worker, __u32 kind, __u32 hash,
                                    bool *stale) {
  __u32 zero = 0;
  struct weft_worker *first = bpf_map_lookup_elem(&workers, &zero);
  if (!first) return NULL;
  __u32 total = *(volatile __u32 *)&first->workers;
  if (total == 0 || total > WEFT_MAX_WORKERS) return NULL;
  __u32 slot = hash % total;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < WEFT_MAX_WORKERS; i++) {
    if (i >= total) break;
    __u32 current = slot;
    slot = slot + 1 == total ? 0 : slot + 1;
    struct weft_worker *worker = bpf_map_lookup_elem(&workers, &current);
    if (!worker) continue;
    __u32 key = current * per_worker + kind;
    struct bpf_sock *listener = bpf_map_lookup_elem(sockets, &key);
    if (!listener) continue;
    // Signed: the engine's clock reading may be later than ours.
    __s64 age = bpf_ktime_get_ns() - *(volatile __u64 *)&worker->beat_ns;
    if (config->heartbeat_timeout_ns == 0 || age <= (__s64)config->heartbeat_timeout_ns) return listener;
    *stale = true;
    bpf_sk_release(listener);
  }
  return NULL;
}

INLINE struct bpf_sock *pick_listener(const struct weft_config *config, enum weft_listener kind, __u32 hash, bool *stale) {
  return pick_socket(config, &listeners, WEFT_LISTENERS_PER_WORKER, kind, hash, stale);
}

INLINE struct bpf_sock *pick_dns_listener(const struct weft_config *config, bool v6, __u32 hash) {
  bool stale;
  return pick_socket(config, &dns_listeners, WEFT_DNS_PER_WORKER, v6 ? WEFT_LISTENER_DNS6 : WEFT_LISTENER_DNS4, hash, &stale);
}
