// Outbound capture: ingress of the host side of a workload's veth. Kernel 5.10 (redirect_peer, skc_lookup_tcp).
// Passing means TC_ACT_UNSPEC: programs of others on the same hook run as if this one were not there.
#include "lib/counters.h"
#include "lib/exclusions.h"
#include "lib/flow.h"
#include "lib/hold.h"
#include "lib/listeners.h"
#include "lib/packet.h"
#include "lib/steer.h"

INLINE int redirect(struct __sk_buff *skb, const struct weft_config *cfg, __u32 ifindex, enum weft_direction why) {
  address_to_mesh(skb, cfg, ifindex, why);
  return bpf_redirect_peer(cfg->mesh0_ifindex, 0);
}

// A query of a workload that has DNS captured goes to the proxy as long as one is there; fail-closed or not, names are no secret of the
// mesh.
INLINE int take_query(struct __sk_buff *skb, const struct weft_config *cfg, __u32 ifindex, const struct packet *packet) {
  enum { DNS_PORT = 53 };
  if (packet->destination_port != bpf_htons(DNS_PORT)) return TC_ACT_UNSPEC;
  struct weft_workload *owner = bpf_map_lookup_elem(&addresses, &packet->source);
  if (!owner || owner->ifindex != ifindex) return TC_ACT_UNSPEC;
  if (port_excluded(DNS_PORT, ifindex, WEFT_OUTBOUND) || network_excluded(&packet->destination, ifindex, WEFT_OUTBOUND))
    return TC_ACT_UNSPEC;
  struct bpf_sock *listener = pick_dns_listener(cfg, packet->v6, packet->source_port);
  if (!listener) return TC_ACT_UNSPEC;
  bpf_sk_release(listener);
  return redirect(skb, cfg, ifindex, WEFT_DNS);
}

// Precedence; the numbers stand again at the returns.
//  1 injected by the proxy, not a workload's, not TCP      → pass (a DNS query: take_query; unreadable, and outbound captured: drop)
//  2 from an address that is not this workload's           → pass (fail-closed: drop)
//  3 not a first packet                                    → the proxy's if its DELIVER socket has the flow, else pass
//  4 outbound not captured, excluded port, excluded network → pass
//  5 fail-closed, and its configuration on the way          → drop: the sender tries again
//  6 no proxy                                              → pass (fail-closed: redirect, the stack there answers RST)
//  7 redirect to an outbound listener
SEC("tc")
int from_pod(struct __sk_buff *skb) {
  struct weft_config *cfg = get_config();
  __u32 ifindex = skb->ifindex;
  if (!cfg || skb->mark & cfg->host_mark) return TC_ACT_UNSPEC;  // 1
  struct weft_workload *workload = bpf_map_lookup_elem(&workloads, &ifindex);
  struct packet packet = {};
  if (!workload) return TC_ACT_UNSPEC;  // 1
  if (!parse_packet(skb, &packet)) {    // 1
    if (!packet.unreadable || !(workload->flags & WEFT_CAPTURE_OUTBOUND)) return TC_ACT_UNSPEC;
    count_connection(WEFT_PROGRAM_FROM_POD, WEFT_REASON_DROPPED_UNREADABLE, ifindex);
    return TC_ACT_SHOT;
  }
  if (packet.protocol != IPPROTO_TCP) {  // 1
    return workload->flags & WEFT_CAPTURE_DNS ? take_query(skb, cfg, ifindex, &packet) : TC_ACT_UNSPEC;
  }
  bool closed = workload->flags & WEFT_FAIL_CLOSED;

  struct weft_workload *owner = bpf_map_lookup_elem(&addresses, &packet.source);
  if (!owner || owner->ifindex != ifindex) {  // 2
    count_connection(WEFT_PROGRAM_FROM_POD, closed ? WEFT_REASON_DROPPED_FOREIGN_SOURCE : WEFT_REASON_BYPASS_FOREIGN_SOURCE, ifindex);
    return closed ? TC_ACT_SHOT : TC_ACT_UNSPEC;
  }
  if (!packet.first) {  // 3
    // Flows of INJECT sockets took the host's path in the other direction: its conntrack must see both.
    if (mesh_mark(skb, &packet, cfg) != WEFT_DELIVER) return TC_ACT_UNSPEC;
    count(WEFT_PROGRAM_FROM_POD, WEFT_REASON_FLOW);
    return redirect(skb, cfg, ifindex, WEFT_FLOW);
  }
  enum weft_reason bypass = WEFT_REASON_COUNT;  // 4
  if (!(workload->flags & WEFT_CAPTURE_OUTBOUND))
    bypass = WEFT_REASON_BYPASS_NOT_ENROLLED;
  else if (port_excluded(bpf_ntohs(packet.destination_port), ifindex, WEFT_OUTBOUND))
    bypass = WEFT_REASON_BYPASS_EXCLUDED_PORT;
  else if (network_excluded(&packet.destination, ifindex, WEFT_OUTBOUND))
    bypass = WEFT_REASON_BYPASS_EXCLUDED_CIDR;
  if (bypass != WEFT_REASON_COUNT) {
    count_connection(WEFT_PROGRAM_FROM_POD, bypass, ifindex);
    begin_direct(skb, &packet, cfg);
    return TC_ACT_UNSPEC;
  }
  if (closed && is_held(workload)) {  // 5
    count_connection(WEFT_PROGRAM_FROM_POD, WEFT_REASON_HELD, ifindex);
    return TC_ACT_SHOT;
  }
  bool stale = false;  // 6
  __u32 ports = (__u32)packet.source_port << 16 | packet.destination_port;
  __u32 hash = hash_flow(packet.source.word[3], packet.destination.word[3], ports);
  struct bpf_sock *listener = pick_listener(cfg, packet.v6 ? WEFT_LISTENER_OUTBOUND6 : WEFT_LISTENER_OUTBOUND4, hash, &stale);
  if (listener) {
    bpf_sk_release(listener);
    count_connection(WEFT_PROGRAM_FROM_POD, WEFT_REASON_CAPTURED_OUTBOUND, ifindex);
  } else if (closed) {
    count_connection(WEFT_PROGRAM_FROM_POD, stale ? WEFT_REASON_REFUSED_STALE_WORKER : WEFT_REASON_REFUSED_NO_LISTENER, ifindex);
  } else {
    count_connection(WEFT_PROGRAM_FROM_POD, stale ? WEFT_REASON_BYPASS_STALE_WORKER : WEFT_REASON_BYPASS_NO_LISTENER, ifindex);
    begin_direct(skb, &packet, cfg);
    return TC_ACT_UNSPEC;
  }
  begin_captured(&packet);
  return redirect(skb, cfg, ifindex, WEFT_OUTBOUND);  // 7
}

char _license[] __weak SEC("license") = "GPL";
