// Finds how a workload's network namespace is connected to the host: its veths, their host sides, their addresses.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "bpf/outcome.h"

namespace weft::bpf {

struct WorkloadLink {
  // Inside the namespace.
  std::string name;
  // Text, without prefix; scope global.
  std::vector<std::string> addresses;
  // In the host's namespace.
  uint32_t host_ifindex = 0;
  std::string host_name;
  // Destination MAC of packets that the workload sends to its gateway.
  uint8_t gateway_mac[6] = {};
};

struct WorkloadNamespace {
  // Identity of the namespace: a new one under the same path has another inode.
  uint64_t inode = 0;
  // Its veths whose other side is in the host's namespace.
  std::vector<WorkloadLink> links;
};

// ENOENT: no namespace at `path` (yet). `host`: path of the host's network namespace, empty for the calling thread's.
Outcome inspect_workload(const std::string& path, const std::string& host, WorkloadNamespace& result);

}  // namespace weft::bpf
