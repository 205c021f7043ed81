// Frames: what a parser says of a stream is the same at any cut; what is written reads back.
#include <string>

#include "check.h"
#include "core/http2/frame.h"
#include "http2_support.h"

namespace weft::test {
namespace {

using namespace http2;

std::string frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string bytes(kFrameHeaderBytes, 0);
  write_frame_header(static_cast<uint32_t>(payload.size()), static_cast<FrameType>(type), flags, stream,
                     reinterpret_cast<uint8_t*>(bytes.data()));
  return bytes.append(payload);
}

std::string shown_frame(const Frame& frame) {
  std::string text = std::to_string(static_cast<int>(frame.type)) + "/" + std::to_string(frame.flags) + " " + std::to_string(frame.stream);
  text += " [" + std::string(reinterpret_cast<const char*>(frame.payload), frame.size) + "] wire " + std::to_string(frame.wire_size);
  if (frame.type == FrameType::kData) text += " flow " + std::to_string(frame.flow_size);
  if (frame.continuations != 0) text += " +" + std::to_string(frame.continuations);
  if (frame.stream_error != ErrorCode::kNoError) text += std::string(" ") + error_code_name(frame.stream_error);
  return text + "\n";
}

/// What a parser says of `bytes`, given in pieces of `piece` from `first` on, as a connection gives them.
std::string read(std::string_view bytes, size_t first, size_t piece, Role role, const FrameLimits& limits) {
  FrameParser parser(role, limits);
  std::string text, pending;
  for (size_t given = 0; given < bytes.size();) {
    const size_t take = std::min(given == 0 ? first : piece, bytes.size() - given);
    pending.append(bytes.substr(given, take));
    given += take;
    for (;;) {
      // Exactly as long as it says, for the address sanitizer.
      const std::vector<uint8_t> exact(pending.begin(), pending.end());
      Frame frame;
      const FrameStep step = parser.next(exact.data(), exact.size(), &frame);
      if (step.status == FrameStatus::kFault) return text + frame_fault_name(step.fault);
      if (step.status == FrameStatus::kFrame) text += shown_frame(frame);
      pending.erase(0, step.consumed);
      if (step.status == FrameStatus::kMore) break;
    }
  }
  return text + (pending.empty() && !parser.in_block() ? "end" : "more");
}

std::string parsed(const std::string& bytes, Role role = Role::kServer, const FrameLimits& limits = {}) {
  const std::string whole = read(bytes, bytes.size(), 1, role, limits);
  for (size_t cut = 1; cut < bytes.size(); cut++) CHECK_EQ(read(bytes, cut, bytes.size(), role, limits), whole);
  CHECK_EQ(read(bytes, 1, 1, role, limits), whole);
  return whole;
}

const std::string kSettingsFrame = frame(4, 0, 0, "");
/// After what must come first.
std::string after_start(const std::string& frames, const FrameLimits& limits = {}) {
  const std::string start = "4/0 0 [] wire 9\n";
  const std::string text = parsed(std::string(kClientPreface) + kSettingsFrame + frames, Role::kServer, limits);
  CHECK(text.starts_with(start));
  return text.substr(std::min(start.size(), text.size()));
}

TEST("a client's preface and SETTINGS come first, a server's SETTINGS too") {
  CHECK_EQ(parsed("GET / HTTP/1.1\r\n\r\n"), "preface");
  CHECK_EQ(parsed("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"), "preface");
  CHECK_EQ(parsed(std::string(kClientPreface)), "end");
  CHECK_EQ(parsed(std::string(kClientPreface) + frame(6, 0, 0, "12345678")), "first_not_settings");
  CHECK_EQ(parsed(std::string(kClientPreface) + frame(4, 1, 0, "")), "first_not_settings");
  CHECK_EQ(parsed(frame(4, 0, 0, "") + frame(6, 1, 0, "12345678"), Role::kClient), "4/0 0 [] wire 9\n6/1 0 [12345678] wire 17\nend");
}

TEST("DATA without its padding, counted with it") {
  CHECK_EQ(after_start(frame(0, 1, 1, "abc")), "0/1 1 [abc] wire 12 flow 3\nend");
  CHECK_EQ(after_start(frame(0, 8, 1, std::string("\2abc\0\0", 6))), "0/8 1 [abc] wire 15 flow 6\nend");
  CHECK_EQ(after_start(frame(0, 8, 1, std::string("\0", 1))), "0/8 1 [] wire 10 flow 1\nend");
  CHECK_EQ(after_start(frame(0, 8, 1, "\4abc")), "padding");
  CHECK_EQ(after_start(frame(0, 8, 1, "")), "frame_size");
  CHECK_EQ(after_start(frame(0, 0, 0, "abc")), "stream_zero");
}

TEST("HEADERS join their CONTINUATIONs, and nothing comes between") {
  CHECK_EQ(after_start(frame(1, 5, 1, "abc")), "1/5 1 [abc] wire 12\nend");
  CHECK_EQ(after_start(frame(1, 1, 1, "a") + frame(9, 0, 1, "") + frame(9, 4, 1, "bc") + frame(0, 0, 1, "")),
           "1/5 1 [abc] wire 30 +2\n0/0 1 [] wire 9 flow 0\nend");
  CHECK_EQ(after_start(frame(1, 0, 1, "a") + frame(0, 0, 1, "")), "block_interrupted");
  CHECK_EQ(after_start(frame(1, 0, 1, "a") + frame(9, 4, 3, "")), "block_interrupted");
  CHECK_EQ(after_start(frame(1, 0, 1, "a") + frame(77, 4, 1, "")), "block_interrupted");
  CHECK_EQ(after_start(frame(1, 4, 1, "a") + frame(9, 4, 1, "")), "1/4 1 [a] wire 10\ncontinuation_alone");
  CHECK_EQ(after_start(frame(1, 0, 1, "a")), "more");
  CHECK_EQ(after_start(frame(1, 0x2c, 1, std::string("\1\0\0\0\3\x10xyz\0", 10))), "1/44 1 [xyz] wire 19\nend");
  CHECK_EQ(after_start(frame(1, 0x24, 1, std::string("\0\0\0\1\x10xyz", 8))), "1/36 1 [xyz] wire 17 PROTOCOL_ERROR\nend");
  CHECK_EQ(after_start(frame(1, 0x24, 1, "abcd")), "frame_size");
  CHECK_EQ(after_start(frame(1, 0x2c, 1, std::string("\3\0\0\0\3\x10", 6))), "padding");
}

TEST("blocks are bounded in bytes and in frames") {
  std::string flood = frame(1, 0, 1, "");
  for (int i = 0; i < 16; i++) flood += frame(9, 0, 1, "");
  CHECK_EQ(after_start(flood), "more");
  CHECK_EQ(after_start(flood + frame(9, 0, 1, "")), "too_many_continuations");
  FrameLimits small;
  small.max_block_bytes = 4;
  CHECK_EQ(after_start(frame(1, 0, 1, "abc") + frame(9, 4, 1, "d"), small), "1/4 1 [abcd] wire 22 +1\nend");
  CHECK_EQ(after_start(frame(1, 0, 1, "abc") + frame(9, 4, 1, "de"), small), "block_too_long");
  CHECK_EQ(after_start(frame(1, 4, 1, "abcde"), small), "block_too_long");
}

TEST("sizes and streams of all the others") {
  CHECK_EQ(after_start(frame(2, 0, 1, std::string("\0\0\0\3\x10", 5))), std::string("2/0 1 [\0\0\0\3\x10] wire 14\nend", 25));
  CHECK(after_start(frame(2, 0, 1, "abcd")).find("FRAME_SIZE_ERROR") != std::string::npos);
  CHECK(after_start(frame(2, 0, 3, std::string("\0\0\0\3\x10", 5))).find("PROTOCOL_ERROR") != std::string::npos);
  CHECK_EQ(after_start(frame(2, 0, 0, "abcde")), "stream_zero");
  CHECK_EQ(after_start(frame(3, 0, 1, "abc")), "frame_size");
  CHECK_EQ(after_start(frame(3, 0, 0, "abcd")), "stream_zero");
  CHECK_EQ(after_start(frame(4, 0, 1, "")), "stream_not_zero");
  CHECK_EQ(after_start(frame(4, 0, 0, "abcde")), "frame_size");
  CHECK_EQ(after_start(frame(4, 1, 0, "abcdef")), "settings_ack_size");
  CHECK_EQ(after_start(frame(5, 4, 1, "abcd")), "push_promise");
  CHECK_EQ(after_start(frame(6, 0, 0, "1234567")), "frame_size");
  CHECK_EQ(after_start(frame(6, 0, 1, "12345678")), "stream_not_zero");
  CHECK_EQ(after_start(frame(7, 0, 0, "1234567")), "frame_size");
  CHECK_EQ(after_start(frame(7, 0, 1, "12345678")), "stream_not_zero");
  CHECK_EQ(after_start(frame(8, 0, 0, std::string(4, 0))), "window_increment_zero");
  CHECK(after_start(frame(8, 0, 1, std::string(4, 0))).find("PROTOCOL_ERROR") != std::string::npos);
  CHECK_EQ(after_start(frame(8, 0, 1, "abc")), "frame_size");
  CHECK_EQ(after_start(frame(9, 4, 1, "")), "continuation_alone");
  CHECK_EQ(after_start(frame(200, 0xff, 5, "x")), "200/255 5 [x] wire 10\nend");
  FrameLimits small;
  small.max_frame_bytes = 8;
  CHECK_EQ(after_start(frame(0, 0, 1, "123456789"), small), "frame_too_long");
}

TEST("settings are applied in order, and checked") {
  const auto apply = [](std::vector<Setting> list, Role sender, Settings* settings) {
    std::vector<uint8_t> bytes(kFrameHeaderBytes + list.size() * kSettingBytes);
    write_settings(list.data(), list.size(), bytes.data());
    return apply_settings(bytes.data() + kFrameHeaderBytes, bytes.size() - kFrameHeaderBytes, sender, settings);
  };
  Settings settings;
  CHECK_EQ(
      apply({{SettingId::kInitialWindowSize, 1}, {SettingId::kInitialWindowSize, 2}, {SettingId(0x99), 7}, {SettingId::kEnablePush, 0}},
            Role::kClient, &settings),
      FrameFault::kNone);
  CHECK(settings.initial_window_size == 2 && !settings.enable_push);
  CHECK_EQ(apply({{SettingId::kInitialWindowSize, 0x80000000u}}, Role::kClient, &settings), FrameFault::kSettingWindow);
  CHECK_EQ(frame_fault_code(FrameFault::kSettingWindow), ErrorCode::kFlowControlError);
  CHECK_EQ(apply({{SettingId::kMaxFrameSize, 16383}}, Role::kClient, &settings), FrameFault::kSettingValue);
  CHECK_EQ(apply({{SettingId::kMaxFrameSize, 1u << 24}}, Role::kClient, &settings), FrameFault::kSettingValue);
  CHECK_EQ(apply({{SettingId::kEnablePush, 2}}, Role::kClient, &settings), FrameFault::kSettingValue);
  CHECK_EQ(apply({{SettingId::kEnablePush, 1}}, Role::kServer, &settings), FrameFault::kSettingValue);
  CHECK_EQ(apply({{SettingId::kEnableConnectProtocol, 1}}, Role::kServer, &settings), FrameFault::kNone);
  CHECK_EQ(apply({{SettingId::kEnableConnectProtocol, 0}}, Role::kServer, &settings), FrameFault::kSettingValue);
}

TEST("frames that are written read back") {
  uint8_t out[256];
  const auto one = [&](uint8_t* end) {
    Frame frame;
    FrameParser parser(Role::kClient, {});
    CHECK_EQ(parser.next(data_of(kSettingsFrame), kSettingsFrame.size(), &frame).status, FrameStatus::kFrame);
    CHECK_EQ(parser.next(out, static_cast<size_t>(end - out), &frame).status, FrameStatus::kFrame);
    return frame;
  };
  CHECK(one(write_settings_ack(out)).has(kFlagAck));
  const Frame ping = one(write_ping(0x1122334455667788ull, true, out));
  CHECK(ping.has(kFlagAck) && ping_bytes(ping) == 0x1122334455667788ull);
  const Frame reset = one(write_rst_stream(7, ErrorCode::kEnhanceYourCalm, out));
  CHECK(reset.stream == 7 && rst_stream_code(reset) == 0xb);
  CHECK_EQ(window_increment(one(write_window_update(9, kMaxWindow, out))), kMaxWindow);
  const Goaway away = goaway(one(write_goaway(kMaxStreamId, ErrorCode::kNoError, "bye", out)));
  CHECK(away.last_stream == kMaxStreamId && away.code == 0 && away.debug == "bye");
  CHECK_EQ(std::string(error_code_name(ErrorCode{99})), "UNKNOWN");
}

TEST("a long block goes out in CONTINUATIONs of the peer's size") {
  for (const size_t size : {0u, 1u, 9u, 10u, 11u, 20u, 35u, 100u}) {
    std::string block;
    for (size_t i = 0; i < size; i++) block += static_cast<char>('a' + i % 26);
    std::vector<uint8_t> out(headers_bytes(size, 10));
    std::copy(block.begin(), block.end(), out.begin() + kFrameHeaderBytes);
    CHECK_EQ(write_headers(3, true, size, 10, out.data()) - out.data(), static_cast<long>(out.size()));
    FrameParser parser(Role::kClient, {});
    Frame frame;
    parser.next(data_of(kSettingsFrame), kSettingsFrame.size(), &frame);
    CHECK_EQ(parser.next(out.data(), out.size(), &frame).consumed, out.size());
    CHECK_EQ(std::string(reinterpret_cast<const char*>(frame.payload), frame.size), block);
    CHECK(frame.has(kFlagEndStream) && frame.stream == 3);
    CHECK_EQ(frame.continuations, size == 0 ? 0 : (size - 1) / 10);
  }
}

}  // namespace
}  // namespace weft::test
