// See namespaces.h.
#include "bpf/namespaces.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iterator>

#include "bpf/netns_client.h"

namespace weft::bpf {
namespace {

using netns::Operation;

constexpr const char* OWN_NAMESPACE = "/proc/thread-self/ns/net";

netns::Request request_for(Operation operation) {
  netns::Request request;
  request.operation = operation;
  return request;
}

// What weft-netns says, about that.
Outcome told(Outcome outcome, const std::string& about) {
  if (outcome) outcome->text = about + ": " + outcome->text;
  return outcome;
}

Outcome ask(Operation operation, std::initializer_list<int> descriptors, Descriptor& result) {
  return NetnsClient::instance().ask(request_for(operation), descriptors, result);
}

// Of "/proc/<pid>/ns/net"; 0: another path.
uint32_t process_of(const std::string& path) {
  unsigned pid = 0;
  int end = 0;
  return sscanf(path.c_str(), "/proc/%u/ns/net%n", &pid, &end) == 1 && static_cast<size_t>(end) == path.size() ? pid : 0;
}

// The words with spaces between them.
std::string text_of(const char* const* words) {
  std::string text;
  for (; *words != nullptr; words++) text += (text.empty() ? "" : " ") + std::string(*words);
  return text;
}

Outcome make_file(const std::string& text, Descriptor& result) {
  result = Descriptor(memfd_create("weft", MFD_CLOEXEC));
  const bool is_made = result && write(result.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  return is_made && lseek(result.get(), 0, SEEK_SET) == 0 ? Outcome{} : failure(errno, "cannot make a file in memory");
}

std::string contents(const Descriptor& file) {
  std::string text;
  char bytes[65536];
  for (off_t at = 0;;) {
    const ssize_t size = pread(file.get(), bytes, sizeof bytes, at);
    if (size <= 0) return text;
    text.append(bytes, static_cast<size_t>(size));
    at += size;
  }
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

Outcome open_namespace(const std::string& path, Descriptor& result) {
  const char* name = path.empty() ? OWN_NAMESPACE : path.c_str();
  result = Descriptor(open(name, O_RDONLY | O_CLOEXEC));
  const uint32_t process = result || (errno != EACCES && errno != EPERM) ? 0 : process_of(path);
  if (process != 0) {
    netns::Request request = request_for(Operation::kOfProcess);
    request.number = process;
    WEFT_TRY(told(NetnsClient::instance().ask(request, {}, result), "cannot open the network namespace " + path));
  }
  if (!result) return failure(errno, std::string("cannot open the network namespace ") + name);
  struct statfs info;
  if (fstatfs(result.get(), &info) != 0 || info.f_type != NSFS_MAGIC) {
    result = Descriptor();
    return failure(ENOENT, std::string(name) + " is a file, but no namespace is mounted on it");
  }
  return {};
}

Outcome ensure_namespace(const std::string& path, Descriptor& result) {
  if (!open_namespace(path, result)) return {};
  Outcome outcome = NetnsClient::instance().ask(request_for(Operation::kMount), {}, result, path);
  return told(outcome, "cannot mount the mesh network namespace at " + path);
}

Outcome create_unnamed_namespace(Descriptor& result) {
  return told(ask(Operation::kCreate, {}, result), "cannot create a network namespace");
}

Outcome remove_namespace(const std::string& path) {
  return told(NetnsClient::instance().tell(request_for(Operation::kUnmount), {}, path), "cannot remove " + path);
}

Outcome open_route_socket(int there, Descriptor& result) {
  return told(ask(Operation::kRoute, {there}, result), "cannot open an rtnetlink socket in a network namespace");
}

Outcome open_stream_socket(int there, int family, Descriptor& result) {
  netns::Request request = request_for(Operation::kOpen);
  request.family = family == AF_INET6 ? netns::kFamilyV6 : netns::kFamilyV4;
  return told(NetnsClient::instance().ask(request, {there}, result), "cannot open a socket in another network namespace");
}

Outcome open_in_namespace(const std::string& path, const std::string& what, Descriptor& result) {
  Descriptor there;
  WEFT_TRY(open_namespace(path, there));
  if (what == "netns") {
    result = std::move(there);
    return {};
  }
  netns::Request request = request_for(what == "netfilter" ? Operation::kNetfilter : Operation::kRecent);
  if (what == "xt_recent/weft4" || what == "xt_recent/weftheld4") request.family = netns::kFamilyV4;
  if (what == "xt_recent/weft6" || what == "xt_recent/weftheld6") request.family = netns::kFamilyV6;
  request.number = what.rfind("xt_recent/weftheld", 0) == 0 ? 1 : 0;
  if (request.operation == Operation::kRecent && request.family == 0) return failure(EINVAL, what + " is not to be had");
  return told(NetnsClient::instance().ask(request, {there.get()}, result), "cannot open " + what + " in " + path);
}

Outcome mount_bpffs() {
  return told(NetnsClient::instance().tell(request_for(Operation::kBpffs), {}), "no bpffs at /sys/fs/bpf (mount -t bpf bpf /sys/fs/bpf)");
}

Outcome write_mesh_sysctls(int there) {
  return told(NetnsClient::instance().tell(request_for(Operation::kSysctls), {there}), "cannot write the mesh namespace's sysctls");
}

Outcome create_tcx_link(int there, int program, uint32_t ifindex, bool is_ingress, Descriptor& result) {
  netns::Request request = request_for(Operation::kAttach);
  request.family = is_ingress ? netns::kIngress : netns::kEgress;
  request.number = ifindex;
  return told(NetnsClient::instance().ask(request, {there, program}, result), "cannot attach a BPF program");
}

Outcome run_command(const std::string& path, const std::string& command, const std::string& input, CommandResult& result) {
  netns::Request request = request_for(Operation::kRun);
  while (request.number < std::size(netns::kCommands) && text_of(netns::kCommands[request.number]) != command) request.number++;
  if (request.number == std::size(netns::kCommands)) return failure(EINVAL, "no such command is run in another network namespace");
  Descriptor there, in, out, errors;
  WEFT_TRY(open_namespace(path, there));
  WEFT_TRY(make_file(input, in));
  WEFT_TRY(make_file("", out));
  WEFT_TRY(make_file("", errors));
  const std::initializer_list<int> descriptors = {there.get(), in.get(), out.get(), errors.get()};
  WEFT_TRY(told(NetnsClient::instance().tell(request, descriptors, "", &result.status), command + " in " + path));
  result.output = contents(out);
  result.errors = contents(errors);
  return {};
}

}  // namespace weft::bpf
