// Lines that this hop owes every message it passes on or answers: Via (RFC 9110 7.6.3), Date (6.6.1), at the edge of the mesh who the
// client is. Made once, the date once a second, those of a client for all its requests that follow each other.
#pragma once
#include <time.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/http1/serialize.h"
#include "core/http2/intern_table.h"
#include "core/streams.h"
#include "core/tables/tables.h"

namespace weft {

// The machine's clock.
timespec real_time();

class HopLines {
 public:
  // `name`: a pseudonym or host[:port]; empty: no Via.
  explicit HopLines(const std::string& name, timespec (*wall_clock)() = real_time);

  // By the version that the message came in.
  std::string_view via(const RequestForm& request) const;
  std::string_view via(const ResponseForm& response) const;
  // "date: <IMF-fixdate>" CRLF; valid until the next call. `now_ms`: the engine's clock.
  std::string_view date(uint64_t now_ms);
  // That of an answer that is passed on: empty where it has one, is interim, or its rule removes or sets the field.
  std::string_view date_for(const ResponseForm& response, const http1::MutationSet* mutations, uint64_t now_ms);
  // The same for HTTP/2, of `table`: each connection gets it in full once a second, then as an index.
  http2::InternedField* date_field(uint64_t now_ms, http2::InternTable* table);
  http2::InternedField* date_field_for(const ResponseForm& response, const http1::MutationSet* mutations, uint64_t now_ms,
                                       http2::InternTable* table);
  // X-Forwarded-For of that client, and X-Forwarded-Proto; valid until the next call.
  http2::Interned client_field(const Address& client, http2::InternTable* table);
  http2::Interned proto_field(bool is_tls, http2::InternTable* table);

 private:
  // HTTP/1.0, 1.1, 2.
  std::string via_[3];
  timespec (*wall_clock_)();
  uint64_t date_due_ms_ = 0;
  char date_[48];
  size_t date_size_ = 0;
  // Of the line that is due then; held by a reference.
  http2::InternedField* date_field_ = nullptr;
  uint64_t date_field_due_ms_ = 0;
  // Of the last one; held as that.
  Address client_{};
  http2::InternedField* client_field_ = nullptr;
  // Plain, TLS.
  http2::InternedField* proto_fields_[2] = {};
};

}  // namespace weft
