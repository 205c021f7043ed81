// Network namespaces as files: open, create, enter, remove. The calling thread never changes its own namespace: work inside another
// runs on a thread that lives for that long.
#pragma once
#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>

#include "bpf/outcome.h"

namespace weft::bpf {

// An open descriptor, closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }
  // The caller's to close from now on.
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

// Empty path: the calling thread's. ENOENT where the file is missing or is (still) no namespace.
Outcome open_namespace(const std::string& path, Descriptor& result);
// Opens it, making it first where it is missing.
Outcome ensure_namespace(const std::string& path, Descriptor& result);
// A new one without a name: it goes with its last descriptor, process and socket.
Outcome create_unnamed_namespace(Descriptor& result);
// Unmounts and unlinks the name; the namespace itself goes with its last process. Missing is well.
Outcome remove_namespace(const std::string& path);
// Runs `work` on a thread of that namespace and returns what it returns.
Outcome run_in_namespace(int fd, const std::function<Outcome()>& work);
// What the namespace at `path` has: "netns", the namespace itself; "netfilter", a netlink socket of nfnetlink; else a file below
// /proc/net, opened for reading and writing.
Outcome open_in_namespace(const std::string& path, const std::string& what, Descriptor& result);
// "net/ipv4/ip_forward", in the calling thread's namespace.
Outcome write_sysctl(const std::string& name, const std::string& value);

}  // namespace weft::bpf
