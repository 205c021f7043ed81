// HTTP/2 frames as text, both ways, for goldens. One line a frame, "TYPE STREAM [FLAG…][: payload]"; behind HEADERS, CONTINUATION and
// PUSH_PROMISE indented lines, joined: "name: value" (a literal), "+ name: value" (a literal that is indexed) or escaped bytes. Payloads of
// SETTINGS ("3=100"), RST_STREAM ("CANCEL"), WINDOW_UPDATE ("100") and GOAWAY ("1 NO_ERROR why") are read for what they mean, unless they
// begin with a backslash; all others are escaped bytes. "PREFACE" and "RAW: bytes" are no frames.
#pragma once

#include <map>
#include <sstream>
#include <string>
#include <string_view>

#include "check.h"
#include "core/http2/frame.h"
#include "core/http2/hpack_decoder.h"
#include "transcript.h"

namespace weft::test {

inline constexpr const char* kFrameNames[] = {"DATA",         "HEADERS", "PRIORITY", "RST_STREAM",    "SETTINGS",
                                              "PUSH_PROMISE", "PING",    "GOAWAY",   "WINDOW_UPDATE", "CONTINUATION"};

inline std::string big_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; i--) text += static_cast<char>(value >> (8 * i));
  return text;
}

inline uint32_t error_code_of(const std::string& name) {
  for (uint32_t code = 0; code < 14; code++) {
    if (name == http2::error_code_name(static_cast<http2::ErrorCode>(code))) return code;
  }
  fail("goldens", 0, "no error code " + name);
  return 0;
}

/// Text to bytes.
class FrameScript {
 public:
  /// The bytes of all lines of `text`.
  static std::string bytes_of(const std::string& text) {
    FrameScript script;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) line.rfind("  ", 0) == 0 ? script.field(line.substr(2)) : script.frame(line);
    script.end_frame();
    return script.bytes_;
  }

 private:
  void field(const std::string& line) {
    if (line[0] == '\\') return void(payload_ += unescaped(line));
    const bool is_indexed = line.rfind("+ ", 0) == 0;
    const std::string text = is_indexed ? line.substr(2) : line;
    // Behind the colon that a pseudo-header field's name begins with.
    const size_t colon = text.find(':', 1);
    const std::string name = text.substr(0, colon);
    const std::string value = colon + 2 < text.size() ? unescaped(text.substr(colon + 2)) : "";
    payload_ += is_indexed ? '\x40' : '\0';
    payload_ += static_cast<char>(name.size());
    payload_ += name;
    payload_ += static_cast<char>(value.size());
    payload_ += value;
  }

  void frame(const std::string& line) {
    end_frame();
    if (line == "PREFACE") return void(bytes_ += http2::kClientPreface);
    const size_t colon = line.find(": ");
    const std::string payload = colon == std::string::npos ? "" : line.substr(colon + 2);
    if (line.rfind("RAW: ", 0) == 0) return void(bytes_ += unescaped(payload));
    std::istringstream words(line.substr(0, colon));
    std::string name, flag;
    words >> name >> stream_;
    type_ = type_of(name);
    flags_ = 0;
    while (words >> flag) flags_ |= flag_of(flag);
    payload_ = payload.empty() || payload[0] == '\\' ? unescaped(payload) : payload_of(name, payload);
    is_open_ = true;
  }

  static uint8_t type_of(const std::string& name) {
    for (uint8_t type = 0; type < std::size(kFrameNames); type++) {
      if (name == kFrameNames[type]) return type;
    }
    return static_cast<uint8_t>(strtoul(name.c_str(), nullptr, 16));
  }
  static uint8_t flag_of(const std::string& name) {
    if (name == "END_STREAM" || name == "ACK") return http2::kFlagEndStream;
    if (name == "END_HEADERS") return http2::kFlagEndHeaders;
    if (name == "PADDED") return http2::kFlagPadded;
    if (name == "PRIORITY") return http2::kFlagPriority;
    return static_cast<uint8_t>(strtoul(name.c_str(), nullptr, 16));
  }
  static std::string payload_of(const std::string& type, const std::string& text) {
    std::istringstream words(text);
    std::string word, bytes;
    if (type == "RST_STREAM") return big_endian(error_code_of(text), 4);
    if (type == "WINDOW_UPDATE") return big_endian(strtoul(text.c_str(), nullptr, 10), 4);
    if (type == "SETTINGS") {
      while (words >> word)
        bytes += big_endian(strtoul(word.c_str(), nullptr, 10), 2) + big_endian(strtoul(word.c_str() + word.find('=') + 1, nullptr, 10), 4);
      return bytes;
    }
    if (type != "GOAWAY") return unescaped(text);
    words >> word;
    bytes = big_endian(strtoul(word.c_str(), nullptr, 10), 4);
    words >> word;
    bytes += big_endian(error_code_of(word), 4);
    return words >> word ? bytes + word : bytes;
  }

  void end_frame() {
    if (!is_open_) return;
    is_open_ = false;
    bytes_ += big_endian(payload_.size(), 3) + static_cast<char>(type_) + static_cast<char>(flags_) + big_endian(stream_, 4) + payload_;
  }

  std::string bytes_;
  std::string payload_;
  uint32_t stream_ = 0;
  uint8_t type_ = 0;
  uint8_t flags_ = 0;
  bool is_open_ = false;
};

/// Bytes to text: what one end of a connection reads. Streams stand behind each other, each in its own order, so that the text does not
/// depend on how they interleave. Left out: the peer's first SETTINGS, the first window of the connection, a server's first request, and
/// Date.
class FrameTranscript {
 public:
  /// `role` is that of the reader.
  explicit FrameTranscript(http2::Role role) : parser_(role, {}), role_(role) {}

  void feed(std::string_view bytes) {
    kept_ += bytes;
    for (size_t at = 0;;) {
      http2::Frame frame;
      const http2::FrameStep step = parser_.next(reinterpret_cast<const uint8_t*>(kept_.data()) + at, kept_.size() - at, &frame);
      at += step.consumed;
      CHECK(step.status != http2::FrameStatus::kFault);
      if (step.status != http2::FrameStatus::kFrame) return void(kept_.erase(0, at));
      show(frame);
    }
  }
  bool has_request() const { return streams_.count(1) != 0; }
  std::string text() const {
    std::string all;
    for (const auto& [stream, lines] : streams_) all += lines;
    return all;
  }

 private:
  void show(const http2::Frame& frame) {
    using http2::FrameType;
    std::string& text = streams_[frame.stream];
    const bool is_opening = (frame.type == FrameType::kSettings && !frame.has(http2::kFlagAck)) ||
                            (frame.type == FrameType::kWindowUpdate && frame.stream == 0) ||
                            (frame.type == FrameType::kHeaders && role_ == http2::Role::kServer);
    const int bit = 1 << static_cast<int>(frame.type);
    if (is_opening && (seen_ & bit) == 0) {
      seen_ |= bit;
      if (frame.type == FrameType::kHeaders) fields_of(frame);
      return;
    }
    text += std::string(kFrameNames[static_cast<size_t>(frame.type)]) + " " + std::to_string(frame.stream);
    const bool is_message = frame.type == FrameType::kData || frame.type == FrameType::kHeaders;
    if (is_message && frame.has(http2::kFlagEndStream)) text += " END_STREAM";
    if (!is_message && frame.has(http2::kFlagAck)) text += " ACK";
    const std::string payload = payload_of(frame);
    text += payload.empty() ? "\n" : ": " + payload + "\n";
    if (frame.type == FrameType::kHeaders) text += fields_of(frame);
  }
  std::string fields_of(const http2::Frame& frame) {
    std::string text;
    http2::HeaderBlock block(&table_);
    CHECK(decoder_.decode(frame.payload, frame.size, {}, &block) == http2::HpackFault::kNone);
    for (const http2::HeaderField& field : block) {
      if (block.name(field) == "date") continue;
      text += "  " + std::string(block.name(field)) + ": " + escaped(block.value(field)) + "\n";
    }
    return text;
  }
  static std::string payload_of(const http2::Frame& frame) {
    const std::string_view bytes(reinterpret_cast<const char*>(frame.payload), frame.size);
    switch (frame.type) {
      case http2::FrameType::kHeaders:
        return "";
      case http2::FrameType::kRstStream:
        return http2::error_code_name(static_cast<http2::ErrorCode>(http2::rst_stream_code(frame)));
      case http2::FrameType::kWindowUpdate:
        return std::to_string(http2::window_increment(frame));
      case http2::FrameType::kGoaway: {
        const http2::Goaway away = http2::goaway(frame);
        const std::string head = std::to_string(away.last_stream) + " " + http2::error_code_name(static_cast<http2::ErrorCode>(away.code));
        return away.debug.empty() ? head : head + " " + std::string(away.debug);
      }
      default:
        return escaped(bytes);
    }
  }

  http2::InternTable table_;
  http2::HpackDecoder decoder_{&table_};
  http2::FrameParser parser_;
  http2::Role role_;
  std::string kept_;
  std::map<uint32_t, std::string> streams_;
  int seen_ = 0;
};

}  // namespace weft::test
