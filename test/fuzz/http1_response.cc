// Responses: the same at any cut and with every scanner; and whatever is forwarded reads back as one response with a known end.
#include <cstring>
#include <memory>

#include "core/http1/serialize.h"
#include "http1_fuzz.h"

using namespace weft;
using namespace weft::http1;

namespace {

void check_forwarded(const ResponseHead& head, const uint8_t* base, Method method) {
  ResponseHeadOptions options;
  set_forwarded_framing(head, method, 1, &options);
  const size_t capacity = size_t{head.size} + 4096;
  const std::unique_ptr<char[]> out(new char[capacity]);
  size_t size = 0;
  fuzz::require(write_response_head(head, base, options, out.get(), capacity, &size), "a head plus 4 KiB fits");
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size + kReadPastEnd]());
  memcpy(copy.get(), out.get(), size);
  ResponseHead again;
  const ParseResult result = parse_response_head(copy.get(), size, {static_cast<uint32_t>(capacity), kMaxFields}, &again);
  if (result.error == HeadError::kTooManyFields) return;  // Ours came on top.
  fuzz::require(result.status == ParseStatus::kComplete && again.size == size, "what we forward is one whole head");
  fuzz::require(again.status == head.status && again.reason.in(copy.get()) == head.reason.in(base), "same status line");
  fuzz::require(response_body_framing(again, method).kind != Framing::kUntilClose, "an HTTP/1.1 client can tell the end");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  test::TranscriptOptions options;
  options.side = test::Side::kResponses;
  options.request_method = data[0] % 4 == 0 ? Method::kHead : Method::kGet;
  fuzz::compare_transcripts(data, size, options);
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size - 1 + kReadPastEnd]());
  memcpy(copy.get(), data + 1, size - 1);
  ResponseHead head;
  if (parse_response_head(copy.get(), size - 1, {}, &head).status == ParseStatus::kComplete)
    check_forwarded(head, copy.get(), options.request_method);
  return 0;
}
