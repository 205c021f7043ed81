// Attaches programs to hooks so that there is one of ours per hook, however often it is done: tcx links are pinned and updated in place,
// clsact filters have a fixed handle and priority.
// Nothing here is in the calling thread's network namespace: a hook says in which it is.
#pragma once
#include <linux/bpf.h>

#include <cstdint>
#include <string>

#include "bpf/outcome.h"

namespace weft::bpf {

enum class TcDirection { Ingress, Egress };

struct TcHook {
  // Descriptor of the interface's network namespace.
  int there;
  uint32_t ifindex;
  TcDirection direction;
};

// `pin`: where the link is kept. EINVAL: this kernel has no tcx (before 6.6).
Outcome attach_tcx(int program, TcHook hook, const std::string& pin);
// `created_qdisc` is set when the interface had no clsact.
Outcome attach_clsact(int program, TcHook hook, bool& created_qdisc);
// Missing is well, a missing interface too.
Outcome detach_clsact(TcHook hook);
// Removes the clsact qdisc unless somebody else's filter is on it by now.
Outcome remove_qdisc(int there, uint32_t ifindex);
Outcome attach_lookup(int program, int namespace_fd, const std::string& pin);
// A new link, kept at `pin`, where there must be none. `target`: descriptor of what the hook is on.
Outcome attach_link(int program, int target, bpf_attach_type type, const std::string& pin);
// Detaches the link and removes its pin. Missing is well.
Outcome unpin(const std::string& pin);

}  // namespace weft::bpf
