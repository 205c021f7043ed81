// Reports of load: the forms that servers write, and what must not count.
#include "core/load_report.h"

#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "attempts_bench.h"
#include "check.h"

namespace weft::test {
namespace {

std::string base64(std::string_view bytes, bool padded) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  uint32_t bits = 0;
  int count = 0;
  for (const char each : bytes) {
    bits = bits << 8 | static_cast<uint8_t>(each);
    for (count += 8; count >= 6; count -= 6) text.push_back(kDigits[bits >> (count - 6) & 63]);
  }
  if (count > 0) text.push_back(kDigits[bits << (6 - count) & 63]);
  while (padded && text.size() % 4 != 0) text.push_back('=');
  return text;
}

// A field of the message that is a double.
std::string field(int number, double value) {
  std::string bytes(1, static_cast<char>(number << 3 | 1));
  char raw[8];
  memcpy(raw, &value, sizeof(raw));
  return bytes.append(raw, sizeof(raw));
}

bool is(const LoadReport& report, float utilization, float requests, float errors) {
  return report.utilization == utilization && report.requests_per_second == requests && report.errors_per_second == errors;
}

TEST("load reports: text with and without its prefix, JSON in both spellings, and the message itself say the same") {
  // Between them a map's entry, which counts nothing.
  const std::string cost("\x22\x0c\x0a\x01x\x11\0\0\0\0\0\0\0\0", 14);
  const std::string message = field(1, 0.25) + field(2, 0.5) + cost + field(6, 40) + field(7, 2);
  for (const std::string& text :
       {std::string("cpu_utilization=0.25,rps_fractional=40,eps=2,mem_utilization=0.5"),
        std::string("TEXT cpu_utilization=0.25, rps_fractional=40 ,eps=2,named_metrics.queue=7"),
        std::string("cpu_utilization:0.25,rps_fractional:40,eps:2"),
        std::string("JSON {\"cpu_utilization\": 0.25, \"rps_fractional\": 40, \"eps\": 2}"), "BIN " + base64(message, true)}) {
    LoadReport report;
    CHECK(parse_load_metrics(text, &report));
    CHECK(is(report, 0.25F, 40, 2));
  }
  LoadReport report;
  CHECK(parse_load_metrics_json(R"({"named_metrics":{"a\"}":1,"b":[{},[]]},"cpuUtilization":0.25,"rpsFractional":"40","eps":2,"x":null})",
                                &report));
  CHECK(is(report, 0.25F, 40, 2));
  for (const bool padded : {false, true}) {
    report = {};
    CHECK(parse_load_metrics_bin(base64(message, padded), &report));
    CHECK(is(report, 0.25F, 40, 2));
  }
}

TEST("load reports: what the application says of itself goes before its CPU, and may be above 1") {
  LoadReport report;
  CHECK(parse_load_metrics("cpu_utilization=0.25,application_utilization=1.5,rps_fractional=1", &report));
  CHECK(is(report, 1.5F, 1, 0));
  CHECK(parse_load_metrics("cpu_utilization=0.25,application_utilization=0,rps_fractional=1", &report));
  CHECK(is(report, 0.25F, 1, 0));
}

TEST("load reports: without requests or without utilization nothing is known") {
  LoadReport report;
  CHECK(parse_load_metrics("cpu_utilization=0.25", &report) && !report.is_usable());
  CHECK(parse_load_metrics("rps_fractional=10", &report) && !report.is_usable());
  CHECK(parse_load_metrics("TEXT ", &report) && !report.is_usable());
  CHECK(parse_load_metrics_bin("", &report) && !report.is_usable());
  CHECK(parse_load_metrics("cpu_utilization=0.25,rps_fractional=10", &report) && report.is_usable());
}

TEST("load reports: no number, infinity, what is negative, too large or said twice is refused whole") {
  LoadReport report;
  for (const char* text : {"cpu_utilization=nan,rps_fractional=1",
                           "cpu_utilization=inf,rps_fractional=1",
                           "cpu_utilization=-0.1",
                           "eps=-1",
                           "rps_fractional=1e10",
                           "cpu_utilization=101",
                           "cpu_utilization=1e400",
                           "cpu_utilization=0x1",
                           "cpu_utilization",
                           "cpu_utilization=",
                           "cpu_utilization=0.1x",
                           "cpu_utilization=0.1,cpu_utilization=0.1",
                           "JSON",
                           "JSON {",
                           "JSON []",
                           "JSON {\"eps\":}",
                           "JSON {\"eps\":1}}",
                           "JSON {\"eps\":1,}",
                           "JSON {\"eps\":\"1",
                           "JSON {\"a\\",
                           "BIN A",
                           "BIN !!!!",
                           "BIN CQ==",
                           "BIN AAAA",
                           "BIN \x80\x80"}) {
    const bool was_read = parse_load_metrics(text, &report);
    if (was_read) fprintf(stderr, "read: %s\n", text);
    CHECK(!was_read);
  }
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(), -1.0, 1e12})
    CHECK(!parse_load_metrics_bin(base64(field(6, bad), false), &report));
  CHECK(!parse_load_metrics(std::string(kMaxLoadReport + 1, ','), &report));
  CHECK(!parse_load_metrics_bin(std::string(kMaxLoadReport + 1, 'A'), &report));
  const std::string deep(kMaxLoadReport - 200, '[');
  CHECK(!parse_load_metrics_json("{\"a\":" + deep, &report));
}

TEST("load reports: any cut of a message, and any changed byte of it, is read or refused, never both numbers and nonsense") {
  const std::string whole = field(1, 0.25) + field(6, 40) + field(9, 0.5);
  for (size_t size = 0; size <= whole.size(); size++) {
    for (int byte = 0; byte < 256; byte += 5) {
      std::string changed = whole.substr(0, size);
      if (size > 0) changed[size - 1] = static_cast<char>(byte);
      LoadReport report;
      if (!parse_load_metrics_bin(base64(changed, true), &report)) continue;
      CHECK(std::isfinite(report.utilization) && report.utilization >= 0 && report.utilization <= 100);
      CHECK(std::isfinite(report.requests_per_second) && report.requests_per_second >= 0);
    }
  }
}

constexpr char kReport[] = "Endpoint-Load-Metrics: TEXT cpu_utilization=0.5,rps_fractional=10\r\n";

// The completions of a request that is answered by `answers`, one an attempt.
std::vector<Completion> completed(int32_t flags, const std::vector<std::string>& answers, std::string* told) {
  AttemptsBench attempts(retry_on([](RetrySpec* spec) { spec->statuses = {503}; }));
  attempts.bench.decide = [&](int32_t attempt) {
    Decision decision = Bench::to(attempt % 3, kExtended | flags | (attempt < 1 ? kRetry : 0));
    decision.retry = 0;
    return decision;
  };
  Peer1 client(Peer1::dial(attempts.bench.port));
  client.send(kGet);
  std::deque<Peer1> servers;
  for (size_t i = 0; i < answers.size(); i++) {
    Peer1& server = servers.emplace_back(attempts.accept(static_cast<int>(i)));
    CHECK(attempts.bench.run([&] { return server.has("\r\n\r\n"); }));
    server.send(answers[i]);
  }
  CHECK(attempts.bench.run([&] {
    client.read();
    return client.has("ok") && attempts.ended();
  }));
  *told = client.received;
  return attempts.completions;
}

TEST("load reports: one in an answer's head stands in the completion where the decision asks for it, and goes on to the client") {
  const std::string answer = std::string("HTTP/1.1 200 OK\r\n") + kReport + "Content-Length: 2\r\n\r\nok";
  std::string told;
  CHECK(is(completed(kReadLoad, {answer}, &told).back().load, 0.5F, 10, 0));
  CHECK(told.find("ndpoint-") != std::string::npos);
  CHECK(is(completed(0, {answer}, &told).back().load, 0, 0, 0));
}

TEST("load reports: one in HTTP/1 trailers counts as well") {
  std::string told;
  const std::string answer =
      std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n") + kReport + "\r\n";
  CHECK(is(completed(kReadLoad, {answer}, &told).back().load, 0.5F, 10, 0));
}

TEST("load reports: that of an answer that is not taken is its own endpoint's, and no other's") {
  std::string told;
  const std::vector<Completion> all = completed(
      kReadLoad,
      {std::string("HTTP/1.1 503 X\r\n") + kReport + "Content-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}, &told);
  CHECK_EQ(all.size(), size_t{2});
  CHECK(all.front().kind == CompletionKind::Failed && is(all.front().load, 0.5F, 10, 0));
  CHECK(all.back().kind == CompletionKind::Ended && is(all.back().load, 0, 0, 0));
}

}  // namespace
}  // namespace weft::test
