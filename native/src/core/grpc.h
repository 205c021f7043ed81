// What the proxy itself must know of gRPC over HTTP/2: deadlines in, errors out. Reads no messages.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/reasons.h"

namespace weft {

// What a content-type says: application/grpc, application/grpc-web, application/grpc-web-text, each with a suffix or parameters.
enum class GrpcForm : uint8_t { None, Native, Web, WebText };
constexpr bool is_grpc_web(GrpcForm form) { return form >= GrpcForm::Web; }
GrpcForm grpc_form_of(std::string_view content_type);
// Of grpc-timeout ("100m"): ms, at least 1, rounded up; 0: absent or malformed.
uint64_t parse_grpc_timeout(std::string_view value);

class GrpcTimeoutLine {
 public:
  // "grpc-timeout: …m" CRLF; "…S", rounded up, where milliseconds would take more than eight digits.
  std::string_view format(uint64_t ms);

 private:
  char text_[48];
};

// 0 to 16; what is none of these is 2 (UNKNOWN), as gRPC's libraries see it.
int parse_grpc_status(std::string_view value);
// The status of an error of our own: the specification's mapping of HTTP statuses, but DEADLINE_EXCEEDED when the call's time was over.
int grpc_status_of(int http_status, Reason reason);
// Its grpc-message; plain ASCII without "%".
std::string_view grpc_message_of(int http_status, Reason reason);

}  // namespace weft
