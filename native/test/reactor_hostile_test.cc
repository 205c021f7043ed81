// Clients and upstreams that mean harm, or are only unlucky, against the whole reactor.
#include <sys/resource.h>
#include <time.h>

#include <vector>

#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::kGet;
using test::kOk;
using test::Peer1;

void spin_until_ms(uint64_t ms) {
  timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (static_cast<uint64_t>((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1'000'000) < ms);
}

TEST("hostile: a head that is whole in the very tick its time is up is decided like any other") {
  EngineLimits limits;
  limits.header_timeout_ms = 20;
  Bench bench(limits);
  Peer1 client(Peer1::dial(bench.port));
  client.send("GET / HTTP/1.1\r\n");
  bench.reactor->run_once(5);
  bench.reactor->run_once(5);
  spin_until_ms(60);
  client.send("Host: a.test\r\n\r\n");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
}

TEST("hostile: a head that is refused has a line in the access log, with what could be read of it") {
  const auto line_of = [](const std::string& bytes) {
    EngineLimits limits;
    limits.header_timeout_ms = 20;
    Bench bench(limits);
    // What the parser leaves of another's head is not this one's.
    bench.decide = [](int32_t) { return Bench::to(-404); };
    Peer1 before(Peer1::dial(bench.port));
    before.send("GET /before HTTP/1.1\r\nHost: before.test\r\nUser-Agent: before\r\n\r\n");
    CHECK(bench.run([&] { return before.has("\r\n\r\n"); }));
    Peer1 client(Peer1::dial(bench.port));
    client.send(bytes);
    CHECK(bench.run([&] { return client.has("\r\n\r\n"); }));
    CHECK_EQ(bench.counter(Counter::AccessLogRecords), 1.0);
    const std::string line = test::taken_lines(bench.access_log, sizeof(bench.access_log));
    CHECK(line.find("before") == std::string::npos);
    CHECK(line.find(R"("route":null,"source":null,"client":"127.0.0.1:)") != std::string::npos);
    CHECK(line.find("\"bytes_received\":" + std::to_string(bytes.size()) + ",\"bytes_sent\":" + std::to_string(client.received.size())) !=
          std::string::npos);
    return line;
  };
  const auto has = [&](const std::string& bytes, std::string_view parts) {
    const std::string line = line_of(bytes);
    if (line.find(parts) == std::string::npos) CHECK_EQ(line, std::string(parts));
  };
  has("GET /a?b HTTP/1.1\r\nHost: a.test\r\nUser-Agent: u\r\nContent-Length: x\r\n\r\n",
      R"("method":"GET","authority":"a.test","path":"/a?b","status":400,"response_flag":"DPE")");
  has("GET /a HTTP/1.1\r\nHost: a.test\r\nUser-Agent: u\r\nContent-Length: x\r\n\r\n", R"("user_agent":"u")");
  has("GET /\"\\ HTTP/1.1\r\nA\x01: b\r\n\r\n", R"("method":"GET","authority":"","path":"/\"\\","status":400,"response_flag":"DPE")");
  has("PUT /new HTTP/2.0\r\n\r\n", R"("method":"PUT","authority":"","path":"/new","status":505,"response_flag":"DPE")");
  has("\x16\x03\x01\x02 \r\n", R"("method":"other","authority":"","path":"","status":400,"response_flag":"DPE")");
  has("GET /late HTTP/1.1\r\nHost: a", R"("method":"GET","authority":"","path":"/late","status":408,"response_flag":"DT")");
}

TEST("hostile: a client that asks on and on but reads no answer costs no more than the bound") {
  EngineLimits limits;
  limits.max_buffered_bytes = 16 * 1024;
  Bench bench(limits);
  bench.decide = [](int32_t) { return Bench::to(-404); };
  Peer1 client(Peer1::dial(bench.port));
  std::string many;
  for (int i = 0; i < 1000; i++) many += kGet;
  size_t at = 0;
  // A tick answers a few of them; it is over when it answers no more.
  double seen = -1;
  for (int quiet = 0; quiet < 50 && seen < 200'000;) {
    const ssize_t count = ::send(client.fd, many.data() + at, many.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) at = (at + static_cast<size_t>(count)) % many.size();
    bench.reactor->run_once(0);
    quiet = bench.counter(Counter::Requests) > seen ? 0 : quiet + 1;
    seen = bench.counter(Counter::Requests);
  }
  const double answered = bench.counter(Counter::Requests);
  bench.reactor->run_once(1);
  // What the kernel buffers (a few MB of 60-byte answers), not what the client sends.
  CHECK(answered < 200'000);
  const size_t before = client.received.size();
  // It goes on once the client reads.
  CHECK(bench.run([&] { return client.read(), bench.counter(Counter::Requests) > answered; }));
  CHECK(client.received.size() > before);
}

TEST("hostile: bytes behind an answer that filled the read to its last byte never answer another request") {
  Bench bench;
  Peer1 first(Peer1::dial(bench.port));
  first.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  const int big = 8 << 20;
  setsockopt(upstream.fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
  // The kernel's receive window grows with what is read.
  const std::string large = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 900000\r\n\r\n" + std::string(900'000, 'b');
  for (int round = 0; round < 6; round++) {
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.received.clear();
    first.received.clear();
    upstream.send(large);
    CHECK(bench.run([&] { return first.read(), first.received.size() == large.size(); }));
    first.send(kGet);
  }
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  first.received.clear();
  std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 262000\r\nX-Pad: ";
  answer += std::string(Reactor::kReadScratch - answer.size() - 4 - 262000, 'p') + "\r\n\r\n" + std::string(262000, 'b');
  CHECK_EQ(answer.size(), Reactor::kReadScratch);
  answer += "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
  upstream.send(answer);
  CHECK(bench.run([&] { return first.read(), first.received.size() > 262000; }));
  Peer1 second(Peer1::dial(bench.port));
  second.send(kGet);
  for (int turn = 0; turn < 20; turn++) bench.reactor->run_once(2);
  CHECK(!second.has("forged"));
}

TEST("hostile: an upstream connection is used again after a large answer") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  const int big = 8 << 20;
  setsockopt(upstream.fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
  const std::string head = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 900000\r\n\r\n";
  for (int round = 0; round < 5; round++) {
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.received.clear();
    client.received.clear();
    upstream.send(head + std::string(900'000, 'b'));
    CHECK(bench.run([&] { return client.read(), client.received.size() == head.size() + 900'000; }));
    client.send(kGet);
  }
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
}

TEST("hostile: a head with a body beyond what may be kept is sent once, without keeping it") {
  EngineLimits limits;
  limits.max_buffered_bytes = 4096;
  Bench bench(limits);
  Peer1 client(Peer1::dial(bench.port));
  client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8000\r\n\r\n" + std::string(8000, 'b'));
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has(std::string(8000, 'b')); }));
  CHECK(upstream.has("POST / HTTP/1.1\r\nhost: a.test\r\n"));
}

TEST("hostile: a client that still sends hears the answer that came early") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  const std::string piece(1 << 20, 'b');
  const auto push = [&] {
    for (int i = 0; i < 8; i++) ::send(client.fd, piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  };
  push();
  upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
  upstream.close();
  for (int turn = 0; turn < 60; turn++) {
    bench.reactor->run_once(1);
    push();
  }
  CHECK(client.has("413 Content Too Large"));
  CHECK(client.has("big"));
  CHECK(!client.reset);
}

TEST(
    "hostile: a client that goes within a body which its upstream does not take is missed at once; a whole body in the socket is not "
    "lost") {
  for (const bool whole : {false, true}) {
    EngineLimits limits;
    limits.max_buffered_bytes = 4096;
    Bench bench(limits);
    Peer1 client(Peer1::dial(bench.port));
    // More than the kernel keeps on the upstream's side.
    constexpr size_t kBody = 16 << 20;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: " + std::to_string(kBody) + "\r\n\r\n");
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    const std::string piece(1 << 16, 'b');
    size_t left = kBody;
    const auto push = [&] {
      const ssize_t sent = ::send(client.fd, piece.data(), std::min(piece.size(), left), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) left -= static_cast<size_t>(sent);
    };
    const auto take_until = [&](size_t rest) {
      for (int turn = 0; turn < 20'000 && left > rest; turn++) push(), upstream.read(), bench.reactor->run_once(0);
      return left <= rest;
    };
    if (whole) {
      CHECK(take_until(100'000));
      for (int turn = 0; turn < 1000 && left != 0; turn++) push(), bench.reactor->run_once(0);
    } else {
      // Until the upstream takes no more, and a piece lies in the socket.
      const auto waits = [&] { return bench.reactor->tenants().get(1, TenantWord::BufferedBytes) > 0; };
      for (int turn = 0; turn < 2000 && !waits(); turn++) push(), bench.reactor->run_once(0), bench.reactor->run_once(0);
      CHECK(waits());
      push();
    }
    CHECK_EQ(left == 0, whole);
    shutdown(client.fd, SHUT_WR);
    if (!whole) {
      CHECK(bench.run([&] { return bench.outstanding[0] == 0; }));
      CHECK(bench.run([&] { return upstream.read(), upstream.ended || upstream.reset; }));
      continue;
    }
    bench.run([&] { return upstream.read(), upstream.received.size() > kBody; });
    CHECK(upstream.received.size() > kBody);
  }
}

TEST("hostile: a slow but moving reader gets the end of an answer that closes, a stuck one a reset and not a short answer") {
  EngineLimits limits;
  limits.idle_timeout_ms = limits.stream_idle_timeout_ms = 60;
  Bench bench(limits);
  Peer1 client(socket(AF_INET, SOCK_STREAM, 0));
  const int small = 4096;
  setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(bench.port);
  connect(client.fd, reinterpret_cast<sockaddr*>(&name), sizeof(name));
  client.send("GET / HTTP/1.0\r\n\r\n");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  const int big = 8 << 20;
  setsockopt(upstream.fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
  fcntl(upstream.fd, F_SETFL, 0);
  const std::string body(1'000'000, 'b');
  const std::string head = "HTTP/1.0 200 OK\r\n\r\n";
  fcntl(upstream.fd, F_SETFL, O_NONBLOCK);
  size_t sent = 0;
  const std::string all = head + body;
  // The client reads 20 kB every few ms: longer than the idle timeout in all, never that long without a byte.
  size_t received = 0;
  std::vector<char> bytes(40'000);
  for (int turn = 0; turn < 3000 && !client.ended && !client.reset; turn++) {
    if (sent < all.size()) {
      const ssize_t count = ::send(upstream.fd, all.data() + sent, all.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count > 0) sent += static_cast<size_t>(count);
      if (sent == all.size()) upstream.close();
    }
    bench.reactor->run_once(2);
    const ssize_t count = recv(client.fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count > 0) received += static_cast<size_t>(count);
    client.ended = count == 0;
    client.reset = count < 0 && errno == ECONNRESET;
  }
  CHECK(client.ended);
  CHECK(received > body.size());
}

TEST("hostile: an upstream that takes requests and never answers is waited for no longer than the stream's idle timeout") {
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 60;
  Bench bench(limits);
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return client.has("504 Gateway Timeout"); }));
  CHECK(bench.run([&] { return upstream.read(), upstream.ended || upstream.reset; }));
  // An interim answer is a sign of life, a head that is not finished is no answer.
  client.received.clear();
  client.send(kGet);
  Peer1 slow(accept_upstream(bench));
  uint64_t begun = bench.reactor->now_ms();
  bench.run([&] { return bench.reactor->now_ms() > begun + 40; });
  slow.send("HTTP/1.1 102 \r\n\r\nHTTP/1.1 200 OK\r\nX: ");
  CHECK(bench.run([&] { return client.has("102"); }));
  begun = bench.reactor->now_ms();
  CHECK(bench.run([&] { return client.has("504"); }));
  CHECK(bench.reactor->now_ms() >= begun + 50);
  CHECK_EQ(bench.counter(Counter::TimeoutsAnswer), 2.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("hostile: an answer that rests is given up by the idle timeout if its client has gone behind a pipelined request, else not") {
  for (const bool leaves : {true, false}) {
    EngineLimits limits;
    limits.stream_idle_timeout_ms = 60;
    Bench bench(limits);
    Peer1 client(Peer1::dial(bench.port));
    client.send(std::string(kGet) + kGet);
    if (leaves) shutdown(client.fd, SHUT_WR);
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    CHECK(bench.run([&] { return client.has("\r\n\r\no"); }));
    const uint64_t begun = bench.reactor->now_ms();
    const bool ended =
        bench.run([&] { return upstream.read(), upstream.ended || upstream.reset || bench.reactor->now_ms() > begun + 200; });
    CHECK(ended);
    CHECK_EQ(upstream.ended || upstream.reset, leaves);
    CHECK_EQ(bench.counter(Counter::TimeoutsIdle), leaves ? 1.0 : 0.0);
  }
}

TEST("hostile: an upstream that does not take an upload is given up; one whose route has a timeout has that long") {
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 60;
  limits.max_buffered_bytes = 16 * 1024;
  Bench bench(limits);
  const std::string head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n";
  Peer1 client(Peer1::dial(bench.port));
  client.send(head);
  Peer1 upstream(accept_upstream(bench));
  const std::string piece(65536, 'u');
  auto upload = [&] { ::send(client.fd, piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT); };
  CHECK(bench.run([&] { return upload(), client.has("504"); }));
  CHECK_EQ(bench.counter(Counter::TimeoutsAnswer), 1.0);
  bench.decide = [](int32_t) {
    Decision decision = Bench::to(0);
    decision.timeout_ms = 200;
    return decision;
  };
  Peer1 patient(Peer1::dial(bench.port));
  patient.send(kGet);
  Peer1 silent(accept_upstream(bench));
  const uint64_t begun = bench.reactor->now_ms();
  CHECK(bench.run([&] { return patient.has("504"); }));
  CHECK(bench.reactor->now_ms() >= begun + 150);
  CHECK_EQ(bench.counter(Counter::TimeoutsRequest), 1.0);
}

TEST("hostile: out of descriptors it closes new connections at once, answers those it has, and accepts again") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  Peer1 waiting(Peer1::dial(bench.port));
  waiting.send(kGet);
  rlimit before = {};
  getrlimit(RLIMIT_NOFILE, &before);
  const int next = dup(0);
  ::close(next);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(next);
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  CHECK(bench.run([&] { return waiting.read(), waiting.ended || waiting.reset; }));
  CHECK_EQ(bench.counter(Counter::ShedConnectionsDescriptors), 1.0);
  const double ticks = bench.counter(Counter::Ticks);
  for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(20);
  // It does not spin on the queue.
  CHECK(bench.counter(Counter::AcceptPausedNoDescriptors) <= 3);
  CHECK(bench.counter(Counter::Ticks) - ticks <= 3);
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
  // Without a descriptor for an upstream connection the request is answered, and given back.
  bench.decide = [](int32_t) { return Bench::to(1); };
  client.send(kGet);
  CHECK(bench.run([&] { return client.has("503"); }));
  CHECK_EQ(bench.outstanding[0] + bench.outstanding[1], 0);
  setrlimit(RLIMIT_NOFILE, &before);
  Peer1 later(Peer1::dial(bench.port));
  later.send(kGet);
  CHECK(bench.run([&] { return later.has("503"); }));
}

TEST("hostile: what an opaque server said before its reset is not lost") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.opaque_port));
  Peer1 upstream(accept_upstream(bench));
  client.send("unread");
  for (int turn = 0; turn < 5; turn++) bench.reactor->run_once(2);
  upstream.send("last words");
  upstream.close();
  CHECK(bench.run([&] { return client.read(), client.reset; }));
  CHECK(client.has("last words"));
}

TEST("hostile: a head of an answer that drips in is read in linear time, and bounded") {
  EngineLimits limits;
  limits.max_head_bytes = 65536;
  Bench bench(limits);
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send("HTTP/1.1 200 OK\r\nX: ");
  for (int i = 0; i < 65536 && !client.has("502"); i++) {
    ::send(upstream.fd, "xxxxxxxx", 8, MSG_NOSIGNAL);
    bench.reactor->run_once(0);
  }
  CHECK(client.has("502"));
}

TEST("hostile: more interim answers than anyone needs end the exchange") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  std::string flood;
  for (int i = 0; i < 100; i++) flood += "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
  upstream.send(flood);
  CHECK(bench.run([&] { return client.has("502"); }));
  CHECK_EQ(bench.counter(Counter::Responses1xx), 16.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("reactor: many clients that go before their answer leave no ports in TIME_WAIT: their upstreams hear a reset, those of a few an end") {
  Bench bench;
  int resets = 0;
  // As many as it takes within a second.
  for (int i = 0; i < 1'000 && resets == 0; i++) {
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    Peer1 upstream(test::accept_upstream(bench));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    client.close();
    CHECK(bench.run([&] { return upstream.read(), upstream.reset || upstream.ended; }));
    CHECK(!upstream.reset || i >= 64);
    if (upstream.reset) resets++;
  }
  CHECK_EQ(resets, 1);
  CHECK_EQ(bench.counter(Counter::UpstreamOpen), 0.0);
}

}  // namespace
}  // namespace weft
