// What is asked of weft-netns: one message (SOCK_SEQPACKET) a request, one an answer, in the order of the requests. Both ends are of one
// build: whoever asks was started by it.
#pragma once
#include <cstdint>

namespace weft::netns {

// kOpen: `count` TCP sockets of `family` in the network namespace whose descriptor comes along. kJoin: the descriptor that comes along is
// a channel like this one; it is not answered.
enum class Operation : uint8_t { kOpen = 1, kJoin = 2 };

// AF_INET and AF_INET6 as they go over the channel.
inline constexpr uint8_t kFamilyV4 = 4;
inline constexpr uint8_t kFamilyV6 = 6;

struct Request {
  Operation operation = Operation::kOpen;
  uint8_t family = kFamilyV4;
  uint8_t count = 1;
  uint8_t reserved = 0;
};
static_assert(sizeof(Request) == 4);

// The sockets come along: all or none.
struct Answer {
  // 0, or errno.
  int32_t error = 0;
};

inline constexpr uint8_t kMaxSockets = 8;
// Beyond which a channel that does not read is given up.
inline constexpr int kMaxInFlight = 64;
inline constexpr int kMaxChannels = 1024;

}  // namespace weft::netns
