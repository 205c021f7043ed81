// Chunked bodies: the payload is the same at any cut, and re-chunked it reads back as itself.
#include "core/http1/body.h"
#include "http1_fuzz.h"

using namespace weft;
using namespace weft::http1;

namespace {

struct Read {
  BodyStatus status = BodyStatus::kMore;
  BodyError error = BodyError::kNone;
  std::string payload, trailers;
  size_t consumed = 0;
  bool operator==(const Read&) const = default;
};

Read read(std::string_view bytes, size_t piece) {
  BodyReader reader({Framing::kChunked});
  Read result;
  size_t given = 0;
  while (result.status == BodyStatus::kMore || result.status == BodyStatus::kPayload) {
    if (result.status == BodyStatus::kMore) {
      if (given == bytes.size()) break;
      given = std::min(bytes.size(), given + piece);
    }
    const BodyStep step = reader.next(reinterpret_cast<const uint8_t*>(bytes.data()) + result.consumed, given - result.consumed);
    fuzz::require(step.consumed <= given - result.consumed && step.payload_size <= step.consumed, "a step stays within its input");
    result.consumed += step.consumed;
    result.payload.append(bytes.substr(result.consumed - step.payload_size, step.payload_size));
    result.status = step.status;
    result.error = step.error;
  }
  result.trailers = reader.trailers();
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Read whole = read(bytes, bytes.size());
  fuzz::require(read(bytes, 1) == whole && read(bytes, 1 + data[0] % 32) == whole, "the same at any cut");
  if (whole.status != BodyStatus::kDone) return 0;
  char head[kMaxChunkHeader];
  std::string again;
  if (!whole.payload.empty()) {
    again.assign(head, write_chunk_header(whole.payload.size(), head));
    again.append(whole.payload).append(kChunkEnd);
  }
  std::string last(whole.trailers.size() + 16, 0);
  again.append(last, 0, write_last_chunk(whole.trailers, last.data(), last.size()));
  const Read back = read(again, again.size());
  fuzz::require(back.status == BodyStatus::kDone && back.payload == whole.payload && back.trailers == whole.trailers,
                "re-chunked the same");
  return 0;
}
