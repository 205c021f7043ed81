// Every map of the redirection. All are pinned by the loader, so that a restarted agent adopts them.
// __weak: each program file defines them and the linker (bpftool gen object) keeps one of each.
#pragma once
// In this order: the helpers' headers need the types of the first.
// clang-format off
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
// clang-format on

#include "../weft_capture.h"

#define INLINE static __always_inline

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weft_config);
} config __weak SEC(".maps");

// Listening sockets leave a SOCKMAP by themselves when their process dies: that is what makes a crash fail open at once.
struct {
  __uint(type, BPF_MAP_TYPE_SOCKMAP);
  __uint(max_entries, WEFT_MAX_WORKERS *WEFT_LISTENERS_PER_WORKER);
  __type(key, __u32);
  __type(value, __u64);
} listeners __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SOCKMAP);
  __uint(max_entries, WEFT_MAX_WORKERS *WEFT_DNS_PER_WORKER);
  __type(key, __u32);
  __type(value, __u64);
} dns_listeners __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, WEFT_MAX_WORKERS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct weft_worker);
} workers __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, WEFT_MAX_WORKLOADS);
  __type(key, __u32);
  __type(value, struct weft_workload);
} workloads __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, WEFT_MAX_ADDRESSES);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weft_address);
  __type(value, struct weft_workload);
} addresses __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, WEFT_MAX_NEIGHBOURS);
  __type(key, struct weft_neighbour_key);
  __type(value, struct weft_neighbour);
} neighbours __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, WEFT_MAX_DIRECT_FLOWS);
  __type(key, struct weft_flow_key);
  __type(value, __u8);
} direct_flows __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, WEFT_MAX_EXCLUSIONS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weft_port_key);
  __type(value, __u8);
} excluded_ports __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, WEFT_MAX_EXCLUSIONS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct weft_cidr_key);
  __type(value, __u32);
} excluded_cidrs __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, WEFT_COUNTERS);
  __type(key, __u32);
  __type(value, __u64);
} counters __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(max_entries, WEFT_MAX_WORKLOADS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32);
  __type(value, struct weft_workload_counters);
} workload_counters __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, WEFT_MAX_WORKLOADS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, struct weft_host_process);
} cgroups __weak SEC(".maps");

// Destination port in the host's namespace → key of the host process that serves it.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, WEFT_MAX_HOST_PORTS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32);
  __type(value, __u32);
} host_ports __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, WEFT_MAX_HOST_FLOWS);
  __type(key, struct weft_host_end);
  __type(value, struct weft_host_flow);
} host_flows __weak SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, WEFT_MAX_HOST_FLOWS);
  __type(key, __u64);
  __type(value, struct weft_host_flow);
} host_cookies __weak SEC(".maps");

// From mesh1_in to the mesh_lookup that the stack runs for the same packet, in the same softirq on the same CPU.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} direction __weak SEC(".maps");

INLINE struct weft_config *get_config(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&config, &zero);
}
