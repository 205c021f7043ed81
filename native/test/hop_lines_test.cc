// Via and Date of this hop.
#include "core/hop_lines.h"

#include <time.h>

#include <string>

#include "check.h"
#include "core/exchange.h"
#include "core/http1/serialize.h"
#include "core/http2/hpack_encoder.h"
#include "core/request_lines.h"

namespace weft {
namespace {

timespec wall = {};
timespec wall_clock() { return wall; }

TEST("an address is written as inet_ntop writes it, whatever its bytes") {
  for (unsigned byte = 0; byte < 256; byte++) {
    const std::string number = std::to_string(byte);
    const std::string text = number + ".7." + number + "." + std::to_string(255 - byte);
    Address address;
    CHECK(parse_address(text, &address));
    CHECK_EQ(AddressText().format(address), text);
  }
}

TEST("hop lines: the date is an IMF-fixdate, made again when the engine's clock has come to the next whole second") {
  HopLines lines("", wall_clock);
  wall = {784'111'777, 250'000'000};
  CHECK_EQ(lines.date(1000), std::string_view("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
  // Not looked at in between.
  wall = {784'200'000, 0};
  CHECK_EQ(lines.date(1749), std::string_view("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
  CHECK_EQ(lines.date(1750), std::string_view("date: Mon, 07 Nov 1994 09:20:00 GMT\r\n"));
}

TEST("hop lines: for HTTP/2 the date is one field as long as the line is the same, in full for a connection once, then an index") {
  http2::InternTable table;
  HopLines lines("", wall_clock);
  http2::HpackEncoder encoder(&table);
  uint8_t out[64];
  const auto written = [&](uint64_t now_ms) { return encoder.write_interned(lines.date_field(now_ms, &table), false, out) - out; };
  wall = {784'111'777, 0};
  const http2::InternedField* field = lines.date_field(1000, &table);
  CHECK_EQ(field->name(), "date");
  CHECK_EQ(field->value(), "Sun, 06 Nov 1994 08:49:37 GMT");
  CHECK(written(1000) > 29);
  CHECK_EQ(written(1999), 1);
  CHECK(lines.date_field(1999, &table) == field);
  wall = {784'200'000, 0};
  // Whoever asks first in the new second: an HTTP/1 client, too.
  CHECK_EQ(lines.date(2000), std::string_view("date: Mon, 07 Nov 1994 09:20:00 GMT\r\n"));
  CHECK_EQ(lines.date_field(2000, &table)->value(), "Mon, 07 Nov 1994 09:20:00 GMT");
  CHECK(written(2000) > 29);
  CHECK_EQ(written(2001), 1);
}

TEST("hop lines: what HTTP/2 is told of a client is the same field for its requests that follow each other, and no other client's") {
  http2::InternTable table;
  HopLines lines("");
  Address one, other;
  CHECK(parse_address("192.0.2.1", &one) && parse_address("2001:db8::1", &other));
  const http2::Interned first = lines.client_field(one, &table);
  CHECK_EQ(first.field->name(), "x-forwarded-for");
  CHECK_EQ(first.field->value(), "192.0.2.1");
  // A client that asks once has no place in the next hop's table.
  CHECK(first.fresh);
  const http2::Interned again = lines.client_field(one, &table);
  CHECK(again.field == first.field && !again.fresh);
  CHECK_EQ(lines.client_field(other, &table).field->value(), "2001:db8::1");
  CHECK_EQ(lines.client_field(one, &table).field->value(), "192.0.2.1");
  CHECK_EQ(lines.proto_field(true, &table).field->value(), "https");
  CHECK_EQ(lines.proto_field(false, &table).field->value(), "http");
  CHECK(lines.proto_field(false, &table).field == lines.proto_field(false, &table).field);
}

TEST("hop lines: the date is now") {
  const timespec before = real_time();
  const std::string date(HopLines("").date(1000));
  tm parsed = {};
  const char* end = strptime(date.c_str(), "date: %a, %d %b %Y %H:%M:%S GMT", &parsed);
  CHECK(end != nullptr && std::string(end) == "\r\n");
  // Of the same clock: time() is up to a kernel tick behind it, and in another second then.
  CHECK(timegm(&parsed) >= before.tv_sec && timegm(&parsed) <= real_time().tv_sec);
}

TEST("hop lines: an answer that has a date, or whose rule removes or sets it, or that is interim, is given none") {
  HopLines lines("");
  // Nothing else gives it values here.
  http1::ResponseHead head = {};
  head.status = 200;
  ResponseForm response;
  response.head = &head;
  http2::InternTable table;
  CHECK(!lines.date_for(response, nullptr, 1).empty());
  CHECK(lines.date_field_for(response, nullptr, 1, &table) != nullptr);
  http1::MutationSet removes, sets, other;
  std::string error;
  CHECK(removes.compile({"Date"}, {}, {}, &error) && sets.compile({}, {{"date", "x"}}, {}, &error) &&
        other.compile({"x-date"}, {}, {}, &error));
  CHECK(lines.date_for(response, &removes, 1).empty());
  CHECK(lines.date_field_for(response, &removes, 1, &table) == nullptr);
  CHECK(lines.date_for(response, &sets, 1).empty());
  CHECK(!lines.date_for(response, &other, 1).empty());
  head.present = http1::known_bit(http1::KnownHeader::kDate);
  CHECK(lines.date_for(response, nullptr, 1).empty());
  head.present = 0;
  head.status = 103;
  CHECK(lines.date_for(response, nullptr, 1).empty());
}

TEST("hop lines: Via has the version that the message came in, and is none without a name") {
  HopLines lines("edge");
  http1::RequestHead request = {};
  RequestForm form;
  form.head = &request;
  request.minor = 0;
  CHECK_EQ(lines.via(form), std::string_view("via: 1.0 edge\r\n"));
  request.minor = 1;
  CHECK_EQ(lines.via(form), std::string_view("via: 1.1 edge\r\n"));
  CHECK_EQ(lines.via(RequestForm{}), std::string_view("via: 2 edge\r\n"));
  CHECK_EQ(lines.via(ResponseForm{}), std::string_view("via: 2 edge\r\n"));
  CHECK(HopLines("").via(RequestForm{}).empty());
}

TEST("hop lines: Max-Forwards is digits, and no more than a hop count can be") {
  CHECK_EQ(parse_max_forwards("0"), 0);
  CHECK_EQ(parse_max_forwards("0010"), 10);
  CHECK_EQ(parse_max_forwards("999999999"), 999'999'999);
  CHECK_EQ(parse_max_forwards("1000000000"), 999'999'999);
  CHECK_EQ(parse_max_forwards(std::string(400, '9')), 999'999'999);
  for (const char* bad : {"", "-1", "+1", "1 ", "1,1", "0x1", "a"}) CHECK_EQ(parse_max_forwards(bad), kBadMaxForwards);
}

}  // namespace
}  // namespace weft
