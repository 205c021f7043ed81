// Writes one workload into the maps and out of them: its entry, its addresses, its exclusions, its counters. What the maps hold is the
// only state: stale entries are found by looking, so a restarted agent needs no memory of its own.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "bpf/outcome.h"
#include "weft_capture.h"

struct weft_capture;

namespace weft::bpf {

struct WorkloadSpec {
  // Its key: of the host side of its veth, or HostProcess::key.
  uint32_t ifindex = 0;
  // Path and id of a host process' cgroup; empty: the workload has a namespace of its own.
  std::string cgroup;
  uint64_t cgroup_id = 0;
  // Where a host process is called: captured inbound.
  std::vector<uint32_t> ports;
  uint8_t gateway_mac[6] = {};
  bool outbound = false;
  bool inbound = false;
  bool fail_closed = false;
  bool dns = false;
  // For how long first packets of a fail-closed workload that was not captured before are dropped, to be sent again; 0: no longer.
  uint32_t hold_ms = 0;
  // IPv4 or IPv6 text.
  std::vector<std::string> addresses;
  std::vector<uint32_t> exclude_outbound_ports;
  std::vector<uint32_t> exclude_inbound_ports;
  // "10.0.0.0/8"
  std::vector<std::string> exclude_outbound_cidrs;
  std::vector<std::string> include_outbound_cidrs;
  std::vector<std::string> exclude_inbound_cidrs;
  std::vector<std::string> include_inbound_cidrs;

  bool is_host_process() const { return !cgroup.empty(); }
};

using ReasonCounts = std::array<uint64_t, WEFT_REASON_COUNT>;

class WorkloadMaps {
 public:
  explicit WorkloadMaps(const weft_capture& skeleton) : skeleton_(skeleton) {}

  // Idempotent; entries the spec no longer has are removed. EADDRINUSE: an address belongs to another captured workload.
  Outcome write(const WorkloadSpec& spec);
  Outcome remove(uint32_t ifindex);
  std::vector<weft_workload> list() const;
  bool find(uint32_t ifindex, weft_workload& result) const;
  // Remembers that the clsact qdisc is ours.
  Outcome own_qdisc(uint32_t ifindex);
  // Whether a host process is called on any port.
  bool has_host_ports() const;
  ReasonCounts counts(uint32_t ifindex) const;

 private:
  Outcome write_addresses(const WorkloadSpec& spec, const weft_workload& value);
  Outcome write_host_process(const WorkloadSpec& spec);
  Outcome write_host_ports(const WorkloadSpec& spec);
  Outcome write_ports(const WorkloadSpec& spec);
  Outcome write_cidrs(const WorkloadSpec& spec);

  const weft_capture& skeleton_;
};

}  // namespace weft::bpf
