// The reactor's parts on their own: slab, timer wheel, byte queue, upstream pool, access log ring.
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "core/access_log.h"
#include "core/body_relay.h"
#include "core/byte_queue.h"
#include "core/slab.h"
#include "core/timer_wheel.h"
#include "core/upstream_pool.h"

namespace weft {
namespace {

struct Timer : TimerNode {
  int fired = 0;
};

bool count(void*, TimerNode* node) {
  static_cast<Timer*>(node)->fired++;
  return true;
}

TEST("slab: a released handle is stale, its slot is used again, its item lives until reap") {
  static int alive = 0;
  struct Item {
    Item() { alive++; }
    ~Item() { alive--; }
  };
  Slab<Item> slab;
  const Handle first = slab.add(new Item);
  CHECK(slab.get(first) != nullptr);
  slab.release(first);
  slab.release(first);
  CHECK(slab.get(first) == nullptr);
  CHECK_EQ(alive, 1);
  const Handle second = slab.add(new Item);
  CHECK_EQ(second.slot, first.slot);
  CHECK(second.generation != first.generation);
  slab.reap();
  CHECK_EQ(alive, 1);
  CHECK_EQ(slab.size(), size_t{1});
}

TEST("timer wheel: fires at its time or one slot later, never early, over many turns of the wheel") {
  TimerWheel wheel(1'000);
  for (const uint64_t after : {1u, 15u, 16u, 17u, 1'000u, 16'383u, 16'384u, 50'000u}) {
    TimerWheel fresh(1'000);
    Timer timer;
    fresh.schedule(&timer, 1'000 + after);
    fresh.advance(1'000 + after - 1, count, nullptr);
    CHECK_EQ(timer.fired, 0);
    fresh.advance(1'000 + after + 2 * TimerWheel::kSlotMs, count, nullptr);
    CHECK_EQ(timer.fired, 1);
    CHECK(!timer.is_scheduled());
  }
}

TEST("timer wheel: a deadline moved later, moved sooner, and cancelled") {
  TimerWheel wheel(0);
  Timer later, sooner, cancelled;
  wheel.schedule(&later, 100);
  wheel.schedule(&later, 1'000);
  wheel.schedule(&sooner, 1'000);
  wheel.schedule(&sooner, 100);
  wheel.schedule(&cancelled, 100);
  wheel.cancel(&cancelled);
  CHECK(wheel.next_timeout_ms(0) <= 112);
  wheel.advance(500, count, nullptr);
  CHECK_EQ(later.fired, 0);
  CHECK_EQ(sooner.fired, 1);
  wheel.advance(2'000, count, nullptr);
  CHECK_EQ(later.fired, 1);
  CHECK_EQ(cancelled.fired, 0);
  CHECK_EQ(wheel.next_timeout_ms(2'000), -1);
}

TEST("timer wheel: a callback may schedule itself and cancel its neighbour; a long sleep loses nothing") {
  struct Pair {
    TimerWheel wheel{0};
    Timer first, second;
  } pair;
  pair.wheel.schedule(&pair.first, 10);
  pair.wheel.schedule(&pair.second, 10);
  pair.wheel.advance(
      100'000'000,
      [](void* context, TimerNode* node) {
        auto* both = static_cast<Pair*>(context);
        static_cast<Timer*>(node)->fired++;
        both->wheel.cancel(node == &both->first ? &both->second : &both->first);
        both->wheel.schedule(node, 100'000'050);
        return true;
      },
      &pair);
  CHECK_EQ(pair.first.fired + pair.second.fired, 1);
  pair.wheel.advance(100'000'100, count, nullptr);
  CHECK_EQ(pair.first.fired + pair.second.fired, 2);
}

TEST("timer wheel: one that is told no more goes on with the next call, and says that it is due; what was moved meanwhile is not") {
  TimerWheel wheel(0);
  Timer timers[4];
  for (Timer& timer : timers) wheel.schedule(&timer, 10);
  const auto one = [](void*, TimerNode* node) {
    static_cast<Timer*>(node)->fired++;
    return false;
  };
  wheel.advance(100, one, nullptr);
  CHECK_EQ(timers[0].fired, 1);
  CHECK_EQ(timers[1].fired, 0);
  CHECK_EQ(wheel.next_timeout_ms(100), 0);
  wheel.cancel(&timers[1]);
  wheel.schedule(&timers[2], 1'000);
  wheel.advance(100, count, nullptr);
  CHECK_EQ(timers[3].fired, 1);
  CHECK_EQ(timers[1].fired + timers[2].fired, 0);
  wheel.advance(2'000, count, nullptr);
  CHECK_EQ(timers[2].fired, 1);
  CHECK_EQ(wheel.next_timeout_ms(2'000), -1);
}

TEST("byte queue: keeps order over growth and consumption, and holds nothing when empty") {
  ByteQueue queue;
  std::string expected;
  for (int i = 0; i < 1'000; i++) {
    const std::string piece(static_cast<size_t>(i % 97), static_cast<char>('a' + i % 26));
    queue.append(piece.data(), piece.size());
    expected += piece;
    const size_t take = std::min<size_t>(queue.size(), static_cast<size_t>(i % 53));
    CHECK(take == 0 || memcmp(queue.data(), expected.data(), take) == 0);
    queue.consume(take);
    expected.erase(0, take);
  }
  CHECK_EQ(queue.size(), expected.size());
  queue.consume(queue.size());
  CHECK(queue.empty());
}

TEST("upstream pool: newest first, a target's group goes with its last connection") {
  UpstreamPool pool;
  UpstreamTarget one, other;
  one.endpoint = 1;
  other.endpoint = 1;
  other.connect.bind_source = true;
  other.connect.source.bytes[15] = 9;
  UpstreamPool::Group* group = pool.group(one);
  PoolLink links[3];
  for (PoolLink& link : links) {
    pool.opened(group);
    pool.put(group, &link);
  }
  CHECK(pool.take(pool.group(other)) == nullptr);
  pool.drop_if_unused(pool.group(other));
  CHECK_EQ(pool.groups(), size_t{1});
  CHECK(pool.take(group) == &links[2]);
  pool.remove(group, &links[0]);
  CHECK(pool.take(group) == &links[1]);
  CHECK(pool.take(group) == nullptr);
  for (int i = 0; i < 3; i++) pool.closed(group);
  CHECK_EQ(pool.groups(), size_t{0});
  // Not the one that went, though it was asked for last.
  CHECK_EQ(pool.group(one)->open, 0u);
  pool.drop_if_unused(pool.group(one));
  CHECK_EQ(pool.groups(), size_t{0});
}

TEST("access log: records come out whole over many turns of the ring; a full ring drops and counts") {
  std::vector<uint64_t> memory((kAccessLogHeaderBytes + 4096) / 8);
  auto* bytes = reinterpret_cast<uint8_t*>(memory.data());
  auto* words = reinterpret_cast<uint32_t*>(bytes);
  CHECK(!AccessLog(bytes, kAccessLogHeaderBytes + 4000).valid());
  AccessLog log(bytes, kAccessLogHeaderBytes + 4096);
  CHECK(log.valid());
  uint32_t read = 0;
  int seen = 0;
  for (int i = 0; i < 1'000; i++) {
    AccessLogRecord record;
    record.kind = kAccessLogHttp1;
    record.token = i;
    const std::string path(static_cast<size_t>(i % 300), 'p');
    CHECK(log.write(record, {path, "host", "agent", "id", "message", "spiffe://td/x"}));
    while (read != words[0]) {
      AccessLogRecord found;
      const uint8_t* at = bytes + kAccessLogHeaderBytes + read % 4096;
      memcpy(&found, at, std::min<size_t>(sizeof(found), 4096 - read % 4096));
      if (found.kind == kAccessLogHttp1) {
        CHECK_EQ(found.token, seen++);
        CHECK_EQ(std::string(reinterpret_cast<const char*>(at) + sizeof(found) + found.path_length, 4), "host");
      }
      read += found.size;
    }
    words[1] = read;
  }
  CHECK_EQ(seen, 1'000);
  int written = 0;
  while (log.write(AccessLogRecord{}, {"path", "host", "", "", "", ""})) written++;
  CHECK(written >= 20);
  CHECK_EQ(words[2], 1u);
}

TEST("body relay: a chunked body comes out the same however it is split, and de-chunks") {
  const std::string body = "5\r\nhello\r\n1;x=y\r\n \r\n00a\r\n0123456789\r\n0\r\n\r\n";
  for (const http1::Framing to : {http1::Framing::kChunked, http1::Framing::kUntilClose}) {
    for (size_t step = 1; step <= body.size(); step++) {
      http1::BodyReader reader(http1::BodyFraming{http1::Framing::kChunked, 0});
      std::string out;
      bool done = false;
      for (size_t at = 0; at < body.size(); at += step) {
        const size_t size = std::min(step, body.size() - at);
        std::vector<uint8_t> scratch(body_relay_capacity(size));
        const BodyTransfer part =
            relay_body(&reader, http1::Framing::kChunked, to, reinterpret_cast<const uint8_t*>(body.data()) + at, size, scratch.data());
        CHECK(!part.invalid);
        CHECK_EQ(part.consumed, size);
        out.append(reinterpret_cast<const char*>(part.bytes), part.size);
        done = part.done;
      }
      CHECK(done);
      if (to == http1::Framing::kUntilClose) CHECK_EQ(out, "hello 0123456789");
      if (to == http1::Framing::kChunked) CHECK(out.size() >= 5 && out.substr(out.size() - 5) == "0\r\n\r\n");
    }
  }
}

}  // namespace
}  // namespace weft
