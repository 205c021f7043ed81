// What a client connection that rests takes of memory, all told: the aim of docs/benchmarks.md is at most 256 bytes.
#include <malloc.h>

#include "core/downstream_http1.h"
#include "loopback.h"

#if !WEFT_RECYCLES
extern "C" size_t __sanitizer_get_current_allocated_bytes();
#endif

namespace weft {
namespace {

using test::Bench;
using test::kGet;

constexpr size_t kConnections = 400;
// malloc's own of each allocation, which AddressSanitizer does not count.
constexpr size_t kMallocBytes = 8;
// Room in the tables that grow by doubling.
constexpr size_t kTableBytes = 32;

size_t allocated_bytes() {
#if WEFT_RECYCLES
  return mallinfo2().uordblks;
#else
  return __sanitizer_get_current_allocated_bytes();
#endif
}

// Connections that have had an answer and rest.
struct Resting {
  Bench bench;
  int fds[kConnections];
  size_t count = 0;

  Resting() {
    bench.decide = [](int32_t) { return Bench::to(-204); };
  }
  ~Resting() {
    while (count > 0) ::close(fds[--count]);
  }
  void ask(const std::string& text, double answers) {
    fds[count] = test::dial(bench.port);
    CHECK_EQ(::send(fds[count++], text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    CHECK(bench.run([&] { return bench.counter(Counter::Requests) == answers; }));
  }
};

TEST("idle connection: one that was answered takes at most 256 bytes, tables and malloc's own with it") {
  static_assert(sizeof(DownstreamHttp1) + kMallocBytes + kTableBytes <= 256);
  Resting resting;
  resting.ask(kGet, 1);
  const size_t before = allocated_bytes();
  for (double answered = 1; resting.count < kConnections;) resting.ask(kGet, ++answered);
  CHECK_EQ(resting.bench.reactor->open_downstream(), static_cast<uint32_t>(kConnections));
  CHECK((allocated_bytes() - before) / (kConnections - 1) + kMallocBytes <= 256);
}

}  // namespace
}  // namespace weft
