// Small texts the engine adds to requests: the client's address, a request id. No allocation.
#pragma once
#include <cstdint>
#include <string_view>

#include "core/tables/tables.h"

namespace weft {

class AddressText {
 public:
  // Valid until the next call.
  std::string_view format(const Address& address);

 private:
  char text_[46];
};

class RequestIdLine {
 public:
  // "x-request-id: <UUID v4>" CRLF from 128 random bits.
  std::string_view format(uint64_t high, uint64_t low);

 private:
  char text_[64];
};

}  // namespace weft
