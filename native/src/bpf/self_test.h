// Does the redirection work on this kernel? Tried out with traffic, in namespaces of its own: the host's links, pins and workloads are not
// touched, and nothing is left.
#pragma once
#include <cstdint>
#include <string>

#include "bpf/outcome.h"

namespace weft::bpf {

// Loads the programs, attaches them by `mode` (a weft_attach_mode) to a scratch veth and captures one TCP connection each way.
// `bpf_dir`: a folder beside it, on the same bpffs, is used meanwhile. Takes some 100 ms; at most 3 s where packets get lost.
Outcome test_capture(uint32_t mode, const std::string& bpf_dir);

}  // namespace weft::bpf
