// What an overloaded process has its engines shed, the cheapest first. What is under way is never cut. Decides nothing: the levels come
// from agent/proxy/overload/ (Reactor::set_overload()), and OverloadLevel of agent/native/engine.ts has the same values.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/counters.h"

namespace weft {

// Each does what those before it do, too.
enum class OverloadLevel : uint8_t {
  None,
  // Connections that rest, clients' and pooled ones, are closed, the oldest first; less is buffered.
  ShrinkIdle,
  // New connections wait in the kernel's queue.
  StopAcceptingConnections,
  // New requests are answered 503 with Retry-After.
  StopAcceptingRequests,
};

enum class OverloadReason : uint8_t {
#define X(identifier, name) identifier,
  WEFT_OVERLOAD_REASONS(X)
#undef X
      Count
};

// In the order of WEFT_SHED_COUNTERS.
enum class Shed : uint8_t { IdleClients, IdleUpstreams, Connections, Requests, Count };

constexpr Counter shed_counter(Shed what, OverloadReason why) {
  constexpr size_t kFirst = static_cast<size_t>(Counter::ShedIdleClientsMemory);
  static_assert(static_cast<size_t>(Counter::ShedRequestsLoopDelay) - kFirst + 1 ==
                static_cast<size_t>(Shed::Count) * static_cast<size_t>(OverloadReason::Count));
  return static_cast<Counter>(kFirst + static_cast<size_t>(why) * static_cast<size_t>(Shed::Count) + static_cast<size_t>(what));
}

}  // namespace weft
