// The memory of one tick: bytes received from sockets, valid until reset(). Owned by the batch region; frees nothing by itself.
#pragma once
#include <cstddef>
#include <cstdint>

namespace weft {

// Readable bytes that the head scanner may touch past the end of its input.
inline constexpr size_t kScanPadding = 64;

class Arena {
 public:
  Arena(uint8_t* memory, size_t bytes) : memory_(memory), bytes_(bytes) {}
  // Room for `bytes` and the scanner's padding, or null. Nothing is taken until commit().
  uint8_t* peek(size_t bytes) { return used_ + bytes + kScanPadding <= bytes_ ? memory_ + used_ : nullptr; }
  // Takes the first `bytes` of what peek() showed; the next allocation starts on its own cache line.
  void commit(size_t bytes) { used_ = (used_ + bytes + kScanPadding + 63) & ~size_t{63}; }
  int32_t offset(const uint8_t* pointer) const { return static_cast<int32_t>(pointer - memory_); }
  bool holds(const uint8_t* pointer) const { return pointer >= memory_ && pointer < memory_ + bytes_; }
  size_t used() const { return used_; }
  void reset() { used_ = 0; }

 private:
  uint8_t* memory_;
  size_t bytes_;
  size_t used_ = 0;
};

}  // namespace weft
