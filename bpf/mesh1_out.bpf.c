// Packets that the mesh namespace sends: egress of mesh1. Writes the socket's mark into the source MAC for mesh0_in.
#include <linux/pkt_cls.h>

#include "lib/maps.h"
#include "lib/steer.h"

SEC("tc")
int mesh1_out(struct __sk_buff *skb) {
  __u8 mark = skb->mark;
  bpf_skb_store_bytes(skb, STEER_OFFSET, &mark, 1, 0);
  return TC_ACT_UNSPEC;
}

char _license[] __weak SEC("license") = "GPL";
