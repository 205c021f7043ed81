// The mesh namespace and its one link to the host: veth weft-mesh0 (host) ↔ weft-mesh1 (inside), addresses, routes, rules, sysctls.
// In the host's namespace there is nothing but weft-mesh0.
#pragma once
#include <cstdint>
#include <string>

#include "bpf/namespaces.h"
#include "bpf/outcome.h"

namespace weft::bpf {

struct MeshNetwork {
  Descriptor namespace_fd;
  uint32_t mesh0_ifindex = 0;
  uint32_t mesh1_ifindex = 0;
  uint8_t mesh1_mac[6] = {};
  // The mesh namespace as the host's calls it.
  int32_t nsid = -1;
};

// Idempotent: adopts what is there and makes what is missing. `host`: descriptor of the host's namespace.
Outcome ensure_mesh_network(const std::string& path, int host, MeshNetwork& result);
// Missing parts are well.
Outcome remove_mesh_network(const std::string& path, int host);

}  // namespace weft::bpf
