// The head of an HTTP/1 message that waits for the first of its body, so that both leave in one system call. It lies in the reactor's head
// scratch until the next call, or is held by itself where nobody knows yet what comes.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "core/reactor.h"

namespace weft {

class StagedHead {
 public:
  // `size` bytes of the head scratch.
  void stage(size_t size) { size_ = static_cast<uint32_t>(size); }
  // More of the body comes soon: the head waits for it, with `bytes` of it, and the scratch is free. False: no head waits, or enough does.
  bool hold(Reactor* reactor, const void* bytes, size_t size) {
    const size_t waiting = is_held() ? held_->size() : size_;
    if (waiting == 0 || waiting + size > Reactor::kCopyBelow) return false;
    if (!is_held()) held_ = std::make_unique<std::string>(reactor->head_scratch(), std::exchange(size_, 0));
    if (size != 0) held_->append(static_cast<const char*>(bytes), size);
    return true;
  }
  bool is_held() const { return held_ != nullptr; }

  // `send(first, first_size, second, second_size)` with the head, if one waits, before `bytes`; its result, true where there is nothing.
  template <typename Send>
  bool send_with(Reactor* reactor, const void* bytes, size_t size, Send send) {
    if (is_held()) {
      const auto head = std::move(held_);
      return send(head->data(), head->size(), bytes, size);
    }
    if (size_ == 0) return size == 0 || send(bytes, size, nullptr, 0);
    char* out = reactor->head_scratch();
    const size_t head = std::exchange(size_, 0);
    if (size > Reactor::kCopyBelow || head + size > Reactor::kHeadScratch) return send(out, head, bytes, size);
    if (size != 0) memcpy(out + head, bytes, size);
    return send(out, head + size, nullptr, 0);
  }

 private:
  uint32_t size_ = 0;
  std::unique_ptr<std::string> held_;
};

}  // namespace weft
