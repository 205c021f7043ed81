// Whose flow is this? The state is the sockets of the mesh namespace themselves, so there is no flow table to fill or to evict. The one
// exception: a direct connection with the ends of one that the proxy had, whose socket is still there (in TIME_WAIT, or its process was
// killed). Such flows are noted in `direct_flows`, or that socket would take their packets.
#pragma once
#include "packet.h"

INLINE struct weft_flow_key flow_key(const struct packet *packet) {
  return (struct weft_flow_key){packet->source, packet->destination, packet->source_port, packet->destination_port};
}

// The packets that answer this one.
INLINE struct packet answering(const struct packet *packet) {
  return (struct packet){.source = packet->destination,
                         .destination = packet->source,
                         .source_port = packet->destination_port,
                         .destination_port = packet->source_port,
                         .protocol = packet->protocol,
                         .v6 = packet->v6};
}

INLINE void note_direct(struct __sk_buff *skb, const struct packet *packet, const struct weft_config *config) {
  struct bpf_sock_tuple tuple;
  __u32 length = to_tuple(packet, &tuple);
  struct bpf_sock *found = bpf_skc_lookup_tcp(skb, &tuple, length, (__u32)config->mesh_nsid, 0);
  if (!found) return;
  __u32 state = found->state;
  bpf_sk_release(found);
  if (state == BPF_TCP_LISTEN) return;
  struct weft_flow_key key = flow_key(packet);
  __u8 yes = 1;
  bpf_map_update_elem(&direct_flows, &key, &yes, BPF_ANY);
}

// The connection of this first packet goes past the proxy.
INLINE void begin_direct(struct __sk_buff *skb, const struct packet *first, const struct weft_config *config) {
  struct packet answer = answering(first);
  note_direct(skb, first, config);
  note_direct(skb, &answer, config);
}

// It goes to the proxy, or the packets that answer it do.
INLINE void begin_captured(const struct packet *packet) {
  struct weft_flow_key key = flow_key(packet);
  bpf_map_delete_elem(&direct_flows, &key);
}

// The map is asked for sockets that end only: one that still serves has no other connection's ends.
INLINE bool is_direct(const struct packet *packet, __u32 state) {
  if (state < BPF_TCP_FIN_WAIT1 || state > BPF_TCP_CLOSING) return false;
  struct weft_flow_key key = flow_key(packet);
  return bpf_map_lookup_elem(&direct_flows, &key) != NULL;
}

// 0: no socket of the mesh namespace has this flow. Otherwise its SO_MARK; DELIVER where the kernel doesn't tell (time-wait).
INLINE __u32 mesh_mark(struct __sk_buff *skb, const struct packet *packet, const struct weft_config *config) {
  struct bpf_sock_tuple tuple;
  __u32 length = to_tuple(packet, &tuple);
  struct bpf_sock *found = bpf_skc_lookup_tcp(skb, &tuple, length, (__u32)config->mesh_nsid, 0);
  if (!found) return 0;
  __u32 state = found->state, mark = 0;
  if (state == BPF_TCP_LISTEN || is_direct(packet, state)) {
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
