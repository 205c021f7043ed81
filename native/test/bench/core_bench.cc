// ns a head on this machine: parse with each scanner, table lookups, serialise, and all three as a request meets them.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "core/http1/serialize.h"
#include "core/tables/tables.h"
#include "timing.h"

namespace {

using namespace weft;
using namespace weft::http1;

/// `fields` header fields, padded to exactly `bytes`.
std::string sample(size_t fields, size_t bytes) {
  std::string head =
      "GET /api/v1/reviews/42?verbose=1 HTTP/1.1\r\nHost: reviews.shop.svc.cluster.local:9080\r\nUser-Agent: curl/8.5.0\r\n"
      "Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
      "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nend-user: jason\r\n";
  for (size_t i = 7; i + 1 < fields; i++) head += "x-extra-header-" + std::to_string(i) + ": some value of usual length\r\n";
  const size_t rest = bytes - head.size() - strlen("x-pad: \r\n\r\n");
  return head + "x-pad: " + std::string(rest, 'p') + "\r\n\r\n";
}

std::shared_ptr<const Tables> tables() {
  TableSpec spec;
  for (int i = 0; i < 200; i++) spec.hosts.push_back("service-" + std::to_string(i) + ".shop.svc.cluster.local");
  spec.hosts.push_back("reviews.shop.svc.cluster.local");
  for (int i = 0; i < 50; i++) spec.paths.push_back("/api/v" + std::to_string(i));
  spec.paths.push_back("/api/v1/reviews");
  spec.predicates = {
      {PredicateKind::kHeader, "end-user", "jason"}, {PredicateKind::kQuery, "verbose", "1"}, {PredicateKind::kMethod, "", "POST"}};
  spec.mutations = {{{"x-internal"}, {{"x-set", "1"}}, {}}};
  std::string error;
  return Tables::build(spec, &error);
}

void bench(size_t fields, size_t bytes) {
  const std::string text = sample(fields, bytes);
  std::vector<uint8_t> buffer(text.begin(), text.end());
  buffer.resize(text.size() + kReadPastEnd);
  const auto lookup = tables();
  static RequestHead head;
  char out[4096];
  size_t size = 0;
  uint32_t words[4];
  printf("%zu fields, %zu bytes\n", fields, text.size());
  for (const ScannerKind kind : kScannerKinds) {
    const ClassifyFunction classify = classify_function(kind);
    if (classify == nullptr) continue;
    const double ns = nanoseconds([&] { keep(parse_request_head(classify, buffer.data(), text.size(), {}, &head)); });
    printf("  parse %-8s %7.1f ns\n", scanner_name(kind), ns);
  }
  const auto find = [&] {
    keep(lookup->host(head.authority.in(buffer.data())));
    keep(lookup->path(head.path.in(buffer.data())));
    weft::MatchedValues values;
    keep(lookup->match_predicates(head, buffer.data(), words, &values));
  };
  RequestHeadOptions options;
  options.mutations = lookup->mutation(0);
  options.forwarded_for = "10.42.0.17";
  const auto write = [&] { keep(write_request_head(head, buffer.data(), options, out, sizeof(out), &size)); };
  printf("  lookups        %7.1f ns\n", nanoseconds(find));
  printf("  serialise      %7.1f ns\n", nanoseconds(write));
  printf("  all            %7.1f ns\n", nanoseconds([&] {
           keep(parse_request_head(buffer.data(), text.size(), {}, &head));
           find();
           write();
         }));
}

}  // namespace

int main() {
  bench(8, 355);
  bench(25, 1255);
  return 0;
}
