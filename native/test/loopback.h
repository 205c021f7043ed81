// A reactor over loopback sockets with decisions made in C++, and plain sockets for its clients and upstreams. Shared by the reactor's
// tests.
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "core/access_log_lines.h"
#include "core/reactor.h"
#include "endpoint.h"

namespace weft::test {

inline int bound_socket(uint16_t* port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(name);
  bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name));
  getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length);
  *port = ntohs(name.sin_port);
  return fd;
}

// Without, a small frame behind another waits 40 ms for the proxy's ACK.
inline void send_at_once(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

inline int dial(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(port);
  connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name));
  send_at_once(fd);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

// Of an answer whose origin gave no Date: it must have one line of the engine's, which changes.
inline std::string without_date(const std::string& answer) {
  constexpr size_t kLine = sizeof("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n") - 1;
  const size_t at = answer.find("\r\ndate: ");
  if (at == std::string::npos) return "no date in " + answer;
  return std::string(answer).erase(at + 2, kLine);
}

// Lines of all that is in the ring.
inline std::string taken_lines(uint8_t* ring, size_t bytes) {
  AccessLogLines lines({0x7ff, 12}, false);
  std::string out(8 * AccessLogLines::kMostOfLine, '\0');
  // Whoever decided is "other", by no rule.
  lines.set_label(0, "\"other\"");
  constexpr int32_t kEdges[AccessLogLines::kEdgeWords] = {};
  out.resize(lines.take(ring, bytes, kEdges, out).written);
  return out;
}

// A reactor, an upstream that listens, and decisions by a function.
struct Bench {
  double counters[static_cast<size_t>(Counter::Count)] = {};
  int32_t outstanding[4] = {};
  int upstream_listener = -1;
  uint16_t upstream_port = 0;
  uint16_t port = 0;
  uint16_t opaque_port = 0;
  uint16_t dead = 0;
  // Bound, so that no listener of anybody gets its port.
  int dead_socket = bound_socket(&dead);
  std::function<Decision(int32_t attempt)> decide = [](int32_t) { return to(0); };
  // Words of the descriptor that is decided on.
  const int32_t* words = nullptr;
  int32_t word(Descriptor which) const { return words[static_cast<int32_t>(which)]; }
  // Told how many completions came with a batch.
  std::function<void(int32_t count)> on_completions = [](int32_t) {};
  std::vector<RetrySpec> retries;
  // Of all endpoints.
  std::optional<ConnectionPolicy> connection_policy;
  // Endpoint 3: 0 by HTTP/2.
  bool has_http2_endpoint = false;
  alignas(8) uint8_t access_log[kAccessLogHeaderBytes + 65'536] = {};
  std::vector<double> tenants = std::vector<double>(kMaxTenants * TenantAccounts::kWords);
  int32_t connection_counts[1 + 4 * LimitCounts::kEndpointWords + LimitCounts::kServiceWords] = {};
  std::unique_ptr<Reactor> reactor;

  static Decision to(int32_t target, int32_t flags = 0) {
    Decision decision;
    decision.target = target;
    decision.flags = flags;
    return decision;
  }

  explicit Bench(EngineLimits limits = {}, uint64_t (*clock_ns)() = monotonic_ns) {
    upstream_listener = bound_socket(&upstream_port);
    ::listen(upstream_listener, 64);
    EngineOptions options;
    options.limits = limits;
    options.clock_ns = clock_ns;
    options.counters = counters;
    options.outstanding = outstanding;
    options.outstanding_count = 4;
    options.access_log = access_log;
    options.access_log_bytes = sizeof(access_log);
    options.connection_counts = connection_counts;
    options.connection_services = 1;
    options.tenants = tenants.data();
    reactor = std::make_unique<Reactor>(options, make_decisions, this);
    reload(true);
    port = listen(1, Protocol::kHttp1);
    opaque_port = listen(2, Protocol::kOpaque);
  }
  ~Bench() {
    ::close(upstream_listener);
    ::close(dead_socket);
  }

  // New tables, with or without the endpoints: 0 listens, at 1 nobody does.
  void reload(bool with_endpoints) {
    TableSpec spec;
    spec.hosts = {"a.test"};
    spec.paths = {"/"};
    spec.listener_tenants = {0, 1, 2};
    spec.retries = retries;
    if (with_endpoints) spec.endpoints = {endpoint_at(0, "127.0.0.1", upstream_port), endpoint_at(1, "127.0.0.1", dead)};
    if (with_endpoints && has_http2_endpoint) {
      spec.endpoints.push_back(endpoint_at(3, "127.0.0.1", upstream_port));
      spec.endpoints.back().protocol = Protocol::kHttp2;
    }
    for (EndpointSpec& endpoint : spec.endpoints)
      if (connection_policy) endpoint.connections = std::make_shared<const ConnectionPolicy>(*connection_policy);
    std::string error;
    reactor->use_tables(Tables::build(spec, &error));
  }

  uint16_t listen(int32_t id, Protocol protocol) {
    ListenerSpec spec;
    spec.id = id;
    parse_address("127.0.0.1", &spec.address);
    spec.protocol = protocol;
    std::string error;
    return static_cast<uint16_t>(reactor->listen(spec, &error));
  }

  static bool make_decisions(void* context) {
    auto* self = static_cast<Bench*>(context);
    uint8_t* memory = self->reactor->batch().memory();
    const Batch::Layout at = Batch::layout();
    const auto* header = reinterpret_cast<int32_t*>(memory + at.header);
    const auto* descriptors = reinterpret_cast<int32_t*>(memory + at.descriptors);
    self->on_completions(header[static_cast<int32_t>(HeaderWord::CompletionCount)]);
    for (int32_t i = 0; i < header[0]; i++) {
      self->words = descriptors + i * kDescriptorWords;
      const Decision decision = self->decide(self->word(Descriptor::Attempt));
      if (decision.target >= 0) self->outstanding[decision.target]++;
      memcpy(memory + at.decisions + static_cast<size_t>(i) * sizeof(Decision), &decision, sizeof(decision));
    }
    return true;
  }

  // Turns the loop until `done`, at most about a second.
  bool run(const std::function<bool()>& done) {
    for (int turn = 0; turn < 200 && !done(); turn++) reactor->run_once(5);
    return done();
  }
  // Of the service: open connections, and requests that wait for one.
  int32_t* service() { return connection_counts + 1 + 4 * LimitCounts::kEndpointWords; }
  int32_t connections() { return service()[LimitCounts::kOpen]; }
  int32_t pending() { return service()[LimitCounts::kWaiting]; }
  double counter(Counter which) const { return counters[static_cast<size_t>(which)]; }
};

// A plain socket of the test's, client or upstream.
struct Peer1 {
  int fd = -1;
  std::string received;
  bool ended = false;
  bool reset = false;

  explicit Peer1(int socket) : fd(socket) {}
  Peer1(const Peer1&) = delete;
  ~Peer1() { close(); }
  static int dial(uint16_t port) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    name.sin_port = htons(port);
    connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
  }
  void send(std::string_view text) const {
    CHECK_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  void read() {
    char bytes[65536];
    for (;;) {
      const ssize_t count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (count > 0) {
        received.append(bytes, static_cast<size_t>(count));
        continue;
      }
      ended = ended || count == 0;
      reset = reset || (count < 0 && errno == ECONNRESET);
      return;
    }
  }
  bool has(std::string_view text) {
    read();
    return received.find(text) != std::string::npos;
  }
  /// Sends no more, goes on reading.
  void finish() const { shutdown(fd, SHUT_WR); }
  void close() {
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
};

/// Ends the connection with a reset.
inline void reset(Peer1* peer) {
  const linger option = {1, 0};
  setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option));
  peer->close();
}

inline int accept_upstream(Bench& bench) {
  int fd = -1;
  bench.run([&] { return fd >= 0 || (fd = accept4(bench.upstream_listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0; });
  return fd;
}

/// Sends as much as is taken, till nothing is for 20 turns; returns how many bytes that were.
inline size_t send_what_is_taken(Reactor& reactor, const Peer1& client) {
  const std::string piece(65'536, 'b');
  size_t sent = 0;
  for (int quiet = 0; quiet < 20; reactor.run_once(1)) {
    const ssize_t count = ::send(client.fd, piece.data(), piece.size(), MSG_NOSIGNAL);
    quiet = count > 0 ? 0 : quiet + 1;
    if (count > 0) sent += static_cast<size_t>(count);
  }
  return sent;
}

/// Reads what comes at `fd`, half a MiB and then 100 ms of the clock at a time, until it ends or `client` is reset; without `reads` only
/// the clock goes on. Returns how many bytes were read.
inline size_t read_slowly(Reactor& reactor, Peer1& client, int fd, bool reads, uint64_t* clock_ns) {
  size_t received = 0;
  bool ended = false;
  for (int turn = 0; turn < 1'000 && !ended && !client.reset; turn++) {
    const size_t before = received;
    char bytes[65'536];
    // So much that the kernel opens the window that was closed; the clock waits for it.
    for (int i = 0; i < 8 && reads && !ended; i++) {
      const ssize_t count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (count > 0) received += static_cast<size_t>(count);
      ended = count == 0;
    }
    if (!reads || received != before) *clock_ns += 100'000'000;
    for (int i = 0; i < 3; i++) reactor.run_once(1);
    client.read();
  }
  return received;
}

inline constexpr char kGet[] = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
inline constexpr char kOk[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

}  // namespace weft::test
