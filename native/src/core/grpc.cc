// See grpc.h. Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md and http-grpc-status-mapping.md.
#include "core/grpc.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "core/http1/ascii.h"
#include "core/http1/serialize.h"

namespace weft {

namespace {
// The specification's bound on digits.
constexpr size_t kMaxDigits = 8;
constexpr uint64_t kMost = 99'999'999;
}  // namespace

GrpcForm grpc_form_of(std::string_view content_type) {
  const auto skip = [&](std::string_view text) {
    const std::string_view start = content_type.substr(0, text.size());
    // As nearly every client writes it, then as it may be written.
    if (start != text && !http1::equals_lower(start, text)) return false;
    content_type.remove_prefix(text.size());
    return true;
  };
  if (!skip("application/grpc")) return GrpcForm::None;
  const GrpcForm form = !skip("-web") ? GrpcForm::Native : !skip("-text") ? GrpcForm::Web : GrpcForm::WebText;
  const bool ends = content_type.empty() || content_type[0] == '+' || content_type[0] == ';' || content_type[0] == ' ';
  return ends ? form : GrpcForm::None;
}

uint64_t parse_grpc_timeout(std::string_view value) {
  if (value.size() < 2 || value.size() > kMaxDigits + 1) return 0;
  uint64_t number = 0;
  const char* end = value.data() + value.size() - 1;
  const auto result = std::from_chars(value.data(), end, number);
  if (result.ec != std::errc() || result.ptr != end) return 0;
  switch (*end) {
    case 'H':
      return std::max<uint64_t>(1, number * 3'600'000);
    case 'M':
      return std::max<uint64_t>(1, number * 60'000);
    case 'S':
      return std::max<uint64_t>(1, number * 1000);
    case 'm':
      return std::max<uint64_t>(1, number);
    case 'u':
      return std::max<uint64_t>(1, (number + 999) / 1000);
    case 'n':
      return std::max<uint64_t>(1, (number + 999'999) / 1'000'000);
    default:
      return 0;
  }
}

std::string_view GrpcTimeoutLine::format(uint64_t ms) {
  static constexpr std::string_view kName = "grpc-timeout: ";
  memcpy(text_, kName.data(), kName.size());
  const bool in_seconds = ms > kMost;
  const uint64_t number = in_seconds ? std::min((ms + 999) / 1000, kMost) : ms;
  char* out = std::to_chars(text_ + kName.size(), text_ + sizeof(text_), number).ptr;
  memcpy(out, in_seconds ? "S\r\n" : "m\r\n", 3);
  return {text_, static_cast<size_t>(out + 3 - text_)};
}

int parse_grpc_status(std::string_view value) {
  int number = -1;
  const auto result = std::from_chars(value.data(), value.data() + value.size(), number);
  const bool whole = result.ec == std::errc() && result.ptr == value.data() + value.size();
  return whole && number >= 0 && number <= 16 ? number : 2;
}

int grpc_status_of(int http_status, Reason reason) {
  if (reason == Reason::UpstreamTimeout || reason == Reason::DownstreamTimeout) return 4;
  switch (http_status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    case 431:
      return 8;
    default:
      return 2;
  }
}

std::string_view grpc_message_of(int http_status, Reason reason) {
  switch (reason) {
    case Reason::NoHealthyUpstream:
      return "no healthy upstream";
    case Reason::ConnectFailure:
      return "upstream connect failure";
    case Reason::UpstreamReset:
      return "upstream reset the call before it answered";
    case Reason::UpstreamTimeout:
      return "the call's time is over";
    case Reason::RetriesExhausted:
      return "every attempt failed";
    case Reason::UpstreamProtocol:
      return "upstream broke the protocol";
    case Reason::Overflow:
      return "too many calls wait for this upstream";
    default:
      return http1::reason_phrase(http_status);
  }
}

}  // namespace weft
