// What a call of TypeScript's (call.h) came to.
#pragma once
#include <cstdint>
#include <string>

namespace weft {

struct EndedCall {
  int32_t number = 0;
  // -1: there is no whole answer of gRPC.
  int32_t grpc_status = -1;
  // As it came: a byte, a length of four, and the message.
  std::string body;
};

}  // namespace weft
