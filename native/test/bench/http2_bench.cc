// ns a gRPC-shaped header block on this machine: decode, checks and matching, encode for the next hop, and all of it as a request meets it.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/http2/hpack_decoder.h"
#include "core/http2/hpack_huffman.h"
#include "core/http2/match.h"
#include "core/http2/transcode.h"
#include "timing.h"

namespace {

using namespace weft;
using namespace weft::http2;

std::shared_ptr<const Tables> tables() {
  TableSpec spec;
  for (int i = 0; i < 200; i++) spec.hosts.push_back("service-" + std::to_string(i) + ".shop.svc.cluster.local");
  spec.hosts.push_back("reviews.shop.svc.cluster.local");
  for (int i = 0; i < 50; i++) spec.paths.push_back("/shop.Service" + std::to_string(i));
  spec.paths.push_back("/shop.Reviews");
  spec.predicates = {{PredicateKind::kHeader, "x-tenant", "shop"}, {PredicateKind::kMethod, "", "POST"}};
  std::string error;
  return Tables::build(spec, &error);
}

using Line = std::pair<std::string, std::string>;
const std::vector<Line> kRequest = {{":method", "POST"},
                                    {":scheme", "http"},
                                    {":path", "/shop.Reviews/Get"},
                                    {":authority", "reviews.shop.svc.cluster.local:9080"},
                                    {"content-type", "application/grpc"},
                                    {"user-agent", "grpc-go/1.60.1"},
                                    {"te", "trailers"},
                                    {"grpc-accept-encoding", "gzip"},
                                    {"x-tenant", "shop"},
                                    {"grpc-timeout", "1S"}};

/// A client's encoder; what it writes is what a client that indexes everything sends.
std::vector<uint8_t> wire_of(const std::vector<Line>& lines, HpackEncoder* encoder) {
  std::vector<uint8_t> out(4096);
  uint8_t* at = encoder->begin(out.data());
  for (const Line& line : lines) at = encoder->write_text(line.first, line.second, Indexing::kAllowed, at);
  out.resize(static_cast<size_t>(at - out.data()));
  return out;
}

/// `literals` of the lines are sent Huffman-encoded without indexing, the rest as indexes.
void bench(const char* title, size_t literals) {
  InternTable client, worker;
  HpackEncoder client_encoder(&client), upstream(&worker);
  HpackDecoder decoder(&worker);
  const auto lookup = tables();
  HeaderBlock block(&worker);
  std::vector<uint8_t> last;
  for (int i = 0; i < 3; i++) {  // The second fills the tables, the third is all indexes.
    last = wire_of(kRequest, &client_encoder);
    block.clear();
    if (decoder.decode(last.data(), last.size(), {}, &block) != HpackFault::kNone) abort();
  }
  for (size_t i = 0; i < literals; i++) {
    const std::string value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333" + std::to_string(i) + "-01";
    last.insert(last.end(), {0x00, 11});
    for (const char c : std::string_view("traceparent")) last.push_back(static_cast<uint8_t>(c));
    last.push_back(static_cast<uint8_t>(0x80 | huffman_encoded_size(value)));
    last.resize(last.size() + huffman_encoded_size(value));
    huffman_encode(value, last.data() + last.size() - huffman_encoded_size(value));
  }
  RequestSummary summary;
  uint8_t out[4096];
  uint32_t words[4];
  size_t size = 0;
  const auto decode = [&] {
    block.clear();
    keep(decoder.decode(last.data(), last.size(), {}, &block));
  };
  const auto check = [&] { keep(check_request(block, false, false, &summary)); };
  const auto match = [&] {
    keep(match_host(*lookup, summary));
    keep(match_path(*lookup, summary));
    weft::MatchedValues values;
    keep(match_predicates(*lookup, block, summary, words, &values));
  };
  ForwardOptions options;
  const auto encode = [&] { keep(write_request_block(block, summary, options, &upstream, out, sizeof(out), &size)); };
  decode(), check(), encode(), encode();
  printf("%s: %zu fields, %zu bytes in, %zu out\n", title, block.size(), last.size(), size);
  printf("  decode     %7.1f ns\n", nanoseconds(decode));
  printf("  check      %7.1f ns\n", nanoseconds(check));
  printf("  match      %7.1f ns\n", nanoseconds(match));
  printf("  encode     %7.1f ns\n", nanoseconds(encode));
  printf("  transcoded %7.1f ns (decode, check, encode)\n", nanoseconds([&] { decode(), check(), encode(); }));
  options.forwarded_for = "10.42.0.17";
  printf("  all        %7.1f ns (with matching and x-forwarded-for)\n", nanoseconds([&] { decode(), check(), match(), encode(); }));
}

}  // namespace

int main() {
  bench("fully indexed", 0);
  bench("one traceparent as a literal", 1);
  return 0;
}
