// Writes access log records into their ring; formats nothing and never blocks.
#include "core/access_log.h"

namespace weft {

namespace {
constexpr int kWritten = 0;
constexpr int kRead = 1;
constexpr int kDropped = 2;

// Its length then.
int32_t cut(std::string_view* text) {
  *text = text->substr(0, kAccessLogTextLimit);
  return static_cast<int32_t>(text->size());
}

uint8_t* append(uint8_t* out, std::string_view text) {
  if (!text.empty()) memcpy(out, text.data(), text.size());
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

bool AccessLog::write(AccessLogRecord record, AccessLogTexts texts) {
  record.path_length = cut(&texts.path);
  record.authority_length = cut(&texts.authority);
  record.user_agent_length = cut(&texts.user_agent);
  record.request_id_length = cut(&texts.request_id);
  record.grpc_message_length = cut(&texts.grpc_message);
  record.client_identity_length = cut(&texts.client_identity);
  const std::string_view all[] = {texts.path,       texts.authority,    texts.user_agent,
                                  texts.request_id, texts.grpc_message, texts.client_identity};
  size_t size = sizeof(record);
  for (const std::string_view text : all) size += text.size();
  record.size = static_cast<uint32_t>((size + 7) & ~size_t{7});
  uint8_t* out = record.size <= capacity_ ? reserve(record.size) : nullptr;
  if (out == nullptr) return false;
  memcpy(out, &record, sizeof(record));
  out += sizeof(record);
  for (const std::string_view text : all) out = append(out, text);
  __atomic_store_n(&words_[kWritten], words_[kWritten] + record.size, __ATOMIC_RELEASE);
  return true;
}

}  // namespace weft
