// Small texts the engine adds to requests: the client's address, a request id. No allocation.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "core/http1/head.h"
#include "core/http2/intern_table.h"
#include "core/options.h"
#include "core/tables/tables.h"

namespace weft {

class AddressText {
 public:
  // Valid until the next call.
  std::string_view format(const Address& address);

 private:
  char text_[46];
};

// RFC 9110 7.6.2: the value of Max-Forwards, at most 999,999,999; kBadMaxForwards: none.
int32_t parse_max_forwards(std::string_view value);

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

// What a gateway says of the client in a request. All empty on listeners that leave requests as they come.
class ForwardedLines {
 public:
  // `present`: known_bit()s of the request's fields. A request id is made once for all attempts, and kept in the exchange.
  ForwardedLines(class Reactor* reactor, const class Downstream& connection, uint64_t present, struct Exchange* exchange, bool to_http2);
  // Behind trusted proxies: to append to X-Forwarded-For; to replace X-Forwarded-Proto, if none of them said it.
  std::string_view client() const { return client_; }
  std::string_view proto() const { return proto_; }
  // At the edge: complete lines for both, instead of what dropped() names; whatever a client says there is its own invention. Before them
  // Max-Forwards, counted down; behind them what is told of the client's certificate. To HTTP/2 the two are fields.
  std::string_view edge() const { return lines().substr(0, edge_size_); }
  const http2::Interned& client_field() const { return client_field_; }
  const http2::Interned& proto_field() const { return proto_field_; }
  uint64_t dropped() const { return dropped_; }
  std::string_view request_id() const { return makes_id_ ? id_.id() : std::string_view(); }
  // edge(), and to HTTP/1 the request id's.
  std::string_view lines() const { return long_text_.empty() ? std::string_view(text_, size_) : long_text_; }

 private:
  void tell_certificate(const struct ClientSecurity* security, const Forwarding& forwarding);
  void put(std::string_view text);
  void put_max_forwards(int32_t left);

  AddressText address_;
  RequestIdLine id_;
  bool makes_id_ = false;
  std::string_view client_;
  std::string_view proto_;
  http2::Interned client_field_;
  http2::Interned proto_field_;
  char text_[224];
  // All of text_, and a certificate; empty: there is none to tell of.
  std::string long_text_;
  size_t edge_size_ = 0;
  size_t size_ = 0;
  uint64_t dropped_ = 0;
};

// The client that `hops` trusted proxies in front vouch for: give it every value of X-Forwarded-For, in order.
class ForwardedClient {
 public:
  explicit ForwardedClient(int32_t hops) : hops_(static_cast<size_t>(hops)) {}
  void add(std::string_view list);
  // The hops-th address from the right. False: there are fewer, or it is none.
  bool find(Address* out) const;

 private:
  size_t hops_;
  size_t count_ = 0;
  std::string_view last_[kMaxTrustedHops];
};

}  // namespace weft
