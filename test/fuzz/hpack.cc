// Field blocks: whatever decodes reads the same behind another connection; what passes the checks is, as HTTP/1, one head with the same
// meaning. The tables of both connections live on from block to block.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/http2/hpack_decoder.h"
#include "core/http2/hpack_huffman.h"
#include "core/http2/match.h"
#include "core/http2/transcode.h"
#include "http1_fuzz.h"

using namespace weft;
using namespace weft::http2;

namespace {

constexpr BlockLimits kLimits{4096, 32};

struct Proxy {
  InternTable table{{32, 4096}};
  InternTable peer_table{{32, 4096}};
  HpackDecoder decoder{&table};
  HpackEncoder encoder{&table};
  HpackDecoder peer{&peer_table};
};

std::shared_ptr<const Tables> make_tables() {
  TableSpec spec;
  spec.hosts = {"a", "*"};
  spec.paths = {"/", "/a"};
  spec.predicates = {{PredicateKind::kHeader, "x", "1"}, {PredicateKind::kHeader, "cookie", "a; b"}, {PredicateKind::kQuery, "q", "1"}};
  std::string error;
  return Tables::build(spec, &error);
}

void check_same(Proxy* proxy, const std::vector<uint8_t>& wire, const HeaderBlock& sent) {
  HeaderBlock received(&proxy->peer_table);
  fuzz::require(proxy->peer.decode(wire.data(), wire.size(), {1u << 20, http1::kMaxFields}, &received) == HpackFault::kNone, "decodes");
  fuzz::require(received.size() == sent.size(), "as many fields");
  for (size_t i = 0; i < sent.size(); i++) {
    const HeaderField &a = sent.begin()[i], &b = received.begin()[i];
    fuzz::require(sent.name(a) == received.name(b) && sent.value(a) == received.value(b), "the same field");
    fuzz::require(!a.never_indexed || b.never_indexed, "never indexed by any hop");
  }
}

void transcode(Proxy* proxy, const HeaderBlock& block) {
  std::vector<uint8_t> wire(block_bound(block, {}));
  uint8_t* at = proxy->encoder.begin(wire.data());
  for (const HeaderField& field : block) at = proxy->encoder.write(block, field, at);
  fuzz::require(at <= wire.data() + wire.size(), "within its bound");
  wire.resize(static_cast<size_t>(at - wire.data()));
  check_same(proxy, wire, block);
}

void check_http1(const HeaderBlock& block, const Tables& tables) {
  RequestSummary summary;
  if (check_request(block, false, true, &summary) != BlockError::kNone) return;
  uint32_t words[1];
  match_host(tables, summary);
  match_path(tables, summary);
  weft::MatchedValues values;
  match_predicates(tables, block, summary, words, &values);
  if (summary.method == http1::Method::kConnect && !summary.is_extended_connect) return;
  http1::RequestHeadOptions options;
  options.framing = request_framing(summary, false);
  const size_t capacity = static_cast<size_t>(block.list_size()) + 512;
  const std::unique_ptr<uint8_t[]> out(new uint8_t[capacity + http1::kReadPastEnd]());
  size_t size = 0;
  fuzz::require(write_request_head(block, summary, options, reinterpret_cast<char*>(out.get()), capacity, &size), "a head plus 512 fits");
  http1::RequestHead head;
  const http1::ParseResult result = http1::parse_request_head(out.get(), size, {static_cast<uint32_t>(capacity), http1::kMaxFields}, &head);
  if (result.status == http1::ParseStatus::kInvalid) fprintf(stderr, "%s\n", http1::head_error_name(result.error));
  fuzz::require(result.status == http1::ParseStatus::kComplete && head.size == size, "what we forward is one whole head");
  fuzz::require(head.target.in(out.get()) == summary.target && head.authority.in(out.get()) == summary.authority, "same target");
  if (!summary.is_extended_connect) {
    fuzz::require(head.chunked != summary.has_content_length && head.content_length == summary.content_length, "same framing");
  }
  fuzz::require(head.path_is_ambiguous == summary.path_is_ambiguous, "same ambiguity");
}

void check_huffman(const uint8_t* data, size_t size) {
  std::string text(huffman_decoded_bound(size), 0);
  const int64_t decoded = huffman_decode(data, size, text.data());
  if (decoded < 0) return;
  text.resize(static_cast<size_t>(decoded));
  std::string again(huffman_encoded_size(text), 0);
  huffman_encode(text, reinterpret_cast<uint8_t*>(again.data()));
  fuzz::require(again.size() == size && (size == 0 || memcmp(again.data(), data, size) == 0), "a text has one encoding");
}

}  // namespace

/// Each block: a byte of length, then the block; length 0 resizes the tables instead.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::shared_ptr<const Tables> tables = make_tables();
  check_huffman(data, size);
  Proxy proxy;
  while (size > 1) {
    const size_t length = std::min<size_t>(data[0], size - 1);
    if (length == 0) {
      const uint32_t limit = data[1] * 20u;
      proxy.encoder.set_peer_limit(limit);
      proxy.peer.set_limit(limit);
      data += 2;
      size -= 2;
      continue;
    }
    HeaderBlock block(&proxy.table);
    const std::unique_ptr<uint8_t[]> exact(new uint8_t[length]);
    memcpy(exact.get(), data + 1, length);
    if (proxy.decoder.decode(exact.get(), length, kLimits, &block) != HpackFault::kNone) return 0;
    const HeaderBlock kept = std::move(block);
    if (!kept.is_truncated()) {
      transcode(&proxy, kept);
      check_http1(kept, *tables);
      ResponseSummary response;
      check_response(kept, &response);
      check_trailers(kept);
    }
    data += 1 + length;
    size -= 1 + length;
  }
  return 0;
}
