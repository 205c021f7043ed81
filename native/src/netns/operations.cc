// See operations.h.
#include "netns/operations.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <iterator>

namespace weft::netns {

namespace {

constexpr const char* kOwn = "/proc/thread-self/ns/net";
constexpr const char* kBpffs = "/sys/fs/bpf";

// Of the mesh namespace: why, in bpf/README.md.
constexpr const char* kSysctls[][2] = {
    // Packets come with workloads' source addresses, from the one link there is.
    {"net/ipv4/conf/all/rp_filter", "0"},
    {"net/ipv4/conf/default/rp_filter", "0"},
    {"net/ipv4/conf/weft-mesh1/rp_filter", "0"},
    {"net/ipv6/conf/weft-mesh1/accept_ra", "0"},
    // Answers without a socket (RST) go where mesh1_in's mark says.
    {"net/ipv4/fwmark_reflect", "1"},
    {"net/ipv6/fwmark_reflect", "1"},
    // An accepted socket of a listener without SO_MARK takes the SYN's mark: DELIVER outbound, INJECT inbound. IPv6 follows it too.
    {"net/ipv4/tcp_fwmark_accept", "1"},
    // A cookie leaves no request socket, and from_pod would let the handshake's last ACK go direct. The backlog is the bound instead.
    {"net/ipv4/tcp_syncookies", "0"},
    {"net/ipv4/tcp_max_syn_backlog", "16384"},
    {"net/core/somaxconn", "16384"},
    // Apart from the workloads' own range: a port borrowed with an address must not meet the workload's own direct connection.
    {"net/ipv4/ip_local_port_range", "20000 32000"},
    // The engine halves it between its two ways (socket.cc). 6,000 ports an (address, endpoint) pair, each a minute in TIME_WAIT, would
    // allow 100 short connections a second between two pods. Timestamps make it safe (RFC 6191); IPv6 follows it too.
    {"net/ipv4/tcp_tw_reuse", "1"},
    {"net/ipv4/tcp_mtu_probing", "1"},
    // The proxy answers DNS queries from port 53 of whom they were sent to; IPv6 follows it too.
    {"net/ipv4/ip_unprivileged_port_start", "0"},
};

int family_of(const Request& request) { return request.family == kFamilyV4 ? AF_INET : request.family == kFamilyV6 ? AF_INET6 : AF_UNSPEC; }

// -errno of what has just failed.
int own(int result) { return result < 0 ? -errno : result; }

Done only(int error) { return {{error, 0}, {}}; }

// A descriptor, or -errno.
Done one(int result) {
  if (result < 0) return only(-result);
  return {{}, {result}};
}

void close_all(std::vector<int>* descriptors) {
  for (const int fd : *descriptors) close(fd);
  descriptors->clear();
}

// setns() would take a process for its namespaces as well (a pidfd), which its holder could perhaps not enter itself.
bool is_namespace(int fd) { return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET; }

bool are_same(int a, int b) {
  struct stat first, second;
  return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_ino == second.st_ino && first.st_dev == second.st_dev;
}

// What `work` returns, there: 0 or more, or -errno.
template <typename Work>
int in_namespace(int there, int home, Work work) {
  if (!is_namespace(there)) return -EINVAL;
  if (setns(there, CLONE_NEWNET) != 0) return -errno;
  const int result = work();
  // To stay would keep a namespace alive that everybody else has left.
  if (setns(home, CLONE_NEWNET) != 0) abort();
  return result;
}

Done open_sockets(const Request& request, int there, int home) {
  Done done;
  const int error = in_namespace(there, home, [&] {
    for (int i = 0; i < request.count; i++) {
      const int fd = socket(family_of(request), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (fd < 0) return -errno;
      done.descriptors.push_back(fd);
    }
    return 0;
  });
  if (error != 0) close_all(&done.descriptors);
  done.answer.error = -error;
  return done;
}

int open_of_process(uint32_t process) {
  const std::string path = "/proc/" + std::to_string(process) + "/ns/net";
  return own(open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

int create(int home) {
  if (unshare(CLONE_NEWNET) != 0) return -errno;
  const int created = own(open(kOwn, O_RDONLY | O_CLOEXEC));
  if (setns(home, CLONE_NEWNET) != 0) abort();
  return created;
}

int open_recent(const Request& request) {
  const char* const name = request.number == 1 ? "weftheld" : "weft";
  const std::string path = std::string("/proc/thread-self/net/xt_recent/") + name + (request.family == kFamilyV6 ? "6" : "4");
  return own(open(path.c_str(), O_RDWR | O_CLOEXEC));
}

int attach(const Request& request, int program) {
  union bpf_attr attributes = {};
  attributes.link_create.prog_fd = static_cast<uint32_t>(program);
  // In its place the kernel takes the interface.
  attributes.link_create.target_fd = request.number;
  attributes.link_create.attach_type = static_cast<uint32_t>(request.family == kEgress ? kTcxEgress : kTcxIngress);
  return own(static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &attributes, sizeof(attributes))));
}

int write_sysctls() {
  for (const auto& [name, value] : kSysctls) {
    const int file = open((std::string("/proc/sys/") + name).c_str(), O_WRONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    const int error = write(file, value, strlen(value)) < 0 ? -errno : 0;
    close(file);
    if (error != 0) return error;
  }
  return 0;
}

// What is mounted there, or -errno: -ENOENT: nothing, or no network namespace.
int open_mounted(const std::string& path) {
  // Whatever else is there: nothing is to happen to it.
  const int found = open(path.c_str(), O_PATH | O_CLOEXEC);
  if (found < 0) return -errno;
  struct statfs info;
  int result = -ENOENT;
  if (fstatfs(found, &info) == 0 && info.f_type == NSFS_MAGIC) result = own(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  close(found);
  return result;
}

int mount_new(const std::string& path, int home) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1))
    mkdir(path.substr(0, slash).c_str(), 0755);
  const int file = open(path.c_str(), O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0444);
  if (file < 0) return -errno;
  close(file);
  if (unshare(CLONE_NEWNET) != 0) return -errno;
  const int error = mount(kOwn, path.c_str(), "none", MS_BIND, nullptr) != 0 ? -errno : 0;
  const int made = error != 0 ? error : own(open(kOwn, O_RDONLY | O_CLOEXEC));
  if (setns(home, CLONE_NEWNET) != 0) abort();
  if (error != 0) unlink(path.c_str());
  return made;
}

// As systemd mounts it. It stays when Weft has gone: others may use it by then.
int mount_bpffs() {
  struct statfs info;
  if (statfs(kBpffs, &info) != 0) return -errno;
  return info.f_type == BPF_FS_MAGIC ? 0 : own(mount("bpf", kBpffs, "bpf", 0, "mode=0700"));
}

int mount_mesh(const std::string& path, int home) {
  const int there = open_mounted(path);
  return there != -ENOENT ? there : mount_new(path, home);
}

int unmount_mesh(const std::string& path) {
  if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL && errno != ENOENT) return -errno;
  // For another user than root somebody else has made the file: it stays.
  return unlink(path.c_str()) != 0 && errno != ENOENT && errno != EACCES ? -errno : 0;
}

// Of this process and what it becomes. Root gets no more by exec(): SECBIT_NOROOT (main.cc).
bool keep_net_admin() {
  __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  constexpr uint32_t kept = 1U << CAP_NET_ADMIN;
  __user_cap_data_struct data[2] = {{kept, kept, kept}, {0, 0, 0}};
  return syscall(SYS_capset, &head, data) == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) == 0;
}

[[noreturn]] void become(const char* const* words, const std::vector<int>& descriptors) {
  // Free of the numbers that they are to have.
  int streams[3];
  for (int i = 0; i < 3; i++) streams[i] = fcntl(descriptors[static_cast<size_t>(i) + 1], F_DUPFD_CLOEXEC, 10);
  if (setns(descriptors[0], CLONE_NEWNET) != 0 || !keep_net_admin()) _exit(126);
  for (int i = 0; i < 3; i++) {
    if (dup2(streams[i], i) < 0) _exit(126);
  }
  signal(SIGPIPE, SIG_DFL);
  alarm(kMaxCommandSeconds);
  execvp(words[0], const_cast<char* const*>(words));
  _exit(127);
}

Done run(const Asked& asked) {
  if (!is_namespace(asked.descriptors[0])) return only(EINVAL);
  const pid_t child = fork();
  if (child < 0) return only(errno);
  if (child == 0) become(kCommands[asked.request.number], asked.descriptors);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return only(errno);
  }
  return {{0, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)}, {}};
}

size_t wanted_descriptors(Operation operation) {
  switch (operation) {
    case Operation::kOfProcess:
    case Operation::kCreate:
    case Operation::kMount:
    case Operation::kUnmount:
    case Operation::kBpffs:
      return 0;
    case Operation::kAttach:
      return 2;
    case Operation::kRun:
      return 4;
    default:
      return 1;
  }
}

}  // namespace

bool is_request(const Asked& asked, const Terms& terms) {
  const auto& [operation, family, count, reserved, number] = asked.request;
  const bool has_path = operation == Operation::kMount || operation == Operation::kUnmount;
  if (reserved != 0 || asked.descriptors.size() != wanted_descriptors(operation) || has_path == asked.path.empty()) return false;
  const bool is_family = family_of(asked.request) != AF_UNSPEC;
  switch (operation) {
    case Operation::kJoin:
      return true;
    case Operation::kOpen:
      return is_family && count >= 1 && count <= kMaxSockets;
    case Operation::kRecent:
      return terms.is_for_agent && is_family && number <= 1;
    case Operation::kAttach:
      return terms.is_for_agent && (family == kIngress || family == kEgress);
    case Operation::kRun:
      return terms.is_for_agent && number < std::size(kCommands);
    case Operation::kOfProcess:
    case Operation::kCreate:
    case Operation::kRoute:
    case Operation::kNetfilter:
    case Operation::kSysctls:
    case Operation::kMount:
    case Operation::kUnmount:
    case Operation::kBpffs:
      return terms.is_for_agent;
  }
  return false;
}

Done perform(const Asked& asked, const Terms& terms) {
  const Request& request = asked.request;
  const int home = terms.home;
  const int there = asked.descriptors.empty() ? -1 : asked.descriptors[0];
  const auto netlink = [&](int type, int protocol) {
    return one(in_namespace(there, home, [&] { return own(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | type, protocol)); }));
  };
  switch (request.operation) {
    case Operation::kOpen:
      return open_sockets(request, there, home);
    case Operation::kOfProcess:
      return one(open_of_process(request.number));
    case Operation::kCreate:
      return one(create(home));
    case Operation::kRoute:
      return netlink(0, NETLINK_ROUTE);
    case Operation::kNetfilter:
      return netlink(SOCK_NONBLOCK, NETLINK_NETFILTER);
    case Operation::kRecent:
      return one(in_namespace(there, home, [&] { return open_recent(request); }));
    case Operation::kAttach:
      return one(in_namespace(there, home, [&] { return attach(request, asked.descriptors[1]); }));
    case Operation::kSysctls:
      return only(are_same(there, home) ? EINVAL : -in_namespace(there, home, write_sysctls));
    case Operation::kMount:
    case Operation::kUnmount:
      if (!terms.mesh_path.empty() && asked.path != terms.mesh_path) return only(EPERM);
      if (request.operation == Operation::kMount) return one(mount_mesh(asked.path, home));
      return only(-unmount_mesh(asked.path));
    case Operation::kRun:
      return run(asked);
    case Operation::kBpffs:
      return only(-mount_bpffs());
    case Operation::kJoin:
      break;
  }
  return only(EINVAL);
}

}  // namespace weft::netns
