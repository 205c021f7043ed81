// Addresses as the tables keep them: one 16-byte form for IPv4 and IPv6.
#include <arpa/inet.h>

#include <cstring>

#include "core/tables/tables.h"

namespace weft {
namespace {

constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

void map_ipv4(const in_addr& from, Address* out) {
  memcpy(out->bytes.data(), kMappedPrefix, sizeof(kMappedPrefix));
  memcpy(out->bytes.data() + sizeof(kMappedPrefix), &from, sizeof(from));
}

}  // namespace

bool parse_address(const std::string& text, Address* out) {
  in_addr v4;
  if (text.find('\0') != std::string::npos) return false;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) {
    map_ipv4(v4, out);
    return true;
  }
  return inet_pton(AF_INET6, text.c_str(), out->bytes.data()) == 1;
}

bool address_of(const sockaddr* from, Address* out, uint16_t* port) {
  in_port_t network_port;
  if (from->sa_family == AF_INET) {
    sockaddr_in v4;
    memcpy(&v4, from, sizeof(v4));
    map_ipv4(v4.sin_addr, out);
    network_port = v4.sin_port;
  } else if (from->sa_family == AF_INET6) {
    sockaddr_in6 v6;
    memcpy(&v6, from, sizeof(v6));
    memcpy(out->bytes.data(), &v6.sin6_addr, out->bytes.size());
    network_port = v6.sin6_port;
  } else {
    return false;
  }
  if (port != nullptr) *port = ntohs(network_port);
  return true;
}

socklen_t to_sockaddr(const Address& address, uint16_t port, sockaddr_storage* out) {
  memset(out, 0, sizeof(*out));
  if (memcmp(address.bytes.data(), kMappedPrefix, sizeof(kMappedPrefix)) == 0) {
    sockaddr_in* v4 = reinterpret_cast<sockaddr_in*>(out);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    memcpy(&v4->sin_addr, address.bytes.data() + sizeof(kMappedPrefix), sizeof(v4->sin_addr));
    return sizeof(sockaddr_in);
  }
  sockaddr_in6* v6 = reinterpret_cast<sockaddr_in6*>(out);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  memcpy(&v6->sin6_addr, address.bytes.data(), address.bytes.size());
  return sizeof(sockaddr_in6);
}

}  // namespace weft
