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
  // The UUID in it.
  std::string_view id() const { return {text_ + kName.size(), kIdBytes}; }

 private:
  static constexpr std::string_view kName = "x-request-id: ";
  static constexpr size_t kIdBytes = 36;
  char text_[64];
};

// What a gateway adds to a request. Empty texts on listeners that add nothing.
class ForwardedLines {
 public:
  // `has_request_id`: the request brings its own.
  ForwardedLines(class Reactor* reactor, const class Downstream& connection, bool has_request_id);
  std::string_view client() const { return client_; }
  std::string_view proto() const { return proto_; }
  std::string_view request_id_line() const { return request_id_line_; }
  std::string_view request_id() const { return request_id_line_.empty() ? request_id_line_ : id_.id(); }

 private:
  AddressText address_;
  RequestIdLine id_;
  std::string_view client_;
  std::string_view proto_;
  std::string_view request_id_line_;
};

}  // namespace weft
