// Processes in the host's own namespace: whose is this one, and where is its proxy?
#pragma once
#include <stdbool.h>

#include "maps.h"

// In linux/bpf.h's words; <sys/socket.h> is not for BPF.
enum { FAMILY_INET = 2, FAMILY_INET6 = 10, PROTOCOL_TCP = 6 };

// Levels of the cgroup tree that are looked at, from the root's children on.
enum { MAX_CGROUP_DEPTH = 16 };

INLINE bool is_mapped(const struct weft_address *address) {
  return !(address->word[0] | address->word[1]) && address->word[2] == bpf_htonl(0xffff);
}

// 127.0.0.0/8, ::1, and the unspecified address, which means the same to connect().
INLINE bool is_loopback(const struct weft_address *address) {
  if (is_mapped(address)) return (bpf_ntohl(address->word[3]) >> 24) == 127 || !address->word[3];
  return !(address->word[0] | address->word[1] | address->word[2]) && !(address->word[3] & ~bpf_htonl(1));
}

// The workload of the innermost cgroup around the calling process; NULL: none.
INLINE struct weft_host_process *current_host_process(void) {
  struct weft_host_process *found = NULL;
#pragma clang loop unroll(disable)
  for (int level = 1; level <= MAX_CGROUP_DEPTH; level++) {
    __u64 id = bpf_get_current_ancestor_cgroup_id(level);
    if (!id) break;
    struct weft_host_process *process = bpf_map_lookup_elem(&cgroups, &id);
    if (process) found = process;
  }
  return found;
}
