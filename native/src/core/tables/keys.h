// How the tables turn names and addresses into keys; shared by building and looking up, so that both agree.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/tables/tables.h"

namespace weft {

/// Longest header name that a predicate may ask for.
inline constexpr size_t kMaxHeaderName = 256;

/// A path is hashed element by element ("/a", "/b"), so that every prefix's hash falls out on the way.
inline size_t element_end(std::string_view path, size_t begin) { return std::min(path.find('/', begin + 1), path.size()); }

inline std::string_view address_key(const Address& address) {
  return {reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size()};
}

struct SocketKey {
  SocketKey(const Address& address, uint16_t port) {
    memcpy(bytes, address.bytes.data(), 16);
    memcpy(bytes + 16, &port, 2);
  }
  std::string_view view() const { return {bytes, sizeof(bytes)}; }
  char bytes[18];
};

}  // namespace weft
