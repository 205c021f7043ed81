// Inbound capture of host processes: sk_lookup on the host's namespace, kernel 5.9. Attached only while a host process is captured inbound.
// The listener gets the connection in the process' stead: its local address is the process', its peer the client.
#include "lib/counters.h"
#include "lib/exclusions.h"
#include "lib/host.h"
#include "lib/listeners.h"

INLINE int bypass(enum weft_reason reason, __u32 workload) {
  count_connection(WEFT_PROGRAM_HOST_LOOKUP, reason, workload);
  return SK_PASS;
}

// Precedence; the numbers stand again at the returns.
//  1 not TCP, from the address that it goes to, from or to the loopback, no host process' port → pass
//  2 inbound not captured, excluded port, excluded client                                      → pass
//  3 no proxy                                                                                  → pass (fail-closed: RST)
//  4 to an inbound listener
SEC("sk_lookup")
int host_lookup(struct bpf_sk_lookup *ctx) {
  const volatile struct bpf_sk_lookup *flow = ctx;
  struct weft_config *cfg = get_config();
  if (!cfg || flow->protocol != PROTOCOL_TCP) return SK_PASS;  // 1
  struct weft_address client = {}, server = {};
  bool v6 = flow->family == FAMILY_INET6;
  __u32 client4 = flow->remote_ip4, server4 = flow->local_ip4;
  __u32 c0 = flow->remote_ip6[0], c1 = flow->remote_ip6[1], c2 = flow->remote_ip6[2], c3 = flow->remote_ip6[3];
  __u32 s0 = flow->local_ip6[0], s1 = flow->local_ip6[1], s2 = flow->local_ip6[2], s3 = flow->local_ip6[3];
  if (v6) {
    client = (struct weft_address){{c0, c1, c2, c3}};
    server = (struct weft_address){{s0, s1, s2, s3}};
  } else {
    client = (struct weft_address){{0, 0, bpf_htonl(0xffff), client4}};
    server = (struct weft_address){{0, 0, bpf_htonl(0xffff), server4}};
  }
  // Only a process of this host can come from the address that it goes to: the proxy, delivering (it binds that address), or a neighbour
  // that could as well use the loopback. Without this the proxy's own connection would come back to it. Not told by the interface:
  // ingress_ifindex is not lo's where the address is a NIC's.
  if (client.word[3] == server.word[3] && client.word[2] == server.word[2] && client.word[1] == server.word[1] &&
      client.word[0] == server.word[0]) {
    return SK_PASS;  // 1
  }
  if (is_loopback(&client) || is_loopback(&server)) return SK_PASS;  // 1
  __u32 port = flow->local_port;
  __u32 *owner = bpf_map_lookup_elem(&host_ports, &port);
  if (!owner) return SK_PASS;  // 1
  __u32 key = *owner;
  struct weft_workload *workload = bpf_map_lookup_elem(&workloads, &key);
  if (!workload) return SK_PASS;                                                                            // 1
  if (!(workload->flags & WEFT_CAPTURE_INBOUND)) return bypass(WEFT_REASON_BYPASS_NOT_ENROLLED, key);       // 2
  if (port_excluded((__u16)port, key, WEFT_INBOUND)) return bypass(WEFT_REASON_BYPASS_EXCLUDED_PORT, key);  // 2
  if (network_excluded(&client, key, WEFT_INBOUND)) return bypass(WEFT_REASON_BYPASS_EXCLUDED_CIDR, key);   // 2

  bool stale = false;
  __u32 hash = hash_flow(client.word[3], server.word[3], (__u32)flow->remote_port << 16 | port);
  struct bpf_sock *listener = pick_listener(cfg, v6 ? WEFT_LISTENER_HOST_INBOUND6 : WEFT_LISTENER_HOST_INBOUND4, hash, &stale);
  if (!listener) {  // 3
    if (!(workload->flags & WEFT_FAIL_CLOSED)) {
      return bypass(stale ? WEFT_REASON_BYPASS_STALE_WORKER : WEFT_REASON_BYPASS_NO_LISTENER, key);
    }
    count_connection(WEFT_PROGRAM_HOST_LOOKUP, stale ? WEFT_REASON_REFUSED_STALE_WORKER : WEFT_REASON_REFUSED_NO_LISTENER, key);
    return SK_DROP;
  }
  long failed = bpf_sk_assign(ctx, listener, BPF_SK_LOOKUP_F_NO_REUSEPORT);
  bpf_sk_release(listener);
  count_connection(WEFT_PROGRAM_HOST_LOOKUP, failed ? WEFT_REASON_ASSIGN_FAILED : WEFT_REASON_CAPTURED_INBOUND, key);  // 4
  return SK_PASS;
}

char _license[] __weak SEC("license") = "GPL";
