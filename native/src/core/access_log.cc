// Writes access log records into their ring; formats nothing and never blocks.
#include "core/access_log.h"

namespace weft {

namespace {
constexpr int kWritten = 0;
constexpr int kRead = 1;
constexpr int kDropped = 2;

std::string_view cut(std::string_view text) { return text.substr(0, kAccessLogTextLimit); }

uint8_t* append(uint8_t* out, std::string_view text) {
  memcpy(out, text.data(), text.size());
  return out + text.size();
}
}  // namespace

AccessLog::AccessLog(uint8_t* memory, size_t bytes) {
  if (memory == nullptr || bytes < kAccessLogHeaderBytes + 4096 || bytes > (1u << 31)) return;
  const size_t capacity = bytes - kAccessLogHeaderBytes;
  if ((capacity & (capacity - 1)) != 0 || (reinterpret_cast<uintptr_t>(memory) & 7) != 0) return;
  words_ = reinterpret_cast<uint32_t*>(memory);
  data_ = memory + kAccessLogHeaderBytes;
  capacity_ = static_cast<uint32_t>(capacity);
}

uint8_t* AccessLog::reserve(uint32_t size) {
  uint32_t written = words_[kWritten];
  const uint32_t read = __atomic_load_n(&words_[kRead], __ATOMIC_ACQUIRE);
  const uint32_t offset = written & (capacity_ - 1);
  const uint32_t filler = capacity_ - offset < size ? capacity_ - offset : 0;
  const uint32_t used = written - read;
  if (used > capacity_ || capacity_ - used < filler + size) {
    __atomic_add_fetch(&words_[kDropped], 1, __ATOMIC_RELAXED);
    return nullptr;
  }
  if (filler != 0) {
    const uint32_t head[2] = {filler, 0};
    memcpy(data_ + offset, head, sizeof(head));
    __atomic_store_n(&words_[kWritten], written + filler, __ATOMIC_RELEASE);
    return data_;
  }
  return data_ + offset;
}

bool AccessLog::write(AccessLogRecord record, std::string_view path, std::string_view authority, std::string_view user_agent,
                      std::string_view request_id) {
  path = cut(path);
  authority = cut(authority);
  user_agent = cut(user_agent);
  request_id = cut(request_id);
  record.path_length = static_cast<int32_t>(path.size());
  record.authority_length = static_cast<int32_t>(authority.size());
  record.user_agent_length = static_cast<int32_t>(user_agent.size());
  record.request_id_length = static_cast<int32_t>(request_id.size());
  const size_t text = path.size() + authority.size() + user_agent.size() + request_id.size();
  record.size = static_cast<uint32_t>((sizeof(record) + text + 7) & ~size_t{7});
  uint8_t* out = record.size <= capacity_ ? reserve(record.size) : nullptr;
  if (out == nullptr) return false;
  memcpy(out, &record, sizeof(record));
  out = append(out + sizeof(record), path);
  out = append(out, authority);
  out = append(out, user_agent);
  append(out, request_id);
  __atomic_store_n(&words_[kWritten], words_[kWritten] + record.size, __ATOMIC_RELEASE);
  return true;
}

}  // namespace weft
