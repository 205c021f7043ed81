// Packets that leave the mesh namespace: ingress of mesh0, the host's end. The sending socket's mark says where they belong.
// Nothing passes on into the host's stack: what has no owner is dropped and counted.
#include "lib/counters.h"
#include "lib/flow.h"
#include "lib/hold.h"
#include "lib/neighbour.h"
#include "lib/steer.h"

SEC("tc")
int mesh0_in(struct __sk_buff *skb) {
  struct weft_config *cfg = get_config();
  struct packet packet = {};
  if (!cfg || !parse_packet(skb, &packet)) {
    count(WEFT_PROGRAM_MESH0_IN, WEFT_REASON_DROPPED_UNPARSED);
    return TC_ACT_SHOT;
  }
  if (packet.first) {
    struct packet answer = answering(&packet);
    begin_captured(&answer);
  }
  bool inject = steering(skb) == WEFT_INJECT;
  struct weft_workload *workload = bpf_map_lookup_elem(&addresses, inject ? &packet.source : &packet.destination);
  if (!workload) {
    count(WEFT_PROGRAM_MESH0_IN, WEFT_REASON_DROPPED_NO_WORKLOAD);
    return TC_ACT_SHOT;
  }
  __u32 ifindex = workload->ifindex;
  if (inject) {
    // The host (network policy, service translation, conntrack) sees a packet that arrives from the workload.
    count(WEFT_PROGRAM_MESH0_IN, WEFT_REASON_INJECTED);
    bpf_skb_store_bytes(skb, 0, next_hop(&packet, workload), ETH_ALEN, 0);
    skb->mark = cfg->host_mark;
    return bpf_redirect(ifindex, BPF_F_INGRESS);
  }
  // As in to_pod, which packets that are delivered do not pass.
  if (packet.first && workload->flags & WEFT_FAIL_CLOSED && is_held(workload)) {
    count_connection(WEFT_PROGRAM_MESH0_IN, WEFT_REASON_HELD, ifindex);
    return TC_ACT_SHOT;
  }
  count(WEFT_PROGRAM_MESH0_IN, WEFT_REASON_DELIVERED);
  // redirect_peer does not look at the destination MAC again, so it need not be the workload's; the type must be "to us".
  bpf_skb_change_type(skb, 0);
  return bpf_redirect_peer(ifindex, 0);
}

char _license[] __weak SEC("license") = "GPL";
