// What clients may do slowly or in crumbs before their request is one: each has a limit, and a counter that tells of it.
#include "http2_loopback.h"

namespace weft {
namespace {

using test::Bench;
using test::dial;
using test::Http2Bench;
using test::Peer1;
using test::Peer2;

uint16_t listen_behind_proxies(Bench* bench) {
  ListenerSpec spec;
  spec.id = 3;
  parse_address("127.0.0.1", &spec.address);
  spec.proxy_protocol = true;
  std::string error;
  return static_cast<uint16_t>(bench->reactor->listen(spec, &error));
}

// Why they were refused that were since the last call.
std::string refusals(Bench* bench) {
  std::string reasons;
  for (const FailureNote& note : bench->reactor->take_failures().proxy_headers) {
    CHECK(note.downstream && note.peer.port != 0 && note.local.port != 0);
    reasons += (reasons.empty() ? "" : " ") + std::string(note.reason);
  }
  return reasons;
}

TEST("opening: a PROXY header that drips in has the header timeout as a whole, and is counted") {
  EngineLimits limits;
  limits.header_timeout_ms = 60;
  Bench bench(limits);
  Peer1 client(Peer1::dial(listen_behind_proxies(&bench)));
  const std::string header = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n";
  const uint64_t began = bench.reactor->now_ms();
  size_t sent = 0;
  // Every byte comes well within the time that a first one would have.
  while (!client.ended && !client.reset && bench.reactor->now_ms() < began + 5'000) {
    if (sent < header.size() - 1) (void)!::send(client.fd, &header[sent++], 1, MSG_NOSIGNAL);
    bench.reactor->run_once(10);
    client.read();
  }
  CHECK(client.ended || client.reset);
  CHECK_EQ(bench.counter(Counter::TimeoutsHeader), 1.0);
  CHECK_EQ(bench.counter(Counter::OpeningsRefusedProxy), 1.0);
  CHECK_EQ(refusals(&bench), "timed-out");
  CHECK_EQ(bench.reactor->open_downstream(), uint32_t{0});
}

TEST("opening: who has begun a request, were it by a byte, has the time of a head, not of a connection that rests") {
  EngineLimits limits;
  limits.header_timeout_ms = 60;
  for (const std::string& begin : {"G", "GET ", "P", "PRI * HTTP/2.0"}) {
    Bench bench(limits);
    Peer1 client(Peer1::dial(bench.listen(7, Protocol::kHttp)));
    client.send(begin);
    CHECK(bench.run([&] { return client.read(), client.ended || client.reset; }));
    // To a client of HTTP/2 an answer would be no frame.
    CHECK_EQ(client.has("HTTP/1.1 408 "), begin[0] == 'G');
    CHECK_EQ(client.received.empty(), begin[0] == 'P');
    CHECK_EQ(bench.counter(Counter::TimeoutsHeader), 1.0);
    CHECK_EQ(bench.counter(Counter::TimeoutsIdle), 0.0);
  }
}

TEST("opening: a connection without the PROXY header that it must begin with is closed, counted, and noted with why") {
  const std::string second_version("\r\n\r\n\0\r\nQUIT\n\x21\x11", 14);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {test::kGet, "absent"},
      {"PROXY TCP4 nobody\r\n", "malformed"},
      {second_version + "\xff\xff", "too-long"},
      {second_version + std::string("\0\x0c", 2), "truncated"},
  };
  Bench bench;
  const uint16_t port = listen_behind_proxies(&bench);
  for (const auto& [begin, reason] : cases) {
    Peer1 client(Peer1::dial(port));
    client.send(begin);
    if (reason == "truncated") shutdown(client.fd, SHUT_WR);
    CHECK(bench.run([&] { return client.read(), client.ended || client.reset; }));
    CHECK(client.received.empty());
    CHECK_EQ(refusals(&bench), reason);
  }
  CHECK_EQ(bench.counter(Counter::OpeningsRefusedProxy), static_cast<double>(cases.size()));
}

TEST("opening: of refused PROXY headers no more are noted than a log could want, and all are counted") {
  Bench bench;
  const uint16_t port = listen_behind_proxies(&bench);
  for (size_t i = 0; i < FailureNotes::kMost + 1; i++) {
    Peer1 client(Peer1::dial(port));
    client.send(test::kGet);
    CHECK(bench.run([&] { return client.read(), client.ended || client.reset; }));
  }
  CHECK_EQ(bench.counter(Counter::OpeningsRefusedProxy), static_cast<double>(FailureNotes::kMost + 1));
  CHECK_EQ(bench.reactor->take_failures().proxy_headers.size(), FailureNotes::kMost);
  CHECK(bench.reactor->take_failures().proxy_headers.empty());
}

TEST("opening: cookie crumbs are bounded in number and in what they would make together, before an HTTP/1 server sees them") {
  EngineLimits limits;
  limits.max_headers = 50;
  limits.max_head_bytes = 4096;
  Http2Bench bench(limits, Protocol::kHttp1);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  uint32_t id = 1;
  const auto ask = [&](size_t crumbs, size_t size) {
    std::vector<std::pair<std::string, std::string>> fields = {
        {":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}};
    for (size_t i = 0; i < crumbs; i++) fields.emplace_back("cookie", "c" + std::to_string(i) + "=" + std::string(size, 'x'));
    client.raw(client.headers(id, fields, true));
    return std::exchange(id, id + 2);
  };
  for (const auto& [crumbs, size] : {std::pair<size_t, size_t>{60, 1}, {40, 150}}) {
    const uint32_t refused = ask(crumbs, size);
    CHECK(bench.run([&] { return client.at(refused).ended || client.at(refused).resets == 1; }));
    CHECK_EQ(client.at(refused).fields[":status"], "431");
  }
  CHECK_EQ(bench.counter(Counter::RequestsRefusedHeadSize), 2.0);
  CHECK_EQ(bench.decided, 0);
  ask(40, 10);
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  const size_t first = upstream.received.find("cookie: ");
  CHECK(first != std::string::npos && upstream.received.find("cookie: ", first + 1) == std::string::npos);
}

}  // namespace
}  // namespace weft
