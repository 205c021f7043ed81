// See hop_lines.h.
#include "core/hop_lines.h"

#include <iterator>

#include "core/request_lines.h"

namespace weft {

namespace {

constexpr std::string_view kDateName = "date: ", kLineEnd = "\r\n";

bool lacks_date(const ResponseForm& response, const http1::MutationSet* mutations) {
  const bool has =
      response.head != nullptr ? response.head->has(http1::KnownHeader::kDate) : response.summary->has(http1::KnownHeader::kDate);
  return !has && response.status() >= 200 && (mutations == nullptr || !mutations->drops("date"));
}

}  // namespace

timespec real_time() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now;
}

HopLines::HopLines(const std::string& name, timespec (*wall_clock)()) : wall_clock_(wall_clock) {
  if (name.empty()) return;
  const char* const versions[] = {"1.0", "1.1", "2"};
  for (size_t i = 0; i < std::size(versions); i++) via_[i] = std::string("via: ") + versions[i] + " " + name + "\r\n";
}

std::string_view HopLines::via(const RequestForm& request) const { return request.head != nullptr ? via_[request.head->minor] : via_[2]; }

std::string_view HopLines::via(const ResponseForm& response) const {
  return response.head != nullptr ? via_[response.head->minor] : via_[2];
}

// The process never calls setlocale: strftime writes English.
std::string_view HopLines::date(uint64_t now_ms) {
  if (now_ms < date_due_ms_) return {date_, date_size_};
  const timespec now = wall_clock_();
  tm utc;
  gmtime_r(&now.tv_sec, &utc);
  date_size_ = strftime(date_, sizeof(date_), "date: %a, %d %b %Y %H:%M:%S GMT\r\n", &utc);
  date_due_ms_ = now_ms + 1000 - static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
  return {date_, date_size_};
}

std::string_view HopLines::date_for(const ResponseForm& response, const http1::MutationSet* mutations, uint64_t now_ms) {
  return lacks_date(response, mutations) ? date(now_ms) : std::string_view();
}

http2::InternedField* HopLines::date_field(uint64_t now_ms, http2::InternTable* table) {
  std::string_view value = date(now_ms);
  if (date_field_due_ms_ == date_due_ms_) return date_field_;
  value = value.substr(kDateName.size(), value.size() - kDateName.size() - kLineEnd.size());
  if (date_field_ != nullptr) table->release(date_field_);
  date_field_ = table->intern("date", value).field;
  date_field_due_ms_ = date_due_ms_;
  return date_field_;
}

http2::InternedField* HopLines::date_field_for(const ResponseForm& response, const http1::MutationSet* mutations, uint64_t now_ms,
                                               http2::InternTable* table) {
  return lacks_date(response, mutations) ? date_field(now_ms, table) : nullptr;
}

http2::Interned HopLines::client_field(const Address& client, http2::InternTable* table) {
  if (client_field_ != nullptr && client == client_) return {client_field_, false};
  if (client_field_ != nullptr) table->release(client_field_);
  client_ = client;
  const http2::Interned interned = table->intern("x-forwarded-for", AddressText().format(client));
  client_field_ = interned.field;
  return interned;
}

http2::Interned HopLines::proto_field(bool is_tls, http2::InternTable* table) {
  http2::InternedField*& field = proto_fields_[is_tls];
  if (field == nullptr) field = table->intern("x-forwarded-proto", is_tls ? "https" : "http").field;
  return {field, false};
}

}  // namespace weft
