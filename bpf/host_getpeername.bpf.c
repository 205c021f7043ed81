// getpeername() of a captured host process answers with the destination that it asked for, not with the proxy's listener. Kernel 5.8.
#include "lib/host.h"

INLINE struct weft_host_flow *flow_of(struct bpf_sock_addr *ctx) {
  __u64 cookie = bpf_get_socket_cookie(ctx);
  return bpf_map_lookup_elem(&host_cookies, &cookie);
}

SEC("cgroup/getpeername4")
int host_getpeername4(struct bpf_sock_addr *ctx) {
  struct weft_host_flow *flow = flow_of(ctx);
  if (!flow || !is_mapped(&flow->destination)) return 1;
  ctx->user_ip4 = flow->destination.word[3];
  ctx->user_port = flow->port;
  return 1;
}

SEC("cgroup/getpeername6")
int host_getpeername6(struct bpf_sock_addr *ctx) {
  struct weft_host_flow *flow = flow_of(ctx);
  if (!flow) return 1;
  ctx->user_ip6[0] = flow->destination.word[0];
  ctx->user_ip6[1] = flow->destination.word[1];
  ctx->user_ip6[2] = flow->destination.word[2];
  ctx->user_ip6[3] = flow->destination.word[3];
  ctx->user_port = flow->port;
  return 1;
}

char _license[] __weak SEC("license") = "GPL";
