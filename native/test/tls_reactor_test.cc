// TLS through the whole reactor over loopback, for the sanitizers: many clients, some of which leave at every stage of the opening.
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "check.h"
#include "core/reactor.h"
#include "core/tls/tls_context.h"
#include "tls_loopback.h"
#include "tls_pki.h"

namespace weft {
namespace {

// Answers everything with 404 in the engine: no upstream is needed to open and close connections.
bool refuse_all(void* context) {
  Batch& batch = static_cast<std::unique_ptr<Reactor>*>(context)->get()->batch();
  for (int32_t i = 0; i < batch.size(); i++) {
    Decision decision;
    decision.target = -404;
    memcpy(batch.memory() + Batch::layout().decisions + static_cast<size_t>(i) * sizeof(decision), &decision, sizeof(decision));
  }
  return true;
}

using test::accept_upstream;
using test::dial;
using test::kOk;
using test::Peer1;
using Client = test::TlsClient;

TEST("TLS reactor: clients that leave at every stage leave nothing behind, and the others are answered, over a swap") {
  const test::Authority authority;
  const test::Leaf leaf = authority.leaf("DNS:a.test");
  TlsContextSpec spec;
  spec.certificates = {{{}, leaf.chain, leaf.key}};
  std::string error;
  const auto listener_tls = [&] {
    return std::make_shared<ListenerTls>(ListenerTls{TlsMode::kTerminate, TlsContext::build(spec, &error)});
  };
  double counters[static_cast<size_t>(Counter::Count)] = {};
  int32_t outstanding[1] = {};
  EngineOptions options;
  options.counters = counters;
  options.outstanding = outstanding;
  options.outstanding_count = 1;
  std::unique_ptr<Reactor> reactor;
  reactor = std::make_unique<Reactor>(options, refuse_all, &reactor);
  ListenerSpec listener;
  parse_address("127.0.0.1", &listener.address);
  listener.tls = listener_tls();
  const auto port = static_cast<uint16_t>(reactor->listen(listener, &error));
  TlsContextSpec client_spec;
  client_spec.role = TlsRole::kClient;
  client_spec.trust = authority.pem();
  EndpointTls endpoint{TlsContext::build(client_spec, &error), "a.test", {}, 0};
  endpoint.set_key();
  for (int i = 0; i < 120; i++) {
    if (i == 60) CHECK(reactor->set_listener(0, {.tls = listener_tls()}));
    Client client(port, endpoint);
    const int leave_after = i % 4;
    for (int turn = 0; turn < leave_after; turn++) {
      client.exchange([&] { return client.tls->handshake(&client.wire); });
      reactor->run_once(1);
    }
    if (leave_after != 3) continue;
    for (int turn = 0; turn < 100 && !client.tls->is_established(); turn++) {
      client.exchange([&] { return client.tls->handshake(&client.wire); });
      reactor->run_once(1);
    }
    const std::string request = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    client.exchange([&] { return client.tls->write(&client.wire, request.data(), request.size(), nullptr, 0); });
    std::string got;
    int64_t count = TlsSession::kWantsInput;
    for (int turn = 0; turn < 100 && count != TlsSession::kEnd; turn++) {
      reactor->run_once(1);
      uint8_t bytes[4096];
      count = client.exchange([&] { return client.tls->read(&client.wire, bytes, sizeof(bytes)); });
      if (count > 0) got.append(reinterpret_cast<char*>(bytes), static_cast<size_t>(count));
    }
    CHECK_EQ(got.substr(0, 12), "HTTP/1.1 404");
    CHECK_EQ(count, TlsSession::kEnd);
  }
  for (int turn = 0; turn < 100 && reactor->open_downstream() != 0; turn++) reactor->run_once(1);
  CHECK_EQ(reactor->open_downstream(), 0u);
}

// A listener over TLS, and how its clients speak to it.
struct TlsBench : test::Bench {
  test::Authority authority;
  EndpointTls endpoint;
  uint16_t tls_port = 0;

  explicit TlsBench(Protocol protocol, EngineLimits limits = {}) : Bench(limits) {
    const test::Leaf leaf = authority.leaf("DNS:a.test");
    TlsContextSpec spec;
    spec.certificates = {{{}, leaf.chain, leaf.key}};
    std::string error;
    ListenerSpec listener;
    listener.id = 3;
    listener.protocol = protocol;
    parse_address("127.0.0.1", &listener.address);
    listener.tls = std::make_shared<ListenerTls>(ListenerTls{TlsMode::kTerminate, TlsContext::build(spec, &error)});
    tls_port = static_cast<uint16_t>(reactor->listen(listener, &error));
    TlsContextSpec client_spec;
    client_spec.role = TlsRole::kClient;
    client_spec.trust = authority.pem();
    endpoint = EndpointTls{TlsContext::build(client_spec, &error), "a.test", {}, 0};
    endpoint.set_key();
  }
};

// A client that sends `asks` with the last message of its handshake.
void check_tickets(std::string_view asks, bool waits_for_answer) {
  EngineLimits limits;
  limits.header_timeout_ms = 50;
  TlsBench bench(Protocol::kHttp1, limits);
  const EndpointTls& endpoint = bench.endpoint;
  Client client(bench.tls_port, endpoint);
  client.shake();
  CHECK(bench.run([&] {
    return client.exchange([&] {
      const TlsSession::Step step = client.tls->handshake(&client.wire);
      if (step != TlsSession::Step::Done) return false;
      if (!asks.empty()) CHECK(client.tls->write(&client.wire, asks.data(), asks.size(), nullptr, 0));
      return true;
    });
  }));
  const auto came = [&] {
    char byte;
    return recv(client.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  };
  if (!waits_for_answer) {
    CHECK(bench.run(came));
    return;
  }
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  CHECK(!came());
  upstream.send(kOk);
  std::string answer;
  CHECK(bench.run([&] {
    uint8_t bytes[4096];
    const int64_t count = client.exchange([&] { return client.tls->read(&client.wire, bytes, sizeof(bytes)); });
    if (count > 0) answer.append(reinterpret_cast<char*>(bytes), static_cast<size_t>(count));
    return answer.ends_with("\r\n\r\nok");
  }));
  CHECK_EQ(endpoint.context->sessions().size(), size_t{1});
}

TEST("TLS reactor: the ticket goes with the answer to a request that is there, and at once when none is") {
  check_tickets("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n", true);
  check_tickets("", false);
}

TEST("TLS reactor: a ticket that was held back comes with the end of a connection that asks nothing whole") {
  check_tickets("GET / HTTP/1.1\r\n", false);
}

// The reactor's end of the client's connection.
int far_end_of(int client) {
  Peer near, peer;
  CHECK(local_peer(client, &near));
  for (int fd = 0; fd < 1024; fd++) {
    if (remote_peer(fd, &peer) && peer == near) return fd;
  }
  return -1;
}

TEST("TLS reactor: close_notify that a full socket does not take goes before the FIN when it does") {
  TlsBench bench(Protocol::kOpaque);
  Client client(bench.tls_port, bench.endpoint);
  CHECK(bench.run([&] { return client.shake() == TlsSession::Step::Done; }));
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return bench.counter(Counter::OpaqueOpen) == 1; }));
  Peer1 raw(dup(client.fd));
  raw.read();
  raw.received.clear();
  // No record, which nobody looks at: what the socket holds is all that matters.
  const std::string filler(65536, 'x');
  const int server = far_end_of(client.fd);
  size_t sent = 0;
  for (ssize_t count; (count = send(server, filler.data(), filler.size(), MSG_NOSIGNAL)) > 0;) sent += static_cast<size_t>(count);
  shutdown(upstream.fd, SHUT_WR);
  for (int turn = 0; turn < 5; turn++) bench.reactor->run_once(1);
  CHECK(bench.run([&] { return raw.read(), raw.ended || raw.reset; }));
  CHECK(!raw.reset);
  CHECK(raw.received.size() > sent);
  raw.close();
  ::shutdown(client.fd, SHUT_WR);
  CHECK(bench.run([&] { return bench.reactor->open_downstream() == 0; }));
}

TEST("TLS reactor: handshakes that drip in, stop, or are oversized are bounded in time and size, and counted") {
  const test::Authority authority;
  const test::Leaf leaf = authority.leaf("DNS:a.test");
  TlsContextSpec spec;
  spec.certificates = {{{}, leaf.chain, leaf.key}};
  std::string error;
  double counters[static_cast<size_t>(Counter::Count)] = {};
  int32_t outstanding[1] = {};
  EngineOptions options;
  options.limits.header_timeout_ms = 100;
  options.counters = counters;
  options.outstanding = outstanding;
  options.outstanding_count = 1;
  std::unique_ptr<Reactor> reactor;
  reactor = std::make_unique<Reactor>(options, refuse_all, &reactor);
  ListenerSpec listener;
  parse_address("127.0.0.1", &listener.address);
  listener.tls = std::make_shared<ListenerTls>(ListenerTls{TlsMode::kTerminate, TlsContext::build(spec, &error)});
  const auto port = static_cast<uint16_t>(reactor->listen(listener, &error));
  const auto timeouts = [&] { return counters[static_cast<size_t>(Counter::TimeoutsHeader)]; };
  const auto until_empty = [&] {
    for (int turn = 0; turn < 400 && reactor->open_downstream() != 0; turn++) reactor->run_once(2);
    return reactor->open_downstream() == 0;
  };
  // Silent; half a record; a record that is never whole, a byte a turn: none outlives the time that a head has.
  const std::string begun("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  for (const size_t sent : {size_t{0}, size_t{5}, begun.size()}) {
    const double before = timeouts();
    const int fd = dial(port);
    for (size_t i = 0; i < sent; i++) {
      CHECK_EQ(send(fd, begun.data() + i, 1, MSG_NOSIGNAL), 1);
      reactor->run_once(1);
    }
    reactor->run_once(5);
    CHECK(until_empty());
    CHECK_EQ(timeouts(), before + 1);
    ::close(fd);
  }
  // A ClientHello that says it is 1 MiB long, over records of 16 KiB: refused long before that, without a timeout.
  const double before = timeouts();
  const int fd = dial(port);
  const std::string record = std::string("\x16\x03\x01\x40\x00", 5) + std::string("\x01\x10\x00\x00", 4) + std::string(16380, 'x');
  size_t sent = 0;
  reactor->run_once(5);
  for (int turn = 0; turn < 400 && reactor->open_downstream() != 0; turn++) {
    const ssize_t count = send(fd, record.data() + sent % record.size(), record.size() - sent % record.size(), MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<size_t>(count);
    reactor->run_once(1);
  }
  CHECK_EQ(reactor->open_downstream(), 0u);
  CHECK_EQ(timeouts(), before);
  CHECK(sent < size_t{512} * 1024);
  ::close(fd);
}

}  // namespace
}  // namespace weft
