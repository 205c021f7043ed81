// Endpoints of tables in tests.
#pragma once
#include <string>

#include "core/tables/tables.h"

namespace weft::test {

// Spoken to by HTTP/1, in plain text.
inline EndpointSpec endpoint_at(int32_t id, const std::string& address, uint16_t port) {
  EndpointSpec endpoint;
  endpoint.id = id;
  endpoint.address = address;
  endpoint.port = port;
  return endpoint;
}

}  // namespace weft::test
