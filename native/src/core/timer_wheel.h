// Coarse timers in O(1): an intrusive hashed wheel. A timer fires at its deadline or up to one slot (kSlotMs) late, never early.
// Moving a deadline later costs one store: the node is looked at when its old slot comes round and put where it then belongs.
#pragma once
#include <cstddef>
#include <cstdint>

namespace weft {

class TimerNode {
 public:
  TimerNode() = default;
  TimerNode(const TimerNode&) = delete;
  TimerNode& operator=(const TimerNode&) = delete;
  bool is_scheduled() const { return next_ != nullptr; }
  uint64_t deadline_ms() const { return deadline_ms_; }

 private:
  friend class TimerWheel;
  TimerNode* previous_ = nullptr;
  TimerNode* next_ = nullptr;
  uint64_t deadline_ms_ = 0;
  // The slot time at which the wheel will look at the node; ≤ the deadline's.
  uint64_t visit_ = 0;
};

// What the reactor's wheel holds.
class Timer : public TimerNode {
 public:
  virtual void on_timer() = 0;
  // What would have moved the deadline has come, and waits for its turn.
  virtual bool is_held_up() const { return false; }

 protected:
  ~Timer() = default;
};

class TimerWheel {
 public:
  static constexpr uint64_t kSlotMs = 16;
  static constexpr size_t kSlots = 1024;
  // False: no more now.
  using Expired = bool (*)(void* context, TimerNode* node);

  explicit TimerWheel(uint64_t now_ms);
  // Replaces the node's deadline.
  void schedule(TimerNode* node, uint64_t deadline_ms) {
    node->deadline_ms_ = deadline_ms;
    if (!node->is_scheduled() || node->visit_ * kSlotMs > deadline_ms) relink(node);
  }
  void cancel(TimerNode* node) {
    if (node->is_scheduled()) unlink(node);
  }
  // Calls `expired` for each node whose deadline has come, or until it says no more: the next call goes on there. It may schedule and
  // cancel any node.
  void advance(uint64_t now_ms, Expired expired, void* context);
  // Ms until the next slot that holds a node; -1 without one.
  int next_timeout_ms(uint64_t now_ms) const;

 private:
  void relink(TimerNode* node);
  void link(TimerNode* node);
  static void unlink(TimerNode* node);

  uint64_t slot_time_;
  TimerNode slots_[kSlots];
  // Of the slot whose time it is, what was not looked at yet: taken off first, so that what is put back is not seen again at once.
  TimerNode due_;
};

}  // namespace weft
