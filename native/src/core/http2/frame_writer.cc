// Writing frames, and what SETTINGS say.
#include <algorithm>
#include <cstring>

#include "core/http2/frame.h"

namespace weft::http2 {
namespace {

uint8_t* store32(uint32_t value, uint8_t* out) {
  value = __builtin_bswap32(value);
  memcpy(out, &value, sizeof(value));
  return out + sizeof(value);
}

FrameFault apply_setting(uint16_t id, uint32_t value, Role sender, Settings* settings) {
  switch (static_cast<SettingId>(id)) {
    case SettingId::kHeaderTableSize:
      settings->header_table_size = value;
      break;
    case SettingId::kEnablePush:
      // RFC 9113 6.5.2: a server never announces it with 1.
      if (value > 1 || (value == 1 && sender == Role::kServer)) return FrameFault::kSettingValue;
      settings->enable_push = value == 1;
      break;
    case SettingId::kMaxConcurrentStreams:
      settings->max_concurrent_streams = value;
      break;
    case SettingId::kInitialWindowSize:
      if (value > kMaxWindow) return FrameFault::kSettingWindow;
      settings->initial_window_size = value;
      break;
    case SettingId::kMaxFrameSize:
      if (value < 16384 || value > 0xffffff) return FrameFault::kSettingValue;
      settings->max_frame_size = value;
      break;
    case SettingId::kMaxHeaderListSize:
      settings->max_header_list_size = value;
      break;
    case SettingId::kEnableConnectProtocol:
      // RFC 8441 3: never taken back.
      if (value > 1 || (value == 0 && settings->enable_connect_protocol)) return FrameFault::kSettingValue;
      settings->enable_connect_protocol = value == 1;
      break;
  }
  return FrameFault::kNone;
}

}  // namespace

const char* error_code_name(ErrorCode code) {
  switch (code) {
#define WEFT_X(name, text, number) \
  case ErrorCode::k##name:         \
    return text;
    WEFT_HTTP2_ERROR_CODES(WEFT_X)
#undef WEFT_X
  }
  return "UNKNOWN";
}

FrameFault apply_settings(const uint8_t* payload, size_t size, Role sender, Settings* settings) {
  for (size_t at = 0; at + kSettingBytes <= size; at += kSettingBytes) {
    const uint8_t* entry = payload + at;
    const auto id = static_cast<uint16_t>(entry[0] << 8 | entry[1]);
    uint32_t value;
    memcpy(&value, entry + 2, sizeof(value));
    const FrameFault fault = apply_setting(id, __builtin_bswap32(value), sender, settings);
    if (fault != FrameFault::kNone) return fault;
  }
  return FrameFault::kNone;
}

uint8_t* write_frame_header(uint32_t length, FrameType type, uint8_t flags, uint32_t stream, uint8_t* out) {
  store32(length << 8, out);
  out[3] = static_cast<uint8_t>(type);
  out[4] = flags;
  return store32(stream, out + 5);
}

uint8_t* write_settings(const Setting* settings, size_t count, uint8_t* out) {
  out = write_frame_header(static_cast<uint32_t>(count * kSettingBytes), FrameType::kSettings, 0, 0, out);
  for (size_t i = 0; i < count; i++) {
    const auto id = static_cast<uint16_t>(settings[i].id);
    *out++ = static_cast<uint8_t>(id >> 8);
    *out++ = static_cast<uint8_t>(id);
    out = store32(settings[i].value, out);
  }
  return out;
}

uint8_t* write_settings_ack(uint8_t* out) { return write_frame_header(0, FrameType::kSettings, kFlagAck, 0, out); }

uint8_t* write_ping(uint64_t opaque, bool ack, uint8_t* out) {
  out = write_frame_header(8, FrameType::kPing, ack ? kFlagAck : 0, 0, out);
  memcpy(out, &opaque, sizeof(opaque));
  return out + sizeof(opaque);
}

uint8_t* write_rst_stream(uint32_t stream, ErrorCode code, uint8_t* out) {
  return store32(static_cast<uint32_t>(code), write_frame_header(4, FrameType::kRstStream, 0, stream, out));
}

uint8_t* write_window_update(uint32_t stream, uint32_t increment, uint8_t* out) {
  return store32(increment, write_frame_header(4, FrameType::kWindowUpdate, 0, stream, out));
}

uint8_t* write_goaway(uint32_t last_stream, ErrorCode code, std::string_view debug, uint8_t* out) {
  out = write_frame_header(static_cast<uint32_t>(8 + debug.size()), FrameType::kGoaway, 0, 0, out);
  out = store32(static_cast<uint32_t>(code), store32(last_stream, out));
  if (!debug.empty()) memcpy(out, debug.data(), debug.size());
  return out + debug.size();
}

uint8_t* write_headers(uint32_t stream, bool end_stream, size_t block_size, uint32_t max_frame_size, uint8_t* out) {
  const size_t frames = frames_of(block_size, max_frame_size);
  // From the last, so that nothing is overwritten before it has moved.
  for (size_t i = frames; i-- > 0;) {
    const size_t begin = i * max_frame_size;
    const size_t length = std::min<size_t>(block_size - begin, max_frame_size);
    uint8_t* head = out + i * (max_frame_size + kFrameHeaderBytes);
    if (i != 0) memmove(head + kFrameHeaderBytes, out + kFrameHeaderBytes + begin, length);
    uint8_t flags = i + 1 == frames ? kFlagEndHeaders : 0;
    if (i == 0 && end_stream) flags |= kFlagEndStream;
    write_frame_header(static_cast<uint32_t>(length), i == 0 ? FrameType::kHeaders : FrameType::kContinuation, flags, stream, head);
  }
  return out + headers_bytes(block_size, max_frame_size);
}

}  // namespace weft::http2
