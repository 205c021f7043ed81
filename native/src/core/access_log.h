// The ring of access log records: this worker writes, one reader on any thread takes them out. Full: the record is dropped and counted,
// traffic never waits for the log. The reader is in access_log_reader.h; TypeScript knows nothing of what is in it.
//
// Bytes 0..63: uint32 words written, read, dropped (positions count bytes and wrap at 2^32; the writer publishes `written` with release,
// the reader `read`). From byte 64: a power of two of bytes. A record never wraps: kind 0 is filler up to the end.
#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>

namespace weft {

inline constexpr uint32_t kAccessLogHeaderBytes = 64;

// Addresses are IPv6, IPv4 as v4-mapped. Text follows: path (with its query), authority (opaque: the server name), user agent, request id,
// grpc-message, client identity (its certificate's first URI, else DNS name, else subject); padded to 8 bytes. `started_ms`: Unix time.
struct AccessLogTexts {
  std::string_view path;
  std::string_view authority;
  std::string_view user_agent;
  std::string_view request_id;
  std::string_view grpc_message;
  std::string_view client_identity;
};
struct AccessLogRecord {
  uint32_t size = 0;
  uint32_t kind = 0;
  double started_ms = 0;
  uint64_t latency_us = 0;
  int32_t first_byte_us = -1;
  int32_t status = 0;
  int32_t reason = 0;
  int32_t target = 0;
  int32_t token = 0;
  int32_t route_id = -1;
  int32_t listener_id = 0;
  int32_t method = 0;
  int32_t attempts = 0;
  int32_t grpc_status = -1;
  double received = 0;
  double sent = 0;
  uint8_t client[16] = {};
  uint8_t destination[16] = {};
  uint8_t upstream[16] = {};
  int32_t client_port = 0;
  int32_t destination_port = 0;
  int32_t upstream_port = 0;
  int32_t path_length = 0;
  int32_t authority_length = 0;
  int32_t user_agent_length = 0;
  int32_t request_id_length = 0;
  int32_t grpc_message_length = 0;
  int32_t client_identity_length = 0;
  int32_t tls_version = 0;
};
static_assert(sizeof(AccessLogRecord) == 42 * 4);
inline constexpr uint32_t kAccessLogHttp1 = 1;
inline constexpr uint32_t kAccessLogOpaque = 2;
inline constexpr uint32_t kAccessLogHttp2 = 3;
// Longer texts are cut.
inline constexpr size_t kAccessLogTextLimit = 2048;

class AccessLog {
 public:
  AccessLog() = default;
  // `bytes` is kAccessLogHeaderBytes + a power of two ≥ 4096; valid() is false otherwise and nothing is written.
  AccessLog(uint8_t* memory, size_t bytes);
  bool valid() const { return data_ != nullptr; }
  // False: no room, counted in the ring. Fills size and the lengths.
  bool write(AccessLogRecord record, AccessLogTexts texts);

 private:
  uint8_t* reserve(uint32_t size);

  uint32_t* words_ = nullptr;
  uint8_t* data_ = nullptr;
  uint32_t capacity_ = 0;
};

}  // namespace weft
