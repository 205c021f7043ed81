// Capture of processes in the host's own namespace: the links on one cgroup, and the one sk_lookup link on the host's namespace.
// Links are pinned; what is pinned is the only state.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "bpf/namespaces.h"
#include "bpf/outcome.h"

struct weft_capture;

namespace weft::bpf {

struct HostProcess {
  // Identity of the cgroup: a new one at the same path has another.
  uint64_t cgroup_id = 0;
  // What the workload is called in the maps.
  uint32_t key = 0;
  // From which the host reaches the world, an IPv4 and an IPv6 one where it has them.
  std::vector<std::string> addresses;
};

// ENOENT: no cgroup (v2) at `path`. `host`: path of the host's network namespace, empty for the calling thread's.
Outcome inspect_cgroup(const std::string& path, const std::string& host, HostProcess& result);
// As programs see it; 0: the kernel (before 5.14) does not tell.
uint64_t network_namespace_cookie(int there);

class HostLinks {
 public:
  HostLinks(const weft_capture& skeleton, std::string folder) : skeleton_(skeleton), folder_(std::move(folder)) {}

  // One link a hook, however often. Of all or none.
  Outcome attach(const std::string& cgroup, uint32_t key) const;
  // Gives the pinned links the programs of this version. Fails where one is missing or its cgroup is gone.
  Outcome adopt(uint32_t key) const;
  // Missing is well.
  Outcome detach(uint32_t key) const;
  // sk_lookup, while there is a port to look for.
  Outcome attach_lookup(int host_fd) const;
  Outcome detach_lookup() const;

 private:
  std::string pin(const char* hook, uint32_t key) const { return folder_ + "/" + hook + "-" + std::to_string(key); }

  const weft_capture& skeleton_;
  std::string folder_;
};

}  // namespace weft::bpf
