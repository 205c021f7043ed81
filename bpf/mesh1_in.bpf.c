// Packets that enter the mesh namespace: ingress of mesh1. Turns the steering byte into the direction that mesh_lookup reads and
// into the mark that answers without a socket (RST, time-wait) reflect, and accepted sockets inherit (tcp_fwmark_accept).
#include <linux/pkt_cls.h>

#include "lib/maps.h"
#include "lib/steer.h"

SEC("tc")
int mesh1_in(struct __sk_buff *skb) {
  __u32 zero = 0, why = steering(skb);
  __u32 *shared = bpf_map_lookup_elem(&direction, &zero);
  if (shared) *shared = why;
  bpf_skb_change_type(skb, 0);
  skb->mark = why == WEFT_INBOUND ? WEFT_INJECT : WEFT_DELIVER;
  return TC_ACT_UNSPEC;
}

char _license[] __weak SEC("license") = "GPL";
