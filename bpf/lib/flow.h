// Whose flow is this? The state is the sockets of the mesh namespace themselves, so there is no flow table to fill or to evict.
#pragma once
#include "packet.h"

// 0: no socket of the mesh namespace has this flow. Otherwise its SO_MARK; DELIVER where the kernel doesn't tell (time-wait).
INLINE __u32 mesh_mark(struct __sk_buff *skb, const struct packet *packet, const struct weft_config *config) {
  struct bpf_sock_tuple tuple;
  __u32 length = to_tuple(packet, &tuple);
  struct bpf_sock *found = bpf_skc_lookup_tcp(skb, &tuple, length, (__u32)config->mesh_nsid, 0);
  if (!found) return 0;
  __u32 state = found->state, mark = 0;
  if (state == BPF_TCP_LISTEN) {
    bpf_sk_release(found);
    return 0;
  }
  struct bpf_sock *full = bpf_sk_fullsock(found);
  if (full) mark = full->mark;
  bpf_sk_release(found);
  // A request socket has no readable mark; the other helper returns its listener, whose mark it will inherit.
  if (state == BPF_TCP_NEW_SYN_RECV) {
    struct bpf_sock *listener = bpf_sk_lookup_tcp(skb, &tuple, length, (__u32)config->mesh_nsid, 0);
    if (listener) {
      mark = listener->mark;
      bpf_sk_release(listener);
    }
  }
  return mark ? mark : WEFT_DELIVER;
}
