// weft-netns: the one program that enters network namespaces for the proxy. Run with CAP_SYS_ADMIN it becomes COMMAND without, in the
// namespace at --net if that is given, and leaves a process behind that has CAP_SYS_ADMIN and nothing else, and opens sockets for COMMAND
// (serve.h) for as long as COMMAND lives. They talk over a pair of sockets without a name, so nobody else can.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
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

// CAP_BPF, which older headers lack.
constexpr int kCapBpf = 39;
// What COMMAND keeps of what there is: transparent sockets, marks; pinned maps; gateways on ports below 1024.
constexpr uint64_t kKept = bit(CAP_NET_ADMIN) | bit(kCapBpf) | bit(CAP_NET_BIND_SERVICE);

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

// Not a child of COMMAND's, which knows of none. Its end is COMMAND's: no signal that a terminal or a service manager sends to all.
void leave_server(int channel, int home) {
  const pid_t child = fork();
  if (child < 0) die("fork", errno);
  if (child > 0) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0) exit(1);
    return;
  }
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  setsid();
  confine(bit(CAP_SYS_ADMIN));
  const pid_t server = fork();
  if (server < 0) die("fork", errno);
  if (server > 0) _exit(0);
  // Whatever else COMMAND is given to hold.
  constexpr int kMaxInherited = 1024;
  for (int fd = 3; fd < kMaxInherited; fd++) {
    if (fd != channel && fd != home) close(fd);
  }
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {0, 1, 2}) dup2(nowhere, standard);
  close(nowhere);
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  if (chdir("/") != 0) _exit(1);
  weft::netns::serve(channel, home);
  _exit(0);
}

void enter(const char* path) {
  const int there = open(path, O_RDONLY | O_CLOEXEC);
  if (there < 0) die(std::string("open ") + path, errno);
  if (setns(there, CLONE_NEWNET) != 0) die(std::string("enter the network namespace ") + path + " (CAP_SYS_ADMIN is needed)", errno);
  close(there);
}

}  // namespace

int main(int count, char** words) {
  int next = 1;
  const char* net = nullptr;
  if (next < count && strncmp(words[next], "--net=", 6) == 0) net = words[next++] + 6;
  if (next >= count || words[next][0] == '-') {
    fprintf(
        stderr,
        "usage: weft-netns [--net=PATH] COMMAND...\nWEFT_NETNS then names two descriptors: of its channel, and of the namespace left.\n");
    return 2;
  }
  const uint64_t held = permitted();
  if ((held & bit(CAP_SYS_ADMIN)) == 0) die("network namespaces are entered with CAP_SYS_ADMIN", EPERM);
  // Not closed by exec(): COMMAND gets it.
  const int home = open("/proc/self/ns/net", O_RDONLY);
  if (home < 0) die("open /proc/self/ns/net", errno);
  int channels[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channels) != 0) die("socketpair", errno);
  leave_server(channels[1], home);
  close(channels[1]);
  if (net != nullptr) enter(net);
  confine(held & kKept);
  setenv("WEFT_NETNS", (std::to_string(channels[0]) + "," + std::to_string(home)).c_str(), 1);
  execvp(words[next], words + next);
  die(words[next], errno);
}
