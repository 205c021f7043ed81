// DNS messages, as far as a query for an address is one that the tables can answer (RFC 1035, 6891). Everything else about DNS is somebody
// else's: what does not look exactly like such a query is not understood here, and passed on as it is.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/tables/tables.h"

namespace weft {

inline constexpr size_t kMaxDnsName = 253;

// One question of class IN for an address.
struct DnsQuestion {
  bool v6 = false;
  // Of the OPT record; 0: the query has none.
  uint16_t edns_size = 0;
  // Behind the question.
  size_t end = 0;
  // Lower case, without the last dot.
  size_t name_size = 0;
  char name_bytes[kMaxDnsName];

  std::string_view name() const { return {name_bytes, name_size}; }
};

// False: any other message, among them other types, several questions, EDNS of another version than 0, and records that are not OPT.
bool parse_dns_question(const uint8_t* bytes, size_t size, DnsQuestion* out);

inline constexpr size_t kMaxDnsAnswer = 1232;
// The addresses of the family that was asked for, as many as there is room for; none: the name exists without. `query` is what was parsed;
// `out` has kMaxDnsAnswer bytes. Returns the size.
size_t write_dns_answer(const uint8_t* query, const DnsQuestion& question, const std::vector<Address>& addresses, uint8_t* out);

}  // namespace weft
