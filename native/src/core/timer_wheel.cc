// The wheel's lists; knows nothing of what its nodes time.
#include "core/timer_wheel.h"

namespace weft {

TimerWheel::TimerWheel(uint64_t now_ms) : slot_time_(now_ms / kSlotMs) {
  for (TimerNode& slot : slots_) slot.previous_ = slot.next_ = &slot;
}

void TimerWheel::unlink(TimerNode* node) {
  node->previous_->next_ = node->next_;
  node->next_->previous_ = node->previous_;
  node->previous_ = node->next_ = nullptr;
}

void TimerWheel::link(TimerNode* node) {
  uint64_t due = (node->deadline_ms_ + kSlotMs - 1) / kSlotMs;
  if (due <= slot_time_) due = slot_time_ + 1;
  if (due >= slot_time_ + kSlots) due = slot_time_ + kSlots - 1;
  node->visit_ = due;
  TimerNode* slot = &slots_[due % kSlots];
  node->previous_ = slot->previous_;
  node->next_ = slot;
  slot->previous_->next_ = node;
  slot->previous_ = node;
}

void TimerWheel::relink(TimerNode* node) {
  cancel(node);
  link(node);
}

void TimerWheel::advance(uint64_t now_ms, Expired expired, void* context) {
  const uint64_t target = now_ms / kSlotMs;
  uint64_t steps = target > slot_time_ ? target - slot_time_ : 0;
  if (steps > kSlots) {
    slot_time_ = target - kSlots;
    steps = kSlots;
  }
  for (; steps > 0; steps--) {
    slot_time_++;
    TimerNode* slot = &slots_[slot_time_ % kSlots];
    // Taken off first: nodes that are put back must not be seen again in this step.
    TimerNode due;
    if (slot->next_ == slot) continue;
    due.next_ = slot->next_;
    due.previous_ = slot->previous_;
    due.next_->previous_ = &due;
    due.previous_->next_ = &due;
    slot->previous_ = slot->next_ = slot;
    while (due.next_ != &due) {
      TimerNode* node = due.next_;
      unlink(node);
      if (node->deadline_ms_ <= now_ms) {
        expired(context, node);
      } else {
        link(node);
      }
    }
  }
}

int TimerWheel::next_timeout_ms(uint64_t now_ms) const {
  for (uint64_t ahead = 1; ahead < kSlots; ahead++) {
    const TimerNode* slot = &slots_[(slot_time_ + ahead) % kSlots];
    if (slot->next_ == slot) continue;
    const uint64_t due_ms = (slot_time_ + ahead) * kSlotMs;
    return due_ms > now_ms ? static_cast<int>(due_ms - now_ms) : 0;
  }
  return -1;
}

}  // namespace weft
