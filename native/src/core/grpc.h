// What the proxy itself must know of gRPC over HTTP/2: deadlines in, errors out. Reads no messages.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/reasons.h"

namespace weft {

// "application/grpc", with a suffix or parameters.
bool is_grpc_content_type(std::string_view value);
// Of grpc-timeout ("100m"): ms, at least 1, rounded up; 0: absent or malformed.
uint64_t parse_grpc_timeout(std::string_view value);

class GrpcTimeoutLine {
 public:
  // "grpc-timeout: …m" CRLF.
  std::string_view format(uint64_t ms);

 private:
  char text_[48];
};

// The status of an error of our own: the specification's mapping of HTTP statuses, but DEADLINE_EXCEEDED when the call's time was over.
int grpc_status_of(int http_status, Reason reason);
// Its grpc-message; plain ASCII without "%".
std::string_view grpc_message_of(int http_status, Reason reason);

}  // namespace weft
