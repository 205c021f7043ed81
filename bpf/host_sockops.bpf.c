// Files the original destination of a host process' connection under the client's address and port, which only the socket that is about to
// send its SYN knows and by which the proxy asks; forgets it when the socket closes, however its process ended.
#include "lib/host.h"

// Fields are read one by one through a volatile pointer: clang 14 would merge them behind a computed context pointer, which the verifier
// refuses.
INLINE void local_end(const volatile struct bpf_sock_ops *socket, struct weft_host_end *end) {
  __u32 family = socket->family, v4 = socket->local_ip4;
  __u32 a = socket->local_ip6[0], b = socket->local_ip6[1], c = socket->local_ip6[2], d = socket->local_ip6[3];
  if (family == FAMILY_INET) {
    end->address.word[2] = bpf_htonl(0xffff);
    end->address.word[3] = v4;
  } else {
    end->address.word[0] = a;
    end->address.word[1] = b;
    end->address.word[2] = c;
    end->address.word[3] = d;
  }
  end->port = socket->local_port;
}

SEC("sockops")
int host_sockops(struct bpf_sock_ops *socket) {
  __u32 operation = socket->op;
  if (operation != BPF_SOCK_OPS_TCP_CONNECT_CB && operation != BPF_SOCK_OPS_STATE_CB) return 1;
  if (operation == BPF_SOCK_OPS_STATE_CB && socket->args[1] != BPF_TCP_CLOSE) return 1;
  __u64 cookie = bpf_get_socket_cookie(socket);
  struct weft_host_flow *kept = bpf_map_lookup_elem(&host_cookies, &cookie);
  if (!kept) return 1;
  struct weft_host_end end = {};
  local_end(socket, &end);
  if (operation == BPF_SOCK_OPS_STATE_CB) {
    bpf_map_delete_elem(&host_flows, &end);
    bpf_map_delete_elem(&host_cookies, &cookie);
    return 1;
  }
  struct weft_host_flow flow = *kept;
  if (!is_loopback(&end.address)) {
    flow.source = end.address;
    flow.bound = 1;
  }
  bpf_map_update_elem(&host_flows, &end, &flow, BPF_ANY);
  bpf_sock_ops_cb_flags_set(socket, socket->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
  return 1;
}

char _license[] __weak SEC("license") = "GPL";
