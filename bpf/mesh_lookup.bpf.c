// Chooses the listener of a new connection: sk_lookup on the mesh namespace, kernel 5.9. Established and time-wait sockets the stack
// finds by itself before it asks, so a reused client port works (with bpf_sk_assign in tc it timed out).
#include <stdbool.h>

#include "lib/counters.h"
#include "lib/listeners.h"

// In linux/bpf.h's words; <sys/socket.h> is not for BPF.
enum { FAMILY_INET6 = 10, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

SEC("sk_lookup")
int mesh_lookup(struct bpf_sk_lookup *ctx) {
  const volatile struct bpf_sk_lookup *flow = ctx;
  struct weft_config *cfg = get_config();
  __u32 zero = 0, *shared = bpf_map_lookup_elem(&direction, &zero);
  if (!cfg || !shared) return SK_PASS;
  if (flow->protocol == PROTOCOL_UDP && *shared == WEFT_DNS) {
    *shared = 0;
    struct bpf_sock *socket = pick_dns_listener(cfg, flow->family == FAMILY_INET6, (__u16)flow->remote_port);
    if (!socket) return SK_PASS;
    long refused = bpf_sk_assign(ctx, socket, BPF_SK_LOOKUP_F_NO_REUSEPORT);
    bpf_sk_release(socket);
    return refused ? SK_DROP : SK_PASS;
  }
  if (flow->protocol != PROTOCOL_TCP) return SK_PASS;
  // Taken once: the socket lookups of from_pod and to_pod end up here too, for flows that the mesh does not have.
  __u32 why = *shared;
  *shared = 0;
  if (why != WEFT_OUTBOUND && why != WEFT_INBOUND) return SK_PASS;

  bool inbound = why == WEFT_INBOUND, v6 = flow->family == FAMILY_INET6, stale = false;
  // The fields of the other family read as 0. Not "v6 ? a : b": clang 14 makes one load of it, through a computed context pointer,
  // which the verifier refuses.
  __u32 source = flow->remote_ip4 ^ flow->remote_ip6[3], destination = flow->local_ip4 ^ flow->local_ip6[3];
  __u32 ports = (__u32)flow->remote_port << 16 | (__u16)flow->local_port;
  enum weft_listener kind =
      inbound ? (v6 ? WEFT_LISTENER_INBOUND6 : WEFT_LISTENER_INBOUND4) : (v6 ? WEFT_LISTENER_OUTBOUND6 : WEFT_LISTENER_OUTBOUND4);
  struct bpf_sock *listener = pick_listener(cfg, kind, hash_flow(source, destination, ports), &stale);
  if (!listener) {
    // Only fail-closed connections come here without a proxy: the stack finds no socket and refuses them with RST.
    count(WEFT_PROGRAM_MESH_LOOKUP, stale ? WEFT_REASON_REFUSED_STALE_WORKER : WEFT_REASON_REFUSED_NO_LISTENER);
    return SK_PASS;
  }
  // The worker is chosen: a reuseport group must not choose again.
  long failed = bpf_sk_assign(ctx, listener, BPF_SK_LOOKUP_F_NO_REUSEPORT);
  bpf_sk_release(listener);
  count(WEFT_PROGRAM_MESH_LOOKUP, failed ? WEFT_REASON_ASSIGN_FAILED : WEFT_REASON_ASSIGNED);
  return failed ? SK_DROP : SK_PASS;
}

char _license[] __weak SEC("license") = "GPL";
