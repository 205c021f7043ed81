// Network namespaces as files: open, make, remove, and what there is in one. No thread of this process enters another: weft-netns opens
// what is wanted there (netns_client.h).
#pragma once
#include <sys/types.h>

#include <string>

#include "bpf/descriptor.h"
#include "bpf/outcome.h"
#include "netns/protocol.h"

namespace weft::bpf {

// Empty path: the calling thread's. ENOENT where the file is missing or is (still) no namespace.
Outcome open_namespace(const std::string& path, Descriptor& result);
// Opens it, making and mounting it first where it is missing.
Outcome ensure_namespace(const std::string& path, Descriptor& result);
// A new one without a name: it goes with its last descriptor, process and socket.
Outcome create_unnamed_namespace(Descriptor& result);
// Unmounts and unlinks the name; the namespace itself goes with its last process. Missing is well.
Outcome remove_namespace(const std::string& path);

// A socket of rtnetlink, there.
Outcome open_route_socket(int there, Descriptor& result);
// A TCP socket, there, not blocking.
Outcome open_stream_socket(int there, int family, Descriptor& result);
// What the namespace at `path` has: "netns", the namespace itself; "netfilter", a netlink socket of nfnetlink; "xt_recent/weft4" and
// "xt_recent/weftheld4", and of 6, files below /proc/net, opened for reading and writing.
Outcome open_in_namespace(const std::string& path, const std::string& what, Descriptor& result);
// At /sys/fs/bpf, where none is.
Outcome mount_bpffs();
// Of the mesh namespace.
Outcome write_mesh_sysctls(int there);
// A tcx link; EINVAL: this kernel has none (before 6.6).
Outcome create_tcx_link(int there, int program, uint32_t ifindex, bool is_ingress, Descriptor& result);

struct CommandResult {
  // As a shell has it.
  int status = 0;
  std::string output;
  std::string errors;
};
// `command`: the words of one of netns::kCommands, with spaces between; else EINVAL. Waits until it has ended.
Outcome run_command(const std::string& path, const std::string& command, const std::string& input, CommandResult& result);

}  // namespace weft::bpf
