// See namespaces.h.
#include "bpf/namespaces.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <thread>

namespace weft::bpf {
namespace {

constexpr const char* OWN_NAMESPACE = "/proc/thread-self/ns/net";

Outcome create_namespace(const std::string& path) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  Descriptor file(open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0444));
  if (!file) return failure(errno, "cannot create " + path + " for the mesh network namespace");
  Outcome outcome;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) != 0) {
      outcome = failure(errno, "cannot create a network namespace: the agent needs CAP_SYS_ADMIN");
    } else if (mount(OWN_NAMESPACE, path.c_str(), "none", MS_BIND, nullptr) != 0) {
      outcome = failure(errno, "cannot mount the mesh network namespace on " + path);
    }
  }).join();
  if (outcome) unlink(path.c_str());
  return outcome;
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

Outcome open_namespace(const std::string& path, Descriptor& result) {
  const char* name = path.empty() ? OWN_NAMESPACE : path.c_str();
  result = Descriptor(open(name, O_RDONLY | O_CLOEXEC));
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
  WEFT_TRY(create_namespace(path));
  return open_namespace(path, result);
}

Outcome create_unnamed_namespace(Descriptor& result) {
  Outcome outcome;
  std::thread([&] {
    outcome = unshare(CLONE_NEWNET) != 0 ? failure(errno, "cannot create a network namespace: the agent needs CAP_SYS_ADMIN")
                                         : open_namespace("", result);
  }).join();
  return outcome;
}

Outcome remove_namespace(const std::string& path) {
  if (umount2(path.c_str(), MNT_DETACH) != 0 && errno != EINVAL && errno != ENOENT) return failure(errno, "cannot unmount " + path);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return failure(errno, "cannot remove " + path);
  return {};
}

Outcome run_in_namespace(int fd, const std::function<Outcome()>& work) {
  Outcome outcome;
  std::thread([&] {
    if (setns(fd, CLONE_NEWNET) != 0) {
      outcome = failure(errno, "cannot enter the network namespace: the agent needs CAP_SYS_ADMIN");
    } else {
      outcome = work();
    }
  }).join();
  return outcome;
}

Outcome open_in_namespace(const std::string& path, const std::string& what, Descriptor& result) {
  Descriptor there;
  WEFT_TRY(open_namespace(path, there));
  if (what == "netns") {
    result = std::move(there);
    return {};
  }
  return run_in_namespace(there.get(), [&]() -> Outcome {
    if (what == "netfilter") {
      result = Descriptor(socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_NETFILTER));
    } else {
      result = Descriptor(open(("/proc/thread-self/net/" + what).c_str(), O_RDWR | O_CLOEXEC));
    }
    return result ? Outcome{} : failure(errno, "cannot open " + what + " in " + path);
  });
}

Outcome write_sysctl(const std::string& name, const std::string& value) {
  std::string path = "/proc/sys/" + name;
  Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || write(file.get(), value.data(), value.size()) < 0) return failure(errno, "cannot write \"" + value + "\" to " + path);
  return {};
}

}  // namespace weft::bpf
