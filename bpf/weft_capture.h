// The contract between the redirection programs (BPF C) and the loader (C++): every map key and value, enum, socket mark and counted
// reason. Both sides include this file; TypeScript gets the names through the binding and never sees a layout.
// Padding is explicit and every size asserted: the maps outlive the processes that made them. A value's struct grows at its end only, and
// zero there means what was before: an upgrade carries the entries over (native/src/bpf/former_maps.h).
#ifndef WEFT_CAPTURE_H
#define WEFT_CAPTURE_H

#include <linux/types.h>

#ifndef __cplusplus
#define static_assert _Static_assert
#endif

enum {
  WEFT_MAX_WORKERS = 64,
  WEFT_MAX_WORKLOADS = 4096,
  WEFT_MAX_ADDRESSES = 16384,
  WEFT_MAX_EXCLUSIONS = 16384,
  // Connections of host processes at a time; beyond, the oldest lose their original destination.
  WEFT_MAX_HOST_FLOWS = 65536,
  WEFT_MAX_HOST_PORTS = 4096,
  // Connections at a time with neighbours on the same bridge.
  WEFT_MAX_NEIGHBOURS = 16384,
  // Direct connections at a time that have the ends of one that the proxy had before.
  WEFT_MAX_DIRECT_FLOWS = 16384,
};

// Key of the SOCKMAP `listeners`: worker * WEFT_LISTENERS_PER_WORKER + one of these.
enum weft_listener {
  WEFT_LISTENER_OUTBOUND4 = 0,
  WEFT_LISTENER_OUTBOUND6 = 1,
  WEFT_LISTENER_INBOUND4 = 2,
  WEFT_LISTENER_INBOUND6 = 3,
  // In the host's namespace, for host processes. Outbound connections are sent to the listener's own address.
  WEFT_LISTENER_HOST_OUTBOUND4 = 4,
  WEFT_LISTENER_HOST_OUTBOUND6 = 5,
  WEFT_LISTENER_HOST_INBOUND4 = 6,
  WEFT_LISTENER_HOST_INBOUND6 = 7,
  WEFT_LISTENERS_PER_WORKER = 8,
};

// Key of the SOCKMAP `dns_listeners`: worker * WEFT_DNS_PER_WORKER + one of these.
enum weft_dns_listener {
  WEFT_LISTENER_DNS4 = 0,
  WEFT_LISTENER_DNS6 = 1,
  WEFT_DNS_PER_WORKER = 2,
};

// SO_MARK of sockets in the mesh namespace. mesh1_out copies it into the source MAC, because skb->mark does not cross a namespace.
enum weft_socket_mark {
  // Hand to the local workload that owns the destination address.
  WEFT_DELIVER = 1,
  // Re-enter the host as if sent by the local workload that owns the source address.
  WEFT_INJECT = 2,
};

// Second byte of the source MAC of packets towards mesh1: why they were redirected.
enum weft_direction {
  WEFT_OUTBOUND = 1,
  WEFT_INBOUND = 2,
  // A packet of a flow that a socket of the mesh namespace owns already.
  WEFT_FLOW = 3,
  // A DNS query. Its answer comes from the proxy, or to the workload itself from the resolver: neither has a flow here.
  WEFT_DNS = 4,
};

enum weft_attach_mode { WEFT_MODE_TCX = 1, WEFT_MODE_CLSACT = 2 };

enum weft_workload_flag {
  WEFT_CAPTURE_OUTBOUND = 1,
  WEFT_CAPTURE_INBOUND = 2,
  // Without a proxy connections are refused (RST), not direct.
  WEFT_FAIL_CLOSED = 4,
  // The clsact qdisc on this interface is ours: removed with the last filter.
  WEFT_OWNS_QDISC = 8,
  // Its queries to port 53 over UDP go to the proxy.
  WEFT_CAPTURE_DNS = 16,
};

// A workload's key is the ifindex of the host side of its veth; a host process' is this bit and the low bits of its cgroup's id.
#define WEFT_HOST_KEY 0x80000000u

// IPv6, or IPv4 as ::ffff:a.b.c.d; network byte order.
struct weft_address {
  __u32 word[4];
};
static_assert(sizeof(struct weft_address) == 16, "weft_address");

// `config`[0].
struct weft_config {
  // A worker whose last beat is older is not given connections; 0: beats are not looked at.
  __u64 heartbeat_timeout_ns;
  // cgroup v2 ids whose connections into workloads are left alone (kubelet's probes, the agent itself); 0: none.
  __u64 exempt_cgroup[2];
  __u32 mesh0_ifindex;
  // The mesh namespace as the host's namespace calls it.
  __s32 mesh_nsid;
  // skb mark bit, in the host's namespace only, of packets that the proxy injected.
  __u32 host_mark;
  // enum weft_attach_mode
  __u32 mode;
  __u8 mesh1_mac[6];
  __u8 pad[2];
  // SO_NETNS_COOKIE of the host's namespace; 0: unknown, host processes are not captured.
  __u64 host_netns_cookie;
};
static_assert(sizeof(struct weft_config) == 56, "weft_config");

// `workers`[worker]: memory-mapped and written by that worker's engine.
struct weft_worker {
  // CLOCK_MONOTONIC.
  __u64 beat_ns;
  // How many workers the proxy runs; read from worker 0.
  __u32 workers;
  __u32 pad;
};
static_assert(sizeof(struct weft_worker) == 16, "weft_worker");

// `workloads`[key] and, for those in a namespace of their own, `addresses`[its address].
struct weft_workload {
  // enum weft_workload_flag
  __u32 flags;
  // Its key.
  __u32 ifindex;
  // Destination MAC of injected packets: the veth's own, or its bridge's.
  __u8 gateway_mac[6];
  __u8 pad[2];
  // Until when first packets of a fail-closed workload are dropped, to be sent again by their sender: the proxy has not said yet that it
  // has the workload's configuration. CLOCK_MONOTONIC; 0: it has.
  __u64 held_until_ns;
};
static_assert(sizeof(struct weft_workload) == 24, "weft_workload");

// `neighbours`: a connection of a workload with another pod on its bridge.
struct weft_neighbour_key {
  __u32 ifindex;
  // The other end's.
  struct weft_address address;
  // Network byte order.
  __u16 port, own_port;
};
static_assert(sizeof(struct weft_neighbour_key) == 24, "weft_neighbour_key");

struct weft_neighbour {
  __u8 mac[6];
  __u8 pad[2];
};
static_assert(sizeof(struct weft_neighbour) == 8, "weft_neighbour");

// `direct_flows`: one direction of a connection.
struct weft_flow_key {
  struct weft_address source, destination;
  // Network byte order.
  __u16 source_port, destination_port;
};
static_assert(sizeof(struct weft_flow_key) == 36, "weft_flow_key");

// `excluded_ports`: destination ports that stay direct.
struct weft_port_key {
  __u32 ifindex;
  // Host byte order.
  __u16 port;
  // WEFT_OUTBOUND or WEFT_INBOUND
  __u8 direction;
  __u8 pad;
};
static_assert(sizeof(struct weft_port_key) == 8, "weft_port_key");

// `excluded_cidrs`, longest prefix first: value 1 stays direct, 0 is captured all the same.
struct weft_cidr_key {
  // Bits of ifindex, direction and address together: 64 + 96 + length for IPv4, 64 + length for IPv6.
  __u32 prefix_length;
  __u32 ifindex;
  // WEFT_OUTBOUND: of destinations; WEFT_INBOUND: of clients.
  __u32 direction;
  struct weft_address address;
};
static_assert(sizeof(struct weft_cidr_key) == 28, "weft_cidr_key");

// `cgroups`[cgroup id]: a host process.
struct weft_host_process {
  // Its key.
  __u32 workload;
  // What the proxy calls it by; zero: it has no address of that family.
  struct weft_address address4, address6;
};
static_assert(sizeof(struct weft_host_process) == 36, "weft_host_process");

// `host_flows`: the client's end of a connection that was sent to the proxy.
struct weft_host_end {
  struct weft_address address;
  // Host byte order.
  __u32 port;
};
static_assert(sizeof(struct weft_host_end) == 20, "weft_host_end");

// Value of `host_flows`[client's end] and `host_cookies`[socket cookie].
struct weft_host_flow {
  struct weft_address destination, source;
  // Of the destination; network byte order.
  __u16 port;
  // The client had bound `source` itself, so the server must see it.
  __u16 bound;
  // Key of the host process.
  __u32 workload;
};
static_assert(sizeof(struct weft_host_flow) == 40, "weft_host_flow");

// Programs, in the order of their counters. X(enum suffix, name)
#define WEFT_PROGRAMS(X)          \
  X(FROM_POD, "from_pod")         \
  X(TO_POD, "to_pod")             \
  X(MESH0_IN, "mesh0_in")         \
  X(MESH_LOOKUP, "mesh_lookup")   \
  X(HOST_CONNECT, "host_connect") \
  X(HOST_LOOKUP, "host_lookup")

// What became of a packet of a workload. Reasons about connections count first packets (SYN); what was never ours is not counted.
// X(enum suffix, name, meaning)
#define WEFT_REASONS(X)                                                                                                         \
  X(CAPTURED_OUTBOUND, "captured_outbound", "connection redirected to an outbound listener")                                    \
  X(CAPTURED_INBOUND, "captured_inbound", "connection redirected to an inbound listener")                                       \
  X(FLOW, "flow", "packet of a connection that the proxy holds")                                                                \
  X(ICMP_STEERED, "icmp_steered", "ICMP error about a connection that the proxy holds")                                         \
  X(DELIVERED, "delivered", "packet from the proxy handed to a local workload")                                                 \
  X(INJECTED, "injected", "packet from the proxy sent on behalf of a local workload")                                           \
  X(ASSIGNED, "assigned", "connection given to a worker's listener")                                                            \
  X(BYPASS_NOT_ENROLLED, "bypass_not_enrolled", "connection in a direction that is not captured")                               \
  X(BYPASS_EXCLUDED_CIDR, "bypass_excluded_cidr", "connection to, or inbound from, an excluded network")                        \
  X(BYPASS_EXCLUDED_PORT, "bypass_excluded_port", "connection to an excluded port")                                             \
  X(BYPASS_EXEMPT_CGROUP, "bypass_exempt_cgroup", "connection of an exempt process on the host")                                \
  X(BYPASS_BOUND_DEVICE, "bypass_bound_device", "host process bound its socket to an interface")                                \
  X(BYPASS_FOREIGN_SOURCE, "bypass_foreign_source", "packet from an address that is not the workload's")                        \
  X(BYPASS_FOREIGN_DESTINATION, "bypass_foreign_destination", "connection to an address of the pod that is not the workload's") \
  X(BYPASS_NO_LISTENER, "bypass_no_listener", "connection went direct: no proxy is listening")                                  \
  X(BYPASS_STALE_WORKER, "bypass_stale_worker", "connection went direct: no worker beats")                                      \
  X(BYPASS_NO_ROOM, "bypass_no_room", "connection of a host process went direct: the kernel would not note its destination")    \
  X(HELD, "held", "first packet dropped to be sent again: the proxy has no configuration of the workload yet")                  \
  X(REFUSED_NO_LISTENER, "refused_no_listener", "connection refused (fail-closed): no proxy is listening")                      \
  X(REFUSED_STALE_WORKER, "refused_stale_worker", "connection refused (fail-closed): no worker beats")                          \
  X(REFUSED_NO_ROOM, "refused_no_room", "connection refused (fail-closed): the kernel would not note its destination")          \
  X(DROPPED_FOREIGN_SOURCE, "dropped_foreign_source", "fail-closed workload used an address not its own")                       \
  X(DROPPED_UNREADABLE, "dropped_unreadable", "packet whose TCP header is cut in two, or behind too many extension headers")    \
  X(DROPPED_NO_WORKLOAD, "dropped_no_workload", "packet from the proxy for an address of no local workload")                    \
  X(DROPPED_UNPARSED, "dropped_unparsed", "packet from the mesh namespace that is neither TCP nor UDP")                         \
  X(ASSIGN_FAILED, "assign_failed", "the kernel refused the listener chosen")

enum weft_program {
#define X(suffix, name) WEFT_PROGRAM_##suffix,
  WEFT_PROGRAMS(X)
#undef X
      WEFT_PROGRAM_COUNT
};

enum weft_reason {
#define X(suffix, name, meaning) WEFT_REASON_##suffix,
  WEFT_REASONS(X)
#undef X
      WEFT_REASON_COUNT
};

// Entries of `counters`; key: enum weft_program * WEFT_REASON_COUNT + enum weft_reason.
enum { WEFT_COUNTERS = (int)WEFT_PROGRAM_COUNT * (int)WEFT_REASON_COUNT };

// `workload_counters`[ifindex], one per CPU: by enum weft_reason.
struct weft_workload_counters {
  __u64 reason[WEFT_REASON_COUNT];
};

#endif
