// The wheel's lists; knows nothing of what its nodes time.
#include "core/timer_wheel.h"

#include <algorithm>

namespace weft {

TimerWheel::TimerWheel(uint64_t now_ms) : slot_time_(now_ms / kSlotMs) {
  for (TimerNode& slot : slots_) slot.previous_ = slot.next_ = &slot;
  due_.previous_ = due_.next_ = &due_;
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
  for (;;) {
    while (due_.next_ != &due_) {
      TimerNode* node = due_.next_;
      unlink(node);
      if (node->deadline_ms_ > now_ms) {
        link(node);
      } else if (!expired(context, node)) {
        return;
      }
    }
    if (slot_time_ >= target) return;
    slot_time_ = std::max(slot_time_ + 1, target - std::min(target, kSlots - 1));
    TimerNode* slot = &slots_[slot_time_ % kSlots];
    if (slot->next_ == slot) continue;
    due_.next_ = slot->next_;
    due_.previous_ = slot->previous_;
    due_.next_->previous_ = due_.previous_->next_ = &due_;
    slot->previous_ = slot->next_ = slot;
  }
}

int TimerWheel::next_timeout_ms(uint64_t now_ms) const {
  if (due_.next_ != &due_) return 0;
  for (uint64_t ahead = 1; ahead < kSlots; ahead++) {
    const TimerNode* slot = &slots_[(slot_time_ + ahead) % kSlots];
    if (slot->next_ == slot) continue;
    const uint64_t due_ms = (slot_time_ + ahead) * kSlotMs;
    return due_ms > now_ms ? static_cast<int>(due_ms - now_ms) : 0;
  }
  return -1;
}

}  // namespace weft
