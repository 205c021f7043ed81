// What stands in a line of the access log.
#include "core/access_log_lines.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "core/access_log.h"
#include "core/reasons.h"

namespace weft {
namespace {

constexpr AccessLogTokens kTokens = {0x7ff, 12};
constexpr size_t kRingBytes = kAccessLogHeaderBytes + 65'536;

struct Log {
  explicit Log(bool errors_only = false) : lines(kTokens, errors_only) {
    lines.set_label(0, R"("shop/web \"2\"")");
    lines.set_label(1, R"("shop/catalog")");
    lines.set_label(2, R"("shop/catalog-7")");
    lines.set_rule(3, R"("shop/catalog rule 3")");
  }

  void write(const AccessLogRecord& record, const AccessLogTexts& texts) { CHECK(writer.write(record, texts)); }

  // Lines, each with its end; nothing may be missing.
  std::string all() {
    std::string out(1 << 20, '\0');
    const AccessLogLines::Taken taken = take(out);
    CHECK_EQ(taken.missing, AccessLogLines::Missing::Nothing);
    return out.substr(0, taken.written);
  }

  AccessLogLines::Taken take(std::string& out) { return lines.take(bytes(), kRingBytes, edges, out); }

  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(memory.data()); }

  std::vector<uint64_t> memory = std::vector<uint64_t>(kRingBytes / 8);
  AccessLog writer{bytes(), kRingBytes};
  // Row 1 is that of record().
  std::vector<int32_t> edges = {-1, -1, -1, 0, 0, 1, 2, 5};
  AccessLogLines lines;
};

void set_v4(uint8_t (&address)[16], uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d};
  memcpy(address, mapped, sizeof(mapped));
}

AccessLogRecord record() {
  AccessLogRecord made;
  made.kind = kAccessLogHttp1;
  made.started_ms = 1'795'281'234'007.9;
  made.latency_us = 12'340;
  made.first_byte_us = 2'000;
  made.status = 200;
  made.token = 1;
  made.route_id = 3;
  made.attempts = 1;
  made.received = 5'000'000'000;
  made.sent = 99;
  set_v4(made.client, 10, 0, 200, 1);
  set_v4(made.destination, 10, 0, 0, 2);
  set_v4(made.upstream, 10, 0, 0, 3);
  made.client_port = 40'001;
  made.destination_port = 80;
  made.upstream_port = 9'000;
  return made;
}

bool has(const std::string& line, std::string_view part) { return line.find(part) != std::string::npos; }

TEST("access log lines: a line has all that the record says, in a fixed order") {
  Log log;
  log.write(record(), {"/a?b=c", "shop.test", "curl/8", "id-1", "", ""});
  CHECK_EQ(
      log.all(),
      R"({"time":"2026-11-21T17:13:54.007Z","protocol":"http/1","method":"GET","authority":"shop.test","path":"/a?b=c","status":200,)"
      R"("response_flag":"-","route":"shop/catalog rule 3","source":"shop/web \"2\"","client":"10.0.200.1:40001","destination":"shop/catalog",)"
      R"("destination_address":"10.0.0.2:80","destination_workload":"shop/catalog-7","endpoint":"10.0.0.3:9000","attempts":1,)"
      R"("bytes_received":5000000000,"bytes_sent":99,"duration_ms":12.34,"upstream_first_byte_ms":2,"user_agent":"curl/8","request_id":"id-1"})"
      "\n");
  CHECK_EQ(log.all(), "");
}

TEST("access log lines: whatever bytes a client sends, a line is JSON in UTF-8 and stays one line") {
  Log log;
  const std::string path("/\"\\\n\r\t\0\b\f\x1f\x7f\x80\xe9", 13);
  log.write(record(), {path, "\xff", "\"", "", "", ""});
  const std::string line = log.all();
  CHECK(has(line, "\"path\":\"/\\\"\\\\\\n\\r\\t\\u0000\\b\\f\\u001f\x7f\xc2\x80\xc3\xa9\""));
  CHECK(has(line, "\"authority\":\"\xc3\xbf\""));
  CHECK(has(line, R"("user_agent":"\"")"));
  CHECK_EQ(line.find('\n'), line.size() - 1);
}

TEST("access log lines: gRPC has its status and the message decoded, or as it is where it is no percent-encoded UTF-8") {
  const auto message = [](std::string_view text) {
    Log log;
    AccessLogRecord call = record();
    call.kind = kAccessLogHttp2;
    call.grpc_status = 14;
    log.write(call, {"/s/m", "", "", "", text, ""});
    const std::string line = log.all();
    CHECK(has(line, R"("protocol":"http/2")"));
    const size_t at = line.find(R"("grpc_status":14,"grpc_message":)") + 32;
    return line.substr(at, line.find(",\"response_flag\"") - at);
  };
  CHECK_EQ(message("nicht m%C3%B6glich \"%0A\""), "\"nicht m\xc3\xb6glich \\\"\\n\\\"\"");
  CHECK_EQ(message("%e2%82%AC%F0%9F%98%80"), "\"\xe2\x82\xac\xf0\x9f\x98\x80\"");
  // Cut off, no digits, too long a form, a surrogate, beyond the last character, a byte that only follows.
  for (const std::string text :
       {"50%", "a%4", "%zz", "%C0%80", "%E0%80%80", "%ED%A0%80", "%F4%90%80%80", "%F0%8F%80%80", "%80", "%C3", "%C3%"})
    CHECK_EQ(message(text), "\"" + text + "\"");
}

TEST("access log lines: a connection has the server name in place of what only requests have") {
  Log log;
  AccessLogRecord connection = record();
  connection.kind = kAccessLogOpaque;
  connection.method = 255;
  connection.upstream_port = 0;
  connection.first_byte_us = -1;
  connection.route_id = -1;
  connection.tls_version = 0x0304;
  connection.reason = static_cast<int32_t>(Reason::ConnectFailure);
  const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  memcpy(connection.client, v6, sizeof(v6));
  log.write(connection, {"", "db.test", "", "", "", "spiffe://mesh/ns/shop"});
  const std::string line = log.all();
  for (const std::string_view part :
       {R"("protocol":"tcp","server_name":"db.test","response_flag":"UF","route":null)", R"("client":"[2001:db8::1]:40001")",
        R"("tls_version":"1.3","client_identity":"spiffe://mesh/ns/shop")", R"("endpoint":null,"attempts":1)",
        R"("upstream_first_byte_ms":null})"})
    CHECK(has(line, part));
  for (const std::string_view name : {"method", "path", "status", "user_agent", "request_id"})
    CHECK(!has(line, "\"" + std::string(name) + "\""));
}

TEST("access log lines: of an answer of ours the flag says what it means") {
  const auto flag = [](int32_t target, int32_t token) {
    Log log;
    AccessLogRecord answer = record();
    answer.target = target;
    answer.token = token;
    log.write(answer, {});
    const std::string line = log.all();
    const size_t at = line.find(R"("response_flag":")") + 17;
    return line.substr(at, line.find('"', at) - at);
  };
  CHECK_EQ(flag(-404, 1), "NR");
  CHECK_EQ(flag(-503, 1), "UH");
  CHECK_EQ(flag(-204, 1), "-");
  CHECK_EQ(flag(-503, 1 | static_cast<int32_t>(Reason::Overflow) << 12), "UO");
  // Of an endpoint's: that is no reason.
  CHECK_EQ(flag(4, 1 | 10 << 12), "-");
}

TEST("access log lines: errors only leaves out what went well") {
  Log log(true);
  const auto write = [&](int32_t status, int32_t grpc_status) {
    AccessLogRecord one = record();
    one.status = status;
    one.grpc_status = grpc_status;
    log.write(one, {});
  };
  write(200, -1);
  write(404, -1);
  write(503, -1);
  write(200, 0);
  write(200, 5);
  const std::string lines = log.all();
  CHECK_EQ(std::count(lines.begin(), lines.end(), '\n'), 2);
  CHECK(has(lines, R"("status":503)") && has(lines, R"("grpc_status":5)"));
}

TEST("access log lines: a name that is missing is asked for once, and of a rule again when rules are forgotten") {
  Log log;
  AccessLogRecord one = record();
  one.route_id = 9;
  log.edges[4] = 70;
  log.write(one, {});
  std::string out(AccessLogLines::kMostOfLine, '\0');
  AccessLogLines::Taken taken = log.take(out);
  CHECK(taken.written == 0 && taken.missing == AccessLogLines::Missing::Label && taken.id == 70);
  log.lines.set_label(70, R"("shop/cart")");
  taken = log.take(out);
  CHECK(taken.written == 0 && taken.missing == AccessLogLines::Missing::Rule && taken.id == 9);
  log.lines.set_rule(9, "null");
  CHECK(has(log.all(), R"("route":null,"source":"shop/cart")"));
  log.write(one, {});
  CHECK(!log.all().empty());
  log.write(one, {});
  log.lines.forget_rules();
  CHECK_EQ(log.take(out).missing, AccessLogLines::Missing::Rule);
}

TEST("access log lines: the longest line fits, and where there is no room for it nothing is taken") {
  Log log;
  const std::string nasty(kAccessLogTextLimit + 100, '\x01');
  const std::string name = "\"" + std::string(4'094, 'n') + "\"";
  for (uint32_t label = 0; label < 3; label++) log.lines.set_label(label, name);
  log.lines.set_rule(3, name);
  AccessLogRecord call = record();
  call.grpc_status = 2;
  log.write(call, {nasty, nasty, nasty, nasty, nasty, nasty});
  log.write(record(), {"/second", "", "", "", "", ""});
  std::string small(8'192, '\0');
  CHECK_EQ(log.take(small).missing, AccessLogLines::Missing::Room);
  std::string out(AccessLogLines::kMostOfLine, '\0');
  AccessLogLines::Taken taken = log.take(out);
  CHECK_EQ(std::count(out.begin(), out.begin() + static_cast<ptrdiff_t>(taken.written), '\n') >= 1, true);
  CHECK(taken.written > 6 * 6 * kAccessLogTextLimit);
  // A longer name is none.
  log.lines.set_rule(3, "\"" + std::string(5'000, 'n') + "\"");
  log.write(record(), {"/third", "", "", "", "", ""});
  CHECK(has(log.all(), R"("path":"/third","status":200,"response_flag":"-","route":null)"));
}

}  // namespace
}  // namespace weft
