// Inbound capture and ICMP steering: egress of the host side of a workload's veth. Kernel 5.10.
#include "lib/counters.h"
#include "lib/exclusions.h"
#include "lib/flow.h"
#include "lib/hold.h"
#include "lib/listeners.h"
#include "lib/neighbour.h"
#include "lib/packet.h"
#include "lib/steer.h"

INLINE int redirect(struct __sk_buff *skb, const struct weft_config *cfg, __u32 ifindex, enum weft_direction why) {
  address_to_mesh(skb, cfg, ifindex, why);
  return bpf_redirect(cfg->mesh0_ifindex, 0);
}

// Whether a process on this host in an exempt cgroup sent it. skb->sk is only there for local senders.
INLINE bool exempt(struct __sk_buff *skb, const struct weft_config *cfg) {
  if (!skb->sk || !(cfg->exempt_cgroup[0] | cfg->exempt_cgroup[1])) return false;
  __u64 cgroup = bpf_skb_cgroup_id(skb);
  return cgroup && (cgroup == cfg->exempt_cgroup[0] || cgroup == cfg->exempt_cgroup[1]);
}

INLINE bool owns(__u32 ifindex, const struct weft_address *address) {
  struct weft_workload *owner = bpf_map_lookup_elem(&addresses, address);
  return owner && owner->ifindex == ifindex;
}

// Precedence; the numbers stand again at the returns.
//  1 injected by the proxy (so it has been through it), not a workload's → pass
//  2 ICMP error about a flow of the proxy                                → the proxy's, though addressed to the workload
//  3 not TCP                                                             → pass (unreadable, and inbound captured: drop)
//  4 not a first packet                                                  → the proxy's if it has the flow, else pass
//  5 inbound not captured, exempt sender, excluded port or client         → pass
//    to an address that is not the workload's: it could not be delivered  → pass (fail-closed: the proxy's, and in vain)
//  6 fail-closed, and its configuration on the way                        → drop: the sender tries again
//  7 no proxy                                                            → pass (fail-closed: redirect, answered by RST)
//  8 redirect to an inbound listener
SEC("tc")
int to_pod(struct __sk_buff *skb) {
  struct weft_config *cfg = get_config();
  __u32 ifindex = skb->ifindex;
  if (!cfg || skb->mark & cfg->host_mark) return TC_ACT_UNSPEC;  // 1
  struct weft_workload *workload = bpf_map_lookup_elem(&workloads, &ifindex);
  if (!workload) return TC_ACT_UNSPEC;  // 1

  struct packet quoted = {};
  if (parse_icmp_error(skb, &quoted)) {  // 2
    if (!mesh_mark(skb, &quoted, cfg)) return TC_ACT_UNSPEC;
    count(WEFT_PROGRAM_TO_POD, WEFT_REASON_ICMP_STEERED);
    return redirect(skb, cfg, ifindex, WEFT_FLOW);
  }
  struct packet packet = {};
  if (!parse_packet(skb, &packet)) {  // 3
    if (!packet.unreadable || !(workload->flags & WEFT_CAPTURE_INBOUND)) return TC_ACT_UNSPEC;
    count_connection(WEFT_PROGRAM_TO_POD, WEFT_REASON_DROPPED_UNREADABLE, ifindex);
    return TC_ACT_SHOT;
  }
  if (packet.protocol != IPPROTO_TCP) return TC_ACT_UNSPEC;  // 3
  if (!packet.first) {                                       // 4
    if (!mesh_mark(skb, &packet, cfg)) return TC_ACT_UNSPEC;
    count(WEFT_PROGRAM_TO_POD, WEFT_REASON_FLOW);
    if (packet.accepting) remember_neighbour(skb, &packet, workload);
    return redirect(skb, cfg, ifindex, WEFT_FLOW);
  }
  bool closed = workload->flags & WEFT_FAIL_CLOSED;
  enum weft_reason bypass = WEFT_REASON_COUNT;  // 5
  if (!(workload->flags & WEFT_CAPTURE_INBOUND))
    bypass = WEFT_REASON_BYPASS_NOT_ENROLLED;
  else if (exempt(skb, cfg))
    bypass = WEFT_REASON_BYPASS_EXEMPT_CGROUP;
  else if (port_excluded(bpf_ntohs(packet.destination_port), ifindex, WEFT_INBOUND))
    bypass = WEFT_REASON_BYPASS_EXCLUDED_PORT;
  else if (network_excluded(&packet.source, ifindex, WEFT_INBOUND))
    bypass = WEFT_REASON_BYPASS_EXCLUDED_CIDR;
  else if (!closed && !owns(ifindex, &packet.destination))
    bypass = WEFT_REASON_BYPASS_FOREIGN_DESTINATION;
  if (bypass != WEFT_REASON_COUNT) {
    count_connection(WEFT_PROGRAM_TO_POD, bypass, ifindex);
    begin_direct(skb, &packet, cfg);
    return TC_ACT_UNSPEC;
  }
  if (closed && is_held(workload)) {  // 6
    count_connection(WEFT_PROGRAM_TO_POD, WEFT_REASON_HELD, ifindex);
    return TC_ACT_SHOT;
  }
  bool stale = false;  // 7
  __u32 ports = (__u32)packet.source_port << 16 | packet.destination_port;
  __u32 hash = hash_flow(packet.source.word[3], packet.destination.word[3], ports);
  struct bpf_sock *listener = pick_listener(cfg, packet.v6 ? WEFT_LISTENER_INBOUND6 : WEFT_LISTENER_INBOUND4, hash, &stale);
  if (listener) {
    bpf_sk_release(listener);
    count_connection(WEFT_PROGRAM_TO_POD, WEFT_REASON_CAPTURED_INBOUND, ifindex);
  } else if (closed) {
    count_connection(WEFT_PROGRAM_TO_POD, stale ? WEFT_REASON_REFUSED_STALE_WORKER : WEFT_REASON_REFUSED_NO_LISTENER, ifindex);
  } else {
    count_connection(WEFT_PROGRAM_TO_POD, stale ? WEFT_REASON_BYPASS_STALE_WORKER : WEFT_REASON_BYPASS_NO_LISTENER, ifindex);
    begin_direct(skb, &packet, cfg);
    return TC_ACT_UNSPEC;
  }
  begin_captured(&packet);
  remember_neighbour(skb, &packet, workload);
  return redirect(skb, cfg, ifindex, WEFT_INBOUND);  // 8
}

char _license[] __weak SEC("license") = "GPL";
