// What weft-netns takes and refuses, and how the engine waits for its sockets. Real namespaces, which need CAP_SYS_ADMIN, are entered in
// test/redirect.
#include "core/namespace_sockets.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "check.h"
#include "core/message_socket.h"
#include "core/wait_for.h"
#include "netns/protocol.h"
#include "netns/serve.h"

namespace weft {
namespace {

int own_namespace() { return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC); }

// weft-netns' loop on a thread of its own, and the channel to it.
class Served {
 public:
  explicit Served(bool is_for_agent = false) {
    int channels[2];
    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels);
    channel = channels[0];
    thread_ = std::thread([far = channels[1], is_for_agent] {
      const int home = own_namespace();
      netns::serve(far, {home, is_for_agent, "/run/netns/mesh"});
      close(home);
    });
  }
  ~Served() {
    if (channel >= 0) close(channel);
    thread_.join();
  }
  // The message, with these descriptors.
  void say(std::string_view bytes, const std::vector<int>& descriptors) const { send_message(channel, bytes, descriptors); }
  // errno of the answer; -1: the channel was closed, -2: nothing came.
  int heard() const {
    pollfd waiting = {channel, POLLIN, 0};
    if (poll(&waiting, 1, 2000) != 1) return -2;
    Message message;
    if (receive_message(channel, &message) != 1) return -1;
    for (const int fd : message.descriptors) close(fd);
    netns::Answer answer;
    memcpy(&answer, message.text.data(), sizeof(answer));
    return answer.error;
  }

  int channel = -1;

 private:
  std::thread thread_;
};

// Of an operation's number: those that do not exist are asked for as well.
std::string request(uint8_t operation, uint8_t family, uint8_t count, uint8_t reserved = 0, uint32_t number = 0) {
  netns::Request said = {static_cast<netns::Operation>(operation), family, count, reserved, number};
  return {reinterpret_cast<const char*>(&said), sizeof said};
}

std::string request(netns::Operation operation, uint8_t family = 0, uint32_t number = 0) {
  return request(static_cast<uint8_t>(operation), family, 1, 0, number);
}

TEST("namespace sockets: a descriptor that is no network namespace is refused, and the channel goes on") {
  Served served;
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int other = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
  const int process = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  for (const int wrong : {file, other, process, served.channel}) {
    served.say(request(1, 4, 1), {wrong});
    CHECK_EQ(served.heard(), EINVAL);
  }
  for (const int each : {file, other, process}) close(each);
}

using Hostile = std::vector<std::pair<std::string, std::vector<int>>>;

// Each ends its channel, and what came with it is closed.
void expect_refused(const Hostile& hostile, bool is_for_agent, int netns) {
  for (const auto& [bytes, descriptors] : hostile) {
    int before = dup(netns);
    close(before);
    {
      Served served(is_for_agent);
      served.say(bytes, descriptors);
      CHECK_EQ(served.heard(), -1);
    }
    const int after = dup(netns);
    CHECK_EQ(after, before);
    close(after);
  }
}

TEST("namespace sockets: whatever is no request ends the channel, and what came with it is closed") {
  const int netns = own_namespace();
  const Hostile hostile = {
      {request(0, 4, 1), {netns}},
      {request(3, 4, 1), {netns}},
      {request(1, 5, 1), {netns}},
      {request(1, 4, 0), {netns}},
      {request(1, 4, netns::kMaxSockets + 1), {netns}},
      {request(1, 4, 1, 1), {netns}},
      {request(1, 4, 1), {}},
      {request(1, 4, 1), {netns, netns}},
      {request(1, 4, 1), std::vector<int>(40, netns)},
      {request(1, 4, 1) + "x", {netns}},
      {"x", {netns}},
      {std::string(60'000, 'x'), {netns}},
  };
  expect_refused(hostile, false, netns);
  close(netns);
}

TEST("namespace sockets: a proxy's channel is for sockets alone") {
  using netns::Operation;
  const int netns = own_namespace();
  const Hostile hostile = {
      {request(Operation::kOfProcess, 0, 1), {}},
      {request(Operation::kCreate), {}},
      {request(Operation::kRoute), {netns}},
      {request(Operation::kNetfilter), {netns}},
      {request(Operation::kRecent, netns::kFamilyV4), {netns}},
      {request(Operation::kAttach, netns::kIngress, 1), {netns, netns}},
      {request(Operation::kSysctls), {netns}},
      {request(Operation::kMount) + "/run/netns/mesh", {}},
      {request(Operation::kUnmount) + "/run/netns/mesh", {}},
      {request(Operation::kRun), {netns, netns, netns, netns}},
      {request(Operation::kBpffs), {}},
  };
  expect_refused(hostile, false, netns);
  close(netns);
}

TEST("namespace sockets: an agent's requests are those that there are, with what belongs to them") {
  using netns::Operation;
  const int netns = own_namespace();
  const Hostile hostile = {
      {request(0, 0, 1), {}},
      {request(14, 0, 1), {}},
      {request(Operation::kOfProcess, 0, 1), {netns}},
      {request(Operation::kRoute), {}},
      {request(Operation::kRecent, 5), {netns}},
      {request(Operation::kAttach, netns::kIngress, 1), {netns}},
      {request(Operation::kAttach, 2, 1), {netns, netns}},
      {request(Operation::kMount), {}},
      {request(Operation::kMount) + std::string("/run/netns/mesh\0x", 17), {}},
      {request(Operation::kMount) + std::string(netns::kMaxPath + 1, 'x'), {}},
      {request(Operation::kCreate) + "x", {}},
      {request(Operation::kRun, 0, 8), {netns, netns, netns, netns}},
      {request(Operation::kRun), {netns, netns, netns}},
  };
  expect_refused(hostile, true, netns);
  close(netns);
}

TEST("namespace sockets: of another path, the host's own sysctls and what is no namespace an agent is told so") {
  using netns::Operation;
  Served served(true);
  const int netns = own_namespace();
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  served.say(request(Operation::kMount) + "/run/netns/other", {});
  CHECK_EQ(served.heard(), EPERM);
  served.say(request(Operation::kUnmount) + "/etc/passwd", {});
  CHECK_EQ(served.heard(), EPERM);
  served.say(request(Operation::kSysctls), {netns});
  CHECK_EQ(served.heard(), EINVAL);
  for (const Operation operation : {Operation::kRoute, Operation::kNetfilter, Operation::kSysctls}) {
    served.say(request(operation), {file});
    CHECK_EQ(served.heard(), EINVAL);
  }
  served.say(request(Operation::kRun), {file, file, file, file});
  CHECK_EQ(served.heard(), EINVAL);
  close(file);
  close(netns);
}

TEST("namespace sockets: a channel that joins is served beside the first, and goes on without it") {
  Served served;
  int pair[2];
  socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
  served.say(request(2, 0, 0), {pair[1]});
  close(pair[1]);
  close(served.channel);
  served.channel = pair[0];
  served.say(request(1, 6, 1), {served.channel});
  CHECK_EQ(served.heard(), EINVAL);
}

// Waits until something has come.
bool await(NamespaceSockets& sockets, NamespaceSockets::Arrival* out) {
  for (;;) {
    if (sockets.next(out)) return true;
    pollfd waiting = {sockets.fd(), POLLIN, 0};
    if (poll(&waiting, 1, 2000) != 1) return false;
  }
}

ConnectOptions options_in(const SharedScope& scope) {
  ConnectOptions options;
  parse_address("127.0.0.1", &options.to.address);
  options.scope = scope;
  return options;
}

TEST("namespace sockets: each order is answered once, in turn, however many more than go at a time") {
  Served served;
  const auto sockets = NamespaceSockets::open(served.channel);
  CHECK(sockets != nullptr);
  // Refused by weft-netns, as it is no namespace: which needs no privilege.
  const SharedScope scope = SocketScope::open(served.channel, 1);
  constexpr uint32_t kOrders = 5 * netns::kMaxInFlight;
  for (uint32_t i = 0; i < kOrders; i++) {
    CHECK_EQ(sockets->take(options_in(scope)), -1);
    CHECK(sockets->has_room());
    sockets->order(options_in(scope), {i, 1});
  }
  for (uint32_t i = 0; i < kOrders; i++) {
    NamespaceSockets::Arrival arrival;
    CHECK(await(*sockets, &arrival));
    CHECK_EQ(arrival.connection.slot, i);
    CHECK_EQ(arrival.fd, -EINVAL);
  }
  CHECK_EQ(sockets->open_now(*scope, AF_INET), -EINVAL);
}

TEST("namespace sockets: when weft-netns has gone all that was ordered fails, and there is no room for more") {
  int channels[2];
  socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels);
  const auto sockets = NamespaceSockets::open(channels[0]);
  const SharedScope scope = SocketScope::open(channels[0], 1);
  for (uint32_t i = 0; i < 100; i++) sockets->order(options_in(scope), {i, 1});
  // With it goes the other end of the channel, which lies in there unread.
  close(channels[1]);
  for (uint32_t i = 0; i < 100; i++) {
    NamespaceSockets::Arrival arrival;
    CHECK(await(*sockets, &arrival));
    CHECK_EQ(arrival.fd, -EPIPE);
  }
  CHECK(sockets->is_over());
  CHECK(!sockets->has_room());
  CHECK(sockets->open_now(*scope, AF_INET) < 0);
  close(channels[0]);
}

TEST("namespace sockets: what is ordered for a scope that has gone keeps neither its namespace nor the next order") {
  Served served;
  const auto sockets = NamespaceSockets::open(served.channel);
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  SharedScope gone = SocketScope::open(file, 1);
  sockets->order(options_in(gone), {1, 1});
  const std::weak_ptr<SocketScope> watched = gone;
  gone = nullptr;
  NamespaceSockets::Arrival arrival;
  CHECK(await(*sockets, &arrival));
  arrival = {};
  CHECK(!sockets->next(&arrival));
  CHECK(watched.expired());
  close(file);
}

// As Node installs them: a handler, and calls that can be are begun again.
void under_signals(const std::function<void()>& body) {
  struct sigaction handled = {}, before = {};
  handled.sa_handler = [](int) {};
  handled.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &handled, &before);
  const itimerval often = {{0, 1'000}, {0, 1'000}}, never = {};
  setitimer(ITIMER_REAL, &often, nullptr);
  body();
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
}

TEST("namespace sockets: a signal does not end a wait, neither what comes later nor the time") {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  under_signals([&ends] {
    const auto began = std::chrono::steady_clock::now();
    CHECK(!wait_for(ends[0], POLLIN, 20));
    CHECK(std::chrono::steady_clock::now() - began >= std::chrono::milliseconds(20));
    sigset_t all;
    sigfillset(&all);
    std::thread later([&ends, &all] {
      pthread_sigmask(SIG_BLOCK, &all, nullptr);
      pollfd nothing = {ends[1], POLLIN, 0};
      poll(&nothing, 1, 20);
      CHECK(write(ends[1], "x", 1) == 1);
    });
    CHECK(wait_for(ends[0], POLLIN, 10'000));
    later.join();
  });
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace weft
