// Field lists as messages: what RFC 9113 8 refuses, what crosses between the protocols, what tables say, and the intern table under churn.
#include <algorithm>
#include <memory>

#include "check.h"
#include "core/http2/match.h"
#include "core/http2/transcode.h"
#include "core/http2/websocket.h"
#include "http2_support.h"

namespace weft::test {
namespace {

using namespace http2;
using http1::KnownHeader;
using http1::Method;

const FieldList kGet = {{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/p?q=1"}};

FieldList with(FieldList list, const FieldList& more) {
  list.insert(list.end(), more.begin(), more.end());
  return list;
}
FieldList without(FieldList list, std::string_view name) {
  std::erase_if(list, [&](const auto& field) { return field.first == name; });
  return list;
}
FieldList replaced(FieldList list, std::string_view name, std::string_view value) {
  for (auto& field : list) {
    if (field.first == name) field.second = value;
  }
  return list;
}

std::string request_error(const FieldList& list, bool end_stream = true, bool extended_connect = false) {
  InternTable table;
  const HeaderBlock block = block_of(list, &table);
  RequestSummary summary;
  return block_error_name(check_request(block, end_stream, extended_connect, &summary));
}
std::string response_error(const FieldList& list) {
  InternTable table;
  const HeaderBlock block = block_of(list, &table);
  ResponseSummary summary;
  return block_error_name(check_response(block, &summary));
}
std::string trailer_error(const FieldList& list) {
  InternTable table;
  return block_error_name(check_trailers(block_of(list, &table)));
}

TEST("RFC 9113 8.3: which pseudo-header fields a request has") {
  CHECK_EQ(request_error(kGet), "none");
  for (const char* name : {":method", ":scheme", ":path"}) {
    CHECK_EQ(request_error(without(kGet, name)), "pseudo_missing");
    CHECK_EQ(request_error(with(kGet, {{name, "GET"}})), "pseudo_repeated");
  }
  CHECK_EQ(request_error(with(kGet, {{":status", "200"}})), "pseudo_not_allowed");
  CHECK_EQ(request_error(with(kGet, {{":version", "2"}})), "pseudo_unknown");
  CHECK_EQ(request_error(with({{"a", "b"}}, kGet)), "pseudo_misplaced");
  CHECK_EQ(request_error(replaced(kGet, ":path", "")), "path");
  CHECK_EQ(request_error(replaced(kGet, ":path", "p")), "path");
  CHECK_EQ(request_error(replaced(kGet, ":path", "/a b")), "path");
  CHECK_EQ(request_error(replaced(kGet, ":path", "/a#b")), "path");
  CHECK_EQ(request_error(replaced(kGet, ":path", "*")), "path");
  CHECK_EQ(request_error(replaced(replaced(kGet, ":path", "*"), ":method", "OPTIONS")), "none");
  CHECK_EQ(request_error(replaced(kGet, ":method", "G T")), "method");
  CHECK_EQ(request_error(replaced(kGet, ":scheme", "ftp")), "scheme");
}

TEST("RFC 9113 8.3.1: one authority, as :authority or Host, or both alike") {
  CHECK_EQ(request_error(without(kGet, ":authority")), "authority_missing");
  CHECK_EQ(request_error(with(without(kGet, ":authority"), {{"host", "a"}})), "none");
  CHECK_EQ(request_error(with(kGet, {{"host", "A"}})), "none");
  CHECK_EQ(request_error(with(kGet, {{"host", "b"}})), "host_differs");
  CHECK_EQ(request_error(with(kGet, {{"host", "a"}, {"host", "a"}})), "host_repeated");
  CHECK_EQ(request_error(replaced(kGet, ":authority", "u@a")), "authority_syntax");
  CHECK_EQ(request_error(replaced(kGet, ":authority", "")), "authority_syntax");
}

TEST("RFC 9113 8.2: names, values and connection-specific fields") {
  for (const char* name : {"A", "a b", "a:", "", "a\x80"}) CHECK_EQ(request_error(with(kGet, {{name, "x"}})), "field_name");
  for (const char* value : {"a\nb: c", "a\r", " a", "a ", "\ta", "a\x01 longer than eight", "longer than eight \x7f"}) {
    CHECK_EQ(request_error(with(kGet, {{"a", value}})), "field_value");
  }
  CHECK_EQ(request_error(with(kGet, {{"a", std::string("a\0b", 3)}})), "field_value");
  CHECK_EQ(request_error(with(kGet, {{"a", "tab\tand \xc3\xa9 beyond eight bytes"}})), "none");
  for (const char* name : {"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"}) {
    CHECK_EQ(request_error(with(kGet, {{name, "x"}})), "connection_specific");
    CHECK_EQ(response_error({{":status", "200"}, {name, "x"}}), "connection_specific");
  }
  CHECK_EQ(request_error(with(kGet, {{"te", "trailers"}})), "none");
  CHECK_EQ(request_error(with(kGet, {{"te", "gzip"}})), "connection_specific");
}

TEST("content-length, expect, CONNECT") {
  CHECK_EQ(request_error(with(kGet, {{"content-length", "0"}})), "none");
  CHECK_EQ(request_error(with(kGet, {{"content-length", "1"}}), false), "none");
  CHECK_EQ(request_error(with(kGet, {{"content-length", "1"}})), "content_length_without_body");
  CHECK_EQ(request_error(with(kGet, {{"content-length", "1,1"}})), "content_length_syntax");
  CHECK_EQ(request_error(with(kGet, {{"content-length", "1"}, {"content-length", "1"}}), false), "content_length_repeated");
  CHECK_EQ(request_error(with(kGet, {{"expect", "x"}})), "expect_unsupported");
  CHECK_EQ(block_error_status(BlockError::kExpectUnsupported), 417);
  CHECK_EQ(request_error({{":method", "CONNECT"}, {":authority", "a:1"}}), "none");
  CHECK_EQ(request_error({{":method", "CONNECT"}, {":authority", "a:1"}, {":path", "/"}}), "pseudo_not_allowed");
  const FieldList extended = with(replaced(kGet, ":method", "CONNECT"), {{":protocol", "websocket"}});
  CHECK_EQ(request_error(extended, false, true), "none");
  // For routes too, also of one that filters have written anew.
  InternTable table;
  const HeaderBlock block = block_of(extended, &table);
  RequestSummary asked;
  CHECK_EQ(check_request(block, false, true, &asked), BlockError::kNone);
  CHECK_EQ(asked.method, Method::kGet);
  CHECK_EQ(request_error(extended, false, false), "pseudo_not_allowed");
  CHECK_EQ(request_error(with(kGet, {{":protocol", "websocket"}}), false, true), "pseudo_not_allowed");
}

TEST("responses and trailers") {
  CHECK_EQ(response_error({{":status", "200"}}), "none");
  CHECK_EQ(response_error({}), "pseudo_missing");
  for (const char* status : {"101", "99", "600", "2000", "2x0"}) CHECK_EQ(response_error({{":status", status}}), "status");
  CHECK_EQ(response_error({{":status", "200"}, {":path", "/"}}), "pseudo_not_allowed");
  CHECK_EQ(trailer_error({{"grpc-status", "0"}}), "none");
  CHECK_EQ(trailer_error({{":status", "200"}}), "pseudo_not_allowed");
  CHECK_EQ(trailer_error({{"content-length", "1"}}), "field_name");
}

/// A request over one hop: decoded list of what was written.
struct Transcoder {
  InternTable table, peer;
  HpackEncoder encoder{&table};
  HpackDecoder decoder{&peer};
  std::vector<uint8_t> out = std::vector<uint8_t>(16384);
  size_t size = 0;

  FieldList received() {
    HeaderBlock block(&peer);
    CHECK_EQ(decoder.decode(out.data(), size, {1u << 20, 128}, &block), HpackFault::kNone);
    return list_of(block);
  }
};

std::string forwarded2(const FieldList& list, const ForwardOptions& options) {
  Transcoder hop;
  const HeaderBlock block = block_of(list, &hop.table);
  RequestSummary summary;
  CHECK_EQ(check_request(block, false, true, &summary), BlockError::kNone);
  const size_t bound = block_bound(block, options);
  CHECK(!write_request_block(block, summary, options, &hop.encoder, hop.out.data(), bound - 1, &hop.size));
  CHECK(write_request_block(block, summary, options, &hop.encoder, hop.out.data(), bound, &hop.size));
  return shown_list(hop.received());
}

TEST("HTTP/2 to HTTP/2: fields go over, ours are made anew") {
  http1::MutationSet mutations;
  std::string error;
  CHECK(mutations.compile({"x-gone"}, {{"x-set", "1"}}, {}, &error));
  ForwardOptions options;
  options.authority = "b:81";
  options.scheme = "https";
  options.mutations = &mutations;
  options.forwarded_for = "10.0.0.9";
  options.forwarded_proto = "http";
  options.drop_known = http1::known_bit(KnownHeader::kXRequestId);
  options.extra_lines = "x-request-id: new\r\n";
  options.steady_lines = "via: 2 weft\r\n";
  CHECK_EQ(forwarded2(with(kGet, {{"host", "a"},
                                  {"x-gone", "1"},
                                  {"x-set", "old"},
                                  {"x-forwarded-for", "1.1.1.1"},
                                  {"x-request-id", "old"},
                                  {"te", "trailers"}}),
                      options),
           ":method: GET\n:scheme: https\n:path: /p?q=1\n:authority: b:81\nte: trailers\nx-forwarded-for: 1.1.1.1, 10.0.0.9\n"
           "x-forwarded-proto: http\nx-request-id: new\nvia: 2 weft\nx-set: 1\n");
  CHECK_EQ(forwarded2(with(without(kGet, ":authority"), {{"host", "a"}, {"x", "y"}}), {}),
           ":method: GET\n:scheme: http\n:path: /p?q=1\n:authority: a\nx: y\n");
}

std::string to_http1(const FieldList& list, bool end_stream, http1::RequestHeadOptions options = {}) {
  InternTable table;
  const HeaderBlock block = block_of(list, &table);
  RequestSummary summary;
  CHECK_EQ(check_request(block, end_stream, true, &summary), BlockError::kNone);
  options.framing = request_framing(summary, end_stream);
  std::string out(4096, 0);
  size_t size = 0;
  CHECK(write_request_head(block, summary, options, out.data(), out.size(), &size));
  CHECK(!write_request_head(block, summary, options, out.data(), size - 1, &size));
  CHECK(write_request_head(block, summary, options, out.data(), out.size(), &size));
  return out.substr(0, size);
}

TEST("HTTP/2 to HTTP/1: Host, one Cookie, framing, TE, upgrade") {
  CHECK_EQ(to_http1(with(kGet, {{"cookie", "a=1"}, {"x", "y"}, {"cookie", "b=2"}, {"te", "trailers"}}), true),
           "GET /p?q=1 HTTP/1.1\r\nhost: a\r\nx: y\r\ncookie: a=1; b=2\r\nte: trailers\r\nconnection: te\r\n\r\n");
  CHECK_EQ(to_http1(replaced(kGet, ":method", "POST"), false), "POST /p?q=1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
  CHECK_EQ(to_http1(with(kGet, {{"content-length", "7"}}), false), "GET /p?q=1 HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n");
  CHECK_EQ(to_http1(replaced(kGet, ":method", "PUT"), true), "PUT /p?q=1 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
  http1::RequestHeadOptions options;
  options.extra_lines = "sec-websocket-key: k\r\n";
  CHECK_EQ(
      to_http1(with(replaced(kGet, ":method", "CONNECT"), {{":protocol", "websocket"}, {"sec-websocket-version", "13"}}), false, options),
      "GET /p?q=1 HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\nsec-websocket-key: k\r\nupgrade: websocket\r\n"
      "connection: upgrade\r\n\r\n");
}

std::string answer_to_http1(const FieldList& list, bool end_stream, Method method, uint8_t minor, int status = 0) {
  InternTable table;
  const HeaderBlock block = block_of(list, &table);
  ResponseSummary summary;
  CHECK_EQ(check_response(block, &summary), BlockError::kNone);
  http1::ResponseHeadOptions options;
  set_forwarded_framing(summary, end_stream, method, minor, &options);
  char out[1024];
  size_t size = 0;
  CHECK(write_response_head(block, summary, status, options, out, sizeof(out), &size));
  return {out, size};
}

TEST("HTTP/2 answers to HTTP/1 clients: framing by version and method") {
  const FieldList ok = {{":status", "200"}, {"server", "x"}};
  CHECK_EQ(answer_to_http1(ok, false, Method::kGet, 1), "HTTP/1.1 200 OK\r\nserver: x\r\ntransfer-encoding: chunked\r\n\r\n");
  CHECK_EQ(answer_to_http1(ok, false, Method::kGet, 0), "HTTP/1.1 200 OK\r\nserver: x\r\nconnection: close\r\n\r\n");
  CHECK_EQ(answer_to_http1(ok, true, Method::kGet, 1), "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 0\r\n\r\n");
  CHECK_EQ(answer_to_http1(with(ok, {{"content-length", "5"}}), true, Method::kHead, 1),
           "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 5\r\n\r\n");
  CHECK_EQ(answer_to_http1(with(ok, {{"content-length", "5"}}), false, Method::kGet, 1),
           "HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 5\r\n\r\n");
  CHECK_EQ(answer_to_http1({{":status", "204"}}, true, Method::kGet, 1), "HTTP/1.1 204 No Content\r\n\r\n");
  CHECK_EQ(answer_to_http1({{":status", "103"}, {"link", "x"}}, false, Method::kGet, 1), "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
  CHECK_EQ(answer_to_http1({{":status", "200"}}, false, Method::kConnect, 1, 101),
           "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
}

std::string from_http1(const std::string& lines, bool upgrade, const ForwardOptions& options) {
  const std::string bytes = lines + "\r\n" + std::string(http1::kReadPastEnd, 0);
  http1::RequestHead head;
  CHECK_EQ(http1::parse_request_head(data_of(bytes), lines.size() + 2, {}, &head).status, http1::ParseStatus::kComplete);
  Transcoder hop;
  CHECK(write_request_block(head, data_of(bytes), upgrade, options, &hop.encoder, hop.out.data(), block_bound(head, options), &hop.size));
  return shown_list(hop.received());
}

TEST("RFC 9110 8.6: what has no body by its status is told without a length") {
  for (const char* status : {"100", "103", "204"}) {
    InternTable table;
    const HeaderBlock block = block_of({{":status", status}, {"content-length", "0"}, {"x", "y"}}, &table);
    ResponseSummary summary;
    CHECK_EQ(check_response(block, &summary), BlockError::kNone);
    Transcoder hop;
    CHECK(write_response_block(block, summary, {}, &hop.encoder, hop.out.data(), hop.out.size(), &hop.size));
    CHECK_EQ(shown_list(hop.received()), shown_list({{":status", status}, {"x", "y"}}));
  }
}

TEST("HTTP/1 to HTTP/2: lower case, no hop-by-hop fields, :authority") {
  ForwardOptions options;
  options.forwarded_for = "10.0.0.9";
  CHECK_EQ(from_http1("POST /a?b HTTP/1.1\r\nHost: h:1\r\nX-Name: V\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nTE: gzip, trailers\r\n"
                      "Authorization: s\r\nContent-Length: 003\r\n",
                      false, options),
           ":method: POST\n:scheme: http\n:path: /a?b\n:authority: h:1\nx-name: V\nauthorization: s\nte: trailers\ncontent-length: 3\n"
           "x-forwarded-for: 10.0.0.9\n");
  CHECK_EQ(from_http1("GET http://b?q HTTP/1.1\r\nHost: a\r\n", false, {}), ":method: GET\n:scheme: http\n:path: /?q\n:authority: b\n");
  CHECK_EQ(from_http1("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"
                      "Sec-WebSocket-Version: 13\r\n",
                      true, {}),
           ":method: CONNECT\n:scheme: http\n:path: /ws\n:authority: a\n:protocol: websocket\nsec-websocket-version: 13\n");
}

TEST("RFC 6455 1.3: a WebSocket key has its answer") {
  const auto accept = websocket_accept("dGhlIHNhbXBsZSBub25jZQ==");
  CHECK_EQ(std::string(accept.data(), accept.size()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  const auto longer = websocket_accept(std::string(100, 'k'));
  CHECK_EQ(longer.back(), '=');
  const auto key = websocket_key(0, 0);
  CHECK_EQ(std::string(key.data(), key.size()), "AAAAAAAAAAAAAAAAAAAAAA==");
}

TEST("HTTP/1 answers, local replies and trailers as blocks") {
  const std::string lines = "HTTP/1.1 201 Made\r\nServer: x\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\n\r\n";
  const std::string bytes = lines + std::string(http1::kReadPastEnd, 0);
  http1::ResponseHead head;
  CHECK_EQ(http1::parse_response_head(data_of(bytes), lines.size(), {}, &head).status, http1::ParseStatus::kComplete);
  Transcoder hop;
  CHECK(write_response_block(head, data_of(bytes), 0, {}, &hop.encoder, hop.out.data(), hop.out.size(), &hop.size));
  CHECK_EQ(shown_list(hop.received()), ":status: 201\nserver: x\nset-cookie: a\n");
  CHECK(write_local_response_block(503, nullptr, "Retry-After: 1\r\n", 4, &hop.encoder, hop.out.data(), hop.out.size(), &hop.size));
  CHECK_EQ(shown_list(hop.received()), ":status: 503\nretry-after: 1\ncontent-length: 4\n");
  CHECK(write_trailer_block("Grpc-Status: 0\r\nX: \r\n", &hop.encoder, hop.out.data(), hop.out.size(), &hop.size));
  CHECK_EQ(shown_list(hop.received()), "grpc-status: 0\nx: \n");
  char text[64];
  size_t size = 0;
  InternTable table;
  CHECK(write_trailer_lines(block_of({{"a", "b"}, {"c", "d"}}, &table), text, sizeof(text), &size));
  CHECK_EQ(std::string(text, size), "a: b\r\nc: d\r\n");
}

TEST("tables say the same of a block as of an HTTP/1 head, also remembered, also of other tables") {
  TableSpec spec;
  spec.hosts = {"other", "a", "*.b"};
  spec.paths = {"/", "/p", "/p/q"};
  spec.predicates = {{PredicateKind::kHeader, "x", "1"},    {PredicateKind::kHeader, "x", "1,2"},
                     {PredicateKind::kHeader, "host", "a"}, {PredicateKind::kQuery, "q", "1"},
                     {PredicateKind::kMethod, "", "GET"},   {PredicateKind::kHeader, "cookie", "a=1; b=2"},
                     {PredicateKind::kMethod, "", "POST"},  {PredicateKind::kHeader, "x", "1"}};
  std::string error;
  const auto first = Tables::build(spec, &error);
  std::reverse(spec.predicates.begin(), spec.predicates.end());
  std::reverse(spec.hosts.begin(), spec.hosts.end());
  const auto second = Tables::build(spec, &error);
  CHECK(first->serial() != second->serial());
  InternTable table;
  const auto ask = [&](const Tables& tables, const FieldList& list) {
    HeaderBlock block(&table);
    for (const auto& [name, value] : list) block.add_interned(table.intern(name, value).field, false);
    RequestSummary summary;
    CHECK_EQ(check_request(block, true, false, &summary), BlockError::kNone);
    uint32_t words[1] = {0};
    weft::MatchedValues values;
    match_predicates(tables, block, summary, words, &values);
    const PathMatch path = match_path(tables, summary);
    return std::to_string(match_host(tables, summary)) + " " + std::to_string(path.id) + (path.exact ? "! " : " ") +
           std::to_string(words[0]);
  };
  for (int round = 0; round < 2; round++) {
    CHECK_EQ(ask(*first, with(kGet, {{"x", "1"}})), "1 1! " + std::to_string(1 + 4 + 8 + 16 + 128));
    CHECK_EQ(ask(*first, with(kGet, {{"x", "1"}, {"x", "2"}})), "1 1! " + std::to_string(2 + 4 + 8 + 16));
    CHECK_EQ(ask(*first, with(kGet, {{"cookie", "a=1"}, {"host", "a"}, {"cookie", "b=2"}})), "1 1! " + std::to_string(4 + 8 + 16 + 32));
    CHECK_EQ(ask(*second, replaced(kGet, ":authority", "x.b:80")), "0 1! " + std::to_string(8 + 16));
  }
}

TEST("a predicate for a gRPC method holds for a block's path, whatever else is asked for, remembered and of other tables") {
  TableSpec spec;
  spec.predicates = {{PredicateKind::kHeader, "x", "1"}, {PredicateKind::kGrpcMethod, "", "Get"}};
  std::string error;
  const auto first = Tables::build(spec, &error);
  std::reverse(spec.predicates.begin(), spec.predicates.end());
  const auto second = Tables::build(spec, &error);
  InternTable table;
  const auto ask = [&](const Tables& tables, const char* path) {
    HeaderBlock block(&table);
    for (const auto& [name, value] : with(replaced(kGet, ":path", path), {{"x", "1"}}))
      block.add_interned(table.intern(name, value).field, false);
    RequestSummary summary;
    CHECK_EQ(check_request(block, true, false, &summary), BlockError::kNone);
    uint32_t words[1] = {0};
    weft::MatchedValues values;
    CHECK(match_predicates(tables, block, summary, words, &values));
    return words[0];
  };
  for (int round = 0; round < 2; round++) {
    CHECK_EQ(ask(*first, "/shop.Catalog/Get"), 3u);
    CHECK_EQ(ask(*first, "/shop.Catalog/Put"), 1u);
    CHECK_EQ(ask(*second, "/shop.Catalog/Get?a=b"), 3u);
    CHECK_EQ(ask(*second, "/Get"), 2u);
  }
}

TEST("lines with references survive churn, the others are bounded") {
  InternTable table({16, 4096});
  Random random(7);
  std::vector<std::pair<InternedField*, std::string>> held;
  for (int round = 0; round < 20000; round++) {
    const std::string value = std::to_string(random.below(5000)) + std::string(random.below(100), 'v');
    const Interned line = table.intern("x-churn", value);
    CHECK_EQ(std::string(line.field->value()), value);
    if (held.size() < 64 && random.below(4) == 0) {
      held.emplace_back(line.field, value);
    } else {
      table.release(line.field);
    }
    if (!held.empty() && random.below(8) == 0) {
      const size_t at = random.below(static_cast<uint32_t>(held.size()));
      CHECK_EQ(std::string(held[at].first->value()), held[at].second);
      table.release(held[at].first);
      held.erase(held.begin() + static_cast<long>(at));
    }
    CHECK(table.unreferenced() <= 16 && table.unreferenced_bytes() <= 4096 && table.size() <= 16 + held.size());
  }
  CHECK(table.evictions() > 1000);
  for (const auto& [field, value] : held) {
    CHECK_EQ(std::string(field->value()), value);
    CHECK(table.intern("x-churn", value).field == field);
  }
}

}  // namespace
}  // namespace weft::test
