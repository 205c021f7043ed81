// Which BPF programs, ours and others', are on the hooks that redirection uses: of every interface of the host, and of the root cgroup.
// Reads; changes nothing.
#pragma once
#include <string>
#include <vector>

#include "bpf/outcome.h"

namespace weft::bpf {

struct HookProgram {
  // "tcx-ingress", "clsact-egress", "cgroup-connect4", …
  std::string hook;
  // The interface's name, or the cgroup's path.
  std::string place;
  // As its author named it, 15 bytes at most; empty: unnamed.
  std::string program;
};

// `host`: path of the host's network namespace, empty for the calling thread's; another takes CAP_SYS_ADMIN (tests alone). `cgroup`: path
// of a cgroup v2, empty: none is looked at. A hook that this kernel does not know has no programs. EPERM: the caller may not ask.
Outcome list_hook_programs(const std::string& host, const std::string& cgroup, std::vector<HookProgram>& result);

}  // namespace weft::bpf
