// What an overloaded reactor sheds, and that it recovers.
#include <sys/resource.h>

#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::kGet;
using test::kOk;
using test::Peer1;

uint64_t clock_ns_of_test = 0;
uint64_t shifted_clock() { return monotonic_ns() + clock_ns_of_test; }

double shed(const Bench& bench, Shed what, OverloadReason why) { return bench.counter(shed_counter(what, why)); }

TEST("overload: every counter of what was shed has the name of what and why") {
  CHECK_EQ(std::string(kCounterNames[static_cast<size_t>(shed_counter(Shed::IdleClients, OverloadReason::Memory))]),
           std::string("shed_idle_clients_memory"));
  CHECK_EQ(std::string(kCounterNames[static_cast<size_t>(shed_counter(Shed::Connections, OverloadReason::Descriptors))]),
           std::string("shed_connections_descriptors"));
  CHECK_EQ(std::string(kCounterNames[static_cast<size_t>(shed_counter(Shed::Requests, OverloadReason::LoopDelay))]),
           std::string("shed_requests_loop_delay"));
}

TEST("overload: connections that rest are closed, clients' and pooled ones; those at work and those just used are not") {
  Bench bench({}, shifted_clock);
  Peer1 resting(Peer1::dial(bench.port));
  resting.send(kGet);
  Peer1 pooled(accept_upstream(bench));
  CHECK(bench.run([&] { return pooled.has("\r\n\r\n"); }));
  pooled.send(kOk);
  CHECK(bench.run([&] { return resting.has("ok"); }));
  bench.decide = [](int32_t) { return Bench::to(0); };
  Peer1 busy(Peer1::dial(bench.port));
  // Takes the pooled connection.
  busy.send(kGet);
  pooled.received.clear();
  CHECK(bench.run([&] { return pooled.has("\r\n\r\n"); }));
  // Two seconds later: `resting` rests, `busy` waits for its answer.
  clock_ns_of_test += 2'000'000'000;
  bench.reactor->run_once(0);
  Peer1 young(Peer1::dial(bench.port));
  CHECK(bench.run([&] { return bench.reactor->open_downstream() == 3; }));
  bench.reactor->set_overload(OverloadLevel::ShrinkIdle, OverloadReason::Memory);
  CHECK(bench.run([&] { return resting.read(), resting.ended; }));
  CHECK_EQ(bench.reactor->open_downstream(), 2u);
  CHECK_EQ(shed(bench, Shed::IdleClients, OverloadReason::Memory), 1.0);
  CHECK_EQ(shed(bench, Shed::IdleUpstreams, OverloadReason::Memory), 0.0);
  pooled.send(kOk);
  CHECK(bench.run([&] { return busy.has("ok"); }));
  young.send(kGet);
  pooled.received.clear();
  CHECK(bench.run([&] { return pooled.has("\r\n\r\n"); }));
  pooled.send(kOk);
  CHECK(bench.run([&] { return young.has("ok"); }));
  // Now all rest.
  clock_ns_of_test += 2'000'000'000;
  bench.reactor->run_once(0);
  bench.reactor->set_overload(OverloadLevel::ShrinkIdle, OverloadReason::Descriptors);
  CHECK_EQ(bench.reactor->open_downstream(), 0u);
  CHECK_EQ(shed(bench, Shed::IdleClients, OverloadReason::Descriptors), 2.0);
  CHECK_EQ(shed(bench, Shed::IdleUpstreams, OverloadReason::Descriptors), 1.0);
  CHECK_EQ(bench.counter(Counter::UpstreamIdleOpen), 0.0);
}

TEST("overload: a request that waits in the socket keeps its resting connection") {
  Bench bench({}, shifted_clock);
  bench.decide = [](int32_t) { return Bench::to(-204); };
  Peer1 client(Peer1::dial(bench.port));
  CHECK(bench.run([&] { return bench.reactor->open_downstream() == 1; }));
  clock_ns_of_test += 2'000'000'000;
  bench.reactor->run_once(0);
  client.send(kGet);
  bench.reactor->set_overload(OverloadLevel::ShrinkIdle, OverloadReason::Memory);
  CHECK(bench.run([&] { return client.has("204"); }));
  CHECK_EQ(shed(bench, Shed::IdleClients, OverloadReason::Memory), 0.0);
}

TEST("overload: new connections wait until it is over, those that are open go on") {
  Bench bench;
  bench.decide = [](int32_t) { return Bench::to(-204); };
  Peer1 open(Peer1::dial(bench.port));
  CHECK(bench.run([&] { return bench.reactor->open_downstream() == 1; }));
  bench.reactor->set_overload(OverloadLevel::StopAcceptingConnections, OverloadReason::Descriptors);
  Peer1 waiting(Peer1::dial(bench.port));
  waiting.send(kGet);
  open.send(kGet);
  CHECK(bench.run([&] { return open.has("204"); }));
  for (int turn = 0; turn < 5; turn++) bench.reactor->run_once(0);
  CHECK_EQ(bench.reactor->open_downstream(), 1u);
  CHECK(!waiting.has("204"));
  bench.reactor->set_overload(OverloadLevel::ShrinkIdle, OverloadReason::Descriptors);
  CHECK(bench.run([&] { return waiting.has("204"); }));
}

TEST("overload: new requests are answered 503 with Retry-After, one under way is not touched, and it recovers") {
  Bench bench;
  Peer1 early(Peer1::dial(bench.port));
  Peer1 late(Peer1::dial(bench.port));
  early.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  CHECK(bench.run([&] { return bench.reactor->open_downstream() == 2; }));
  bench.reactor->set_overload(OverloadLevel::StopAcceptingRequests, OverloadReason::LoopDelay);
  late.send(kGet);
  CHECK(bench.run([&] { return late.has("503") && late.has("retry-after: 1\r\n"); }));
  CHECK_EQ(shed(bench, Shed::Requests, OverloadReason::LoopDelay), 1.0);
  CHECK_EQ(bench.outstanding[0], 1);
  upstream.send(kOk);
  CHECK(bench.run([&] { return early.has("ok"); }));
  bench.reactor->set_overload(OverloadLevel::None, OverloadReason::LoopDelay);
  late.received.clear();
  upstream.received.clear();
  late.send(kGet);
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return late.has("ok"); }));
}

TEST("overload: heads that are not whole are refused as whole ones are, and nobody waits for the rest") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  CHECK(bench.run([&] { return bench.reactor->open_downstream() == 1; }));
  bench.reactor->set_overload(OverloadLevel::StopAcceptingRequests, OverloadReason::Memory);
  client.send("GET / HTTP/1.1\r\nHost: a\r\n");
  CHECK(bench.run([&] { return client.has("503") && client.has("retry-after: 1\r\n") && client.ended; }));
  CHECK_EQ(shed(bench, Shed::Requests, OverloadReason::Memory), 1.0);
}

TEST("overload: less waits for a slow reader") {
  EngineLimits limits;
  limits.max_buffered_bytes = 1024 * 1024;
  Bench bench(limits);
  CHECK_EQ(bench.reactor->buffer_bytes(0), 1024u * 1024u);
  bench.reactor->set_overload(OverloadLevel::ShrinkIdle, OverloadReason::Memory);
  CHECK_EQ(bench.reactor->buffer_bytes(0), 256u * 1024u);
  bench.reactor->set_overload(OverloadLevel::StopAcceptingConnections, OverloadReason::Memory);
  CHECK_EQ(bench.reactor->buffer_bytes(0), 16u * 1024u);
  bench.reactor->set_overload(OverloadLevel::None, OverloadReason::Memory);
  CHECK_EQ(bench.reactor->buffer_bytes(0), 1024u * 1024u);
}

}  // namespace
}  // namespace weft
