// Outbound capture of host processes: connect() in a workload's cgroup is sent to a worker's listener on the loopback. Kernel 5.14
// (netns cookie). The original destination is kept by socket cookie; host_sockops files it under the client's end for the proxy.
#include "lib/counters.h"
#include "lib/exclusions.h"
#include "lib/host.h"
#include "lib/listeners.h"

enum { REFUSE = 0, PASS = 1 };

INLINE int bypass(enum weft_reason reason, __u32 workload) {
  count_connection(WEFT_PROGRAM_HOST_CONNECT, reason, workload);
  return PASS;
}

// Precedence; the numbers stand again at the returns.
//  1 not TCP, another network namespace, the proxy's own socket, to the loopback, not a workload's → pass
//  2 socket bound to an interface, outbound not captured, excluded port, excluded network          → pass
//  3 no proxy                                                                                      → pass (fail-closed: EPERM)
//  4 its destination can't be noted                                                               → pass (fail-closed: EPERM)
//  5 redirect to an outbound listener
// `to`: where the connection goes instead, on return value PASS with a port.
INLINE int decide(struct bpf_sock_addr *ctx, const struct weft_address *destination, struct weft_host_end *to) {
  struct weft_config *cfg = get_config();
  struct bpf_sock *socket = ctx->sk;
  if (!cfg || !socket || ctx->protocol != PROTOCOL_TCP || is_loopback(destination)) return PASS;    // 1
  if (!cfg->host_netns_cookie || bpf_get_netns_cookie(ctx) != cfg->host_netns_cookie) return PASS;  // 1
  if (socket->mark & cfg->host_mark) return PASS;                                                   // 1
  struct weft_host_process *process = current_host_process();
  if (!process) return PASS;  // 1
  __u32 key = process->workload;
  struct weft_workload *workload = bpf_map_lookup_elem(&workloads, &key);
  if (!workload) return PASS;  // 1

  __u16 port = (__u16)ctx->user_port;
  if (socket->bound_dev_if) return bypass(WEFT_REASON_BYPASS_BOUND_DEVICE, key);                                 // 2
  if (!(workload->flags & WEFT_CAPTURE_OUTBOUND)) return bypass(WEFT_REASON_BYPASS_NOT_ENROLLED, key);           // 2
  if (port_excluded(bpf_ntohs(port), key, WEFT_OUTBOUND)) return bypass(WEFT_REASON_BYPASS_EXCLUDED_PORT, key);  // 2
  if (network_excluded(destination, key, WEFT_OUTBOUND)) return bypass(WEFT_REASON_BYPASS_EXCLUDED_CIDR, key);   // 2

  bool v4 = is_mapped(destination), stale = false;
  __u64 cookie = bpf_get_socket_cookie(ctx);
  __u32 hash = hash_flow((__u32)cookie, destination->word[3], port);
  struct bpf_sock *listener = pick_listener(cfg, v4 ? WEFT_LISTENER_HOST_OUTBOUND4 : WEFT_LISTENER_HOST_OUTBOUND6, hash, &stale);
  if (!listener) {  // 3
    if (!(workload->flags & WEFT_FAIL_CLOSED)) {
      return bypass(stale ? WEFT_REASON_BYPASS_STALE_WORKER : WEFT_REASON_BYPASS_NO_LISTENER, key);
    }
    count_connection(WEFT_PROGRAM_HOST_CONNECT, stale ? WEFT_REASON_REFUSED_STALE_WORKER : WEFT_REASON_REFUSED_NO_LISTENER, key);
    return REFUSE;
  }
  __u32 listening = listener->src_port;
  bpf_sk_release(listener);
  struct weft_host_flow flow = {
      .destination = *destination, .source = v4 ? process->address4 : process->address6, .port = port, .workload = key};
  if (bpf_map_update_elem(&host_cookies, &cookie, &flow, BPF_ANY)) {  // 4
    if (!(workload->flags & WEFT_FAIL_CLOSED)) return bypass(WEFT_REASON_BYPASS_NO_ROOM, key);
    count_connection(WEFT_PROGRAM_HOST_CONNECT, WEFT_REASON_REFUSED_NO_ROOM, key);
    return REFUSE;
  }
  count_connection(WEFT_PROGRAM_HOST_CONNECT, WEFT_REASON_CAPTURED_OUTBOUND, key);
  to->port = listening;  // 5
  if (v4) {
    to->address.word[2] = bpf_htonl(0xffff);
    to->address.word[3] = bpf_htonl(0x7f000001);
  } else {
    to->address.word[3] = bpf_htonl(1);
  }
  return PASS;
}

SEC("cgroup/connect4")
int host_connect4(struct bpf_sock_addr *ctx) {
  struct weft_address destination = {{0, 0, bpf_htonl(0xffff), ctx->user_ip4}};
  struct weft_host_end to = {};
  int result = decide(ctx, &destination, &to);
  if (!to.port) return result;
  ctx->user_ip4 = to.address.word[3];
  ctx->user_port = bpf_htons((__u16)to.port);
  return result;
}

SEC("cgroup/connect6")
int host_connect6(struct bpf_sock_addr *ctx) {
  struct weft_address destination = {{ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]}};
  struct weft_host_end to = {};
  int result = decide(ctx, &destination, &to);
  if (!to.port) return result;
  ctx->user_ip6[0] = to.address.word[0];
  ctx->user_ip6[1] = to.address.word[1];
  ctx->user_ip6[2] = to.address.word[2];
  ctx->user_ip6[3] = to.address.word[3];
  ctx->user_port = bpf_htons((__u16)to.port);
  return result;
}

char _license[] __weak SEC("license") = "GPL";
