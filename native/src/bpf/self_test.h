// Does the redirection work on this kernel? Tried out with traffic, in namespaces of its own: the host's links, pins and workloads are not
// touched, and nothing is left.
#pragma once
#include <cstdint>
#include <string>

#include "bpf/namespaces.h"
#include "bpf/outcome.h"

namespace weft::bpf {

// Loads the programs, attaches them by `mode` (a weft_attach_mode) to a scratch veth and captures one TCP connection each way.
// `bpf_dir`: a folder beside it, on the same bpffs, is used meanwhile. Takes some 100 ms; at most 3 s where packets get lost.
Outcome test_capture(uint32_t mode, const std::string& bpf_dir);

// A pod and the host that it is on, which go with their descriptors: where rules of address translation are tried out.
struct ScratchPod {
  Descriptor host;
  Descriptor pod;
};
Outcome make_scratch_pod(ScratchPod& scratch);
// One TCP connection each way must come to these ports in the pod, redirected by rules that are there already, and know where it was going.
Outcome test_translation(int host, int pod, uint16_t outbound_port, uint16_t inbound_port);

}  // namespace weft::bpf
