// Frame streams: the same frames and the same fault at any cut, payloads within what was given, blocks within their limits.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/http2/frame.h"
#include "http1_fuzz.h"

using namespace weft;
using namespace weft::http2;

namespace {

constexpr FrameLimits kLimits{1024, 2048, 4};

/// Reads what a frame of its type may be asked for.
void touch(const Frame& frame, std::string* text) {
  Settings settings;
  switch (frame.type) {
    case FrameType::kRstStream:
      *text += std::to_string(rst_stream_code(frame));
      break;
    case FrameType::kSettings:
      *text += frame_fault_name(apply_settings(frame.payload, frame.size, Role::kClient, &settings));
      break;
    case FrameType::kPing:
      *text += std::to_string(ping_bytes(frame));
      break;
    case FrameType::kGoaway:
      *text += goaway(frame).debug;
      break;
    case FrameType::kWindowUpdate:
      fuzz::require(window_increment(frame) != 0 || frame.stream_error != ErrorCode::kNoError, "an increment is never 0");
      break;
    default:
      break;
  }
  text->append(reinterpret_cast<const char*>(frame.payload), frame.size);
}

std::string read(std::string_view bytes, size_t piece, Role role) {
  FrameParser parser(role, kLimits);
  std::string text, pending;
  for (size_t given = 0; given < bytes.size(); given += piece) {
    pending += bytes.substr(given, piece);
    for (;;) {
      const std::unique_ptr<uint8_t[]> exact(new uint8_t[pending.size()]);
      std::copy(pending.begin(), pending.end(), exact.get());
      Frame frame;
      const FrameStep step = parser.next(exact.get(), pending.size(), &frame);
      fuzz::require(step.consumed <= pending.size(), "a step stays within its input");
      if (step.status == FrameStatus::kFault) return text + frame_fault_name(step.fault);
      if (step.status == FrameStatus::kFrame) {
        fuzz::require(frame.type != FrameType::kContinuation && frame.type != FrameType::kPushPromise, "never handed out");
        fuzz::require(frame.size <= (frame.type == FrameType::kHeaders ? kLimits.max_block_bytes : kLimits.max_frame_bytes), "bounded");
        text += '\n' + std::to_string(static_cast<int>(frame.type)) + ' ' + std::to_string(frame.flags) + ' ' +
                std::to_string(frame.stream) + ' ' + std::to_string(frame.wire_size) + ' ' + std::to_string(frame.flow_size) + ' ' +
                std::to_string(frame.continuations) + ' ' + error_code_name(frame.stream_error) + ' ';
        touch(frame, &text);
      }
      pending.erase(0, step.consumed);
      if (step.status == FrameStatus::kMore) break;
    }
    fuzz::require(pending.size() < kFrameHeaderBytes + kLimits.max_frame_bytes || !pending.starts_with("P"),
                  "never more than a frame waits");
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  // Most inputs begin behind what must come first.
  const Role role = (data[0] & 1) != 0 ? Role::kServer : Role::kClient;
  std::string bytes;
  if ((data[0] & 2) == 0) {
    if (role == Role::kServer) bytes += kClientPreface;
    bytes += std::string("\0\0\0\4\0\0\0\0\0", kFrameHeaderBytes);
  }
  bytes.append(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string whole = read(bytes, bytes.size(), role);
  fuzz::require(read(bytes, 1, role) == whole && read(bytes, 2 + data[0] / 4, role) == whole, "the same at any cut");
  return 0;
}
