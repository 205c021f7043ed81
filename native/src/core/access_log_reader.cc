// Reads whole records only: the writer says how far it is when one is complete.
#include "core/access_log_reader.h"

#include <cstring>

#include "core/access_log.h"

namespace weft {

namespace {
constexpr int kWritten = 0;
constexpr int kRead = 1;
// Of a record: nothing, up to the end of the ring.
constexpr uint32_t kFiller = 0;
}  // namespace

AccessLogReader::AccessLogReader(uint8_t* memory, size_t bytes)
    : words_(reinterpret_cast<uint32_t*>(memory)),
      data_(memory + kAccessLogHeaderBytes),
      mask_(static_cast<uint32_t>(bytes - kAccessLogHeaderBytes) - 1),
      read_(words_[kRead]),
      written_(__atomic_load_n(&words_[kWritten], __ATOMIC_ACQUIRE)) {}

const uint8_t* AccessLogReader::next() {
  while (read_ != written_) {
    const uint8_t* at = data_ + (read_ & mask_);
    uint32_t head[2];
    memcpy(head, at, sizeof(head));
    if (head[1] != kFiller) return at;
    advance(head[0]);
  }
  return nullptr;
}

void AccessLogReader::release() {
  uint32_t size;
  memcpy(&size, data_ + (read_ & mask_), sizeof(size));
  advance(size);
}

void AccessLogReader::advance(uint32_t size) {
  read_ += size;
  __atomic_store_n(&words_[kRead], read_, __ATOMIC_RELEASE);
}

}  // namespace weft
