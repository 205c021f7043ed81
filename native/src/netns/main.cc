// weft-netns: the one program that enters network namespaces. Run with CAP_SYS_ADMIN it becomes COMMAND without, and leaves a process
// behind that has CAP_SYS_ADMIN and does for COMMAND what is in protocol.h, for as long as COMMAND lives. They talk over a pair of sockets
// without a name, so nobody else can. COMMAND is a proxy, in the namespace at --net if that is given, or with --agent an agent.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "netns/serve.h"

namespace {

constexpr uint64_t bit(int capability) { return uint64_t{1} << capability; }

// CAP_PERFMON and CAP_BPF, which older headers lack.
constexpr int kCapPerfmon = 38;
constexpr int kCapBpf = 39;

// What each keeps of what there is.
struct Shares {
  uint64_t command;
  uint64_t server;
};
// Transparent sockets, marks; pinned maps; gateways on ports below 1024.
constexpr Shares kOfProxy = {bit(CAP_NET_ADMIN) | bit(kCapBpf) | bit(CAP_NET_BIND_SERVICE), bit(CAP_SYS_ADMIN)};
// Programs, maps, links; links, routes and rules of other namespaces, whose sockets must be opened with CAP_NET_ADMIN as well, and /proc of
// other users' processes.
constexpr Shares kOfAgent = {bit(CAP_NET_ADMIN) | bit(kCapBpf) | bit(kCapPerfmon),
                             bit(CAP_SYS_ADMIN) | bit(CAP_NET_ADMIN) | bit(CAP_SYS_PTRACE)};

struct Options {
  const char* net = nullptr;
  bool is_for_agent = false;
  // Of the mesh namespace; empty: any.
  std::string mesh_path;
  // Serves on this descriptor and becomes nothing; -1: has a COMMAND.
  int channel = -1;
};

[[noreturn]] void die(const std::string& what, int error) {
  fprintf(stderr, "weft-netns: %s: %s\n", what.c_str(), strerror(error));
  exit(1);
}

__user_cap_header_struct header() { return {_LINUX_CAPABILITY_VERSION_3, 0}; }

uint64_t permitted() {
  __user_cap_header_struct head = header();
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &head, data) != 0) die("capget", errno);
  return data[0].permitted | uint64_t{data[1].permitted} << 32;
}

void set_capabilities(uint64_t kept) {
  __user_cap_header_struct head = header();
  const auto low = static_cast<uint32_t>(kept);
  const auto high = static_cast<uint32_t>(kept >> 32);
  __user_cap_data_struct data[2] = {{low, low, low}, {high, high, high}};
  if (syscall(SYS_capset, &head, data) != 0) die("capset", errno);
}

// Of this process and whatever it becomes: these and no way to others. Without the bounding set, root gets all of them back with exec().
void confine(uint64_t kept) {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++) {
    if ((kept & bit(capability)) == 0 && prctl(PR_CAPBSET_READ, capability) == 1 && prctl(PR_CAPBSET_DROP, capability) != 0)
      die("giving up capabilities needs CAP_SETPCAP", errno);
  }
  set_capabilities(kept);
  // For another user than root exec() would take away what is not ambient.
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (int capability = 0; capability < 64; capability++) {
    if ((kept & bit(capability)) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0)
      die("keeping a capability", errno);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) die("no_new_privs", errno);
}

// Serves until its channels are closed: no signal ends it that a terminal or a service manager sends to all.
[[noreturn]] void serve(int channel, int home, const Options& options) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  // Whatever else COMMAND is given to hold.
  constexpr int kMaxInherited = 1024;
  for (int fd = 3; fd < kMaxInherited; fd++) {
    if (fd != channel && fd != home) close(fd);
  }
  for (const int fd : {channel, home}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {0, 1, 2}) dup2(nowhere, standard);
  close(nowhere);
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  if (chdir("/") != 0) _exit(1);
  weft::netns::serve(channel, {home, options.is_for_agent, options.mesh_path});
  _exit(0);
}

// What it runs for the agent gets nothing by being root's.
void confine_server(uint64_t held, const Options& options) {
  if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED) != 0) die("giving up capabilities needs CAP_SETPCAP", errno);
  confine(held & (options.is_for_agent ? kOfAgent : kOfProxy).server);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

// The process that is waited for ends when it serves: it is nobody's child.
[[noreturn]] void become_server(int channel, int home, uint64_t held, const Options& options) {
  setsid();
  confine_server(held, options);
  const pid_t server = fork();
  if (server < 0) die("fork", errno);
  if (server > 0) _exit(0);
  serve(channel, home, options);
}

// Not a child of COMMAND's, which knows of none.
void leave_server(int channel, int home, uint64_t held, const Options& options) {
  const pid_t child = fork();
  if (child < 0) die("fork", errno);
  if (child > 0) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0) exit(1);
    return;
  }
  become_server(channel, home, held, options);
}

void enter(const char* path) {
  const int there = open(path, O_RDONLY | O_CLOEXEC);
  if (there < 0) die(std::string("open ") + path, errno);
  if (setns(there, CLONE_NEWNET) != 0) die(std::string("enter the network namespace ") + path + " (CAP_SYS_ADMIN is needed)", errno);
  close(there);
}

// Where COMMAND begins; -1: not to be understood.
int read_options(int count, char** words, Options* options) {
  const auto value = [&](int at, const char* name) {
    return at < count && strncmp(words[at], name, strlen(name)) == 0 ? words[at] + strlen(name) : nullptr;
  };
  int next = 1;
  if (const char* descriptor = value(next, "--serve=")) {
    options->is_for_agent = true;
    options->channel = atoi(descriptor);
    return options->channel > 2 && next + 1 == count ? next + 1 : -1;
  }
  if (const char* path = value(next, "--agent=")) {
    options->is_for_agent = true;
    options->mesh_path = path;
    next++;
  } else if (const char* net = value(next, "--net=")) {
    options->net = net;
    next++;
  }
  const bool has_path = !options->is_for_agent || !options->mesh_path.empty();
  return has_path && next < count && words[next][0] != '-' ? next : -1;
}

}  // namespace

int main(int count, char** words) {
  Options options;
  const int next = read_options(count, words, &options);
  if (next < 0) {
    fprintf(stderr,
            "usage: weft-netns [--net=PATH | --agent=MESH_NAMESPACE] COMMAND...\n"
            "       weft-netns --serve=DESCRIPTOR\n"
            "WEFT_NETNS then names two descriptors of COMMAND's: of its channel, and of the namespace left.\n");
    return 2;
  }
  // No descriptor of ours may be a standard one.
  int spare = open("/dev/null", O_RDWR);
  while (spare >= 0 && spare <= STDERR_FILENO) spare = open("/dev/null", O_RDWR);
  close(spare);
  const uint64_t held = permitted();
  if ((held & bit(CAP_SYS_ADMIN)) == 0) die("network namespaces are entered with CAP_SYS_ADMIN", EPERM);
  // Not closed by exec(): COMMAND gets it.
  const int home = open("/proc/self/ns/net", O_RDONLY);
  if (home < 0) die("open /proc/self/ns/net", errno);
  if (options.channel >= 0) become_server(options.channel, home, held, options);
  int channels[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channels) != 0) die("socketpair", errno);
  leave_server(channels[1], home, held, options);
  close(channels[1]);
  if (options.net != nullptr) enter(options.net);
  confine(held & (options.is_for_agent ? kOfAgent : kOfProxy).command);
  setenv("WEFT_NETNS", (std::to_string(channels[0]) + "," + std::to_string(home)).c_str(), 1);
  execvp(words[next], words + next);
  die(words[next], errno);
}
