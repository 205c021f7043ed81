// Forwarded heads: what goes over, what stays behind, what is ours.
#include "core/http1/serialize.h"

#include <cstring>
#include <memory>
#include <string>

#include "check.h"

namespace weft::test {
namespace {

using namespace http1;

/// A parsed head with its bytes.
template <typename Head>
struct Parsed {
  std::string bytes;
  Head head;
  const uint8_t* base() const { return reinterpret_cast<const uint8_t*>(bytes.data()); }
};

Parsed<RequestHead> request(const std::string& lines) {
  Parsed<RequestHead> parsed{lines + "\r\n" + std::string(kReadPastEnd, 0), {}};
  const ParseResult result = parse_request_head(parsed.base(), lines.size() + 2, {}, &parsed.head);
  CHECK_EQ(result.status, ParseStatus::kComplete);
  return parsed;
}

Parsed<ResponseHead> response(const std::string& lines) {
  Parsed<ResponseHead> parsed{lines + "\r\n" + std::string(kReadPastEnd, 0), {}};
  const ParseResult result = parse_response_head(parsed.base(), lines.size() + 2, {}, &parsed.head);
  CHECK_EQ(result.status, ParseStatus::kComplete);
  return parsed;
}

/// Also checks that every smaller buffer is refused and not overrun.
std::string forwarded(const std::string& lines, RequestHeadOptions options = {}) {
  const Parsed<RequestHead> parsed = request(lines);
  if (options.framing.kind == Framing::kNone) options.framing = request_body_framing(parsed.head);
  std::string out(4096, 0);
  size_t size = 0;
  CHECK(write_request_head(parsed.head, parsed.base(), options, out.data(), out.size(), &size));
  for (size_t capacity = 0; capacity < size; capacity++) {
    const std::unique_ptr<char[]> exact(new char[capacity]);
    size_t ignored;
    CHECK(!write_request_head(parsed.head, parsed.base(), options, exact.get(), capacity, &ignored));
  }
  return out.substr(0, size);
}

std::string answered(const std::string& lines, Method method, uint8_t client_minor, ResponseHeadOptions options = {}) {
  const Parsed<ResponseHead> parsed = response(lines);
  set_forwarded_framing(parsed.head, method, client_minor, &options);
  std::string out(4096, 0);
  size_t size = 0;
  CHECK(write_response_head(parsed.head, parsed.base(), options, out.data(), out.size(), &size));
  return out.substr(0, size);
}

TEST("end-to-end fields are forwarded as they came, Host first") {
  CHECK_EQ(forwarded("GET /a?b HTTP/1.1\r\nAccept:  */* \r\nHost: a:8080\r\nX-A: 1\r\nx-a: 2\r\n"),
           "GET /a?b HTTP/1.1\r\nhost: a:8080\r\nAccept:  */* \r\nX-A: 1\r\nx-a: 2\r\n\r\n");
}

TEST("hop-by-hop fields and those that Connection names stay behind") {
  CHECK_EQ(forwarded("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep: 1\r\nKeep-Alive: timeout=5\r\n"
                     "Proxy-Connection: x\r\nUpgrade: h2c\r\nTE: gzip\r\nTrailer: X\r\n"),
           "GET / HTTP/1.1\r\nhost: a\r\nKeep: 1\r\n\r\n");
}

TEST("the framing is written anew, Trailer only beside chunks") {
  CHECK_EQ(forwarded("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\nTrailer: X\r\n"),
           "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n");
  CHECK_EQ(forwarded("PUT / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nTransfer-Encoding: Chunked\r\n"),
           "PUT / HTTP/1.1\r\nhost: a\r\nTrailer: X\r\ntransfer-encoding: chunked\r\n\r\n");
  CHECK_EQ(forwarded("POST / HTTP/1.1\r\nHost: a\r\n"), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
}

TEST("TE: trailers is passed on, with its option") {
  CHECK_EQ(forwarded("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, Trailers\r\nConnection: te\r\n"),
           "GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n");
}

TEST("an absolute target becomes origin form with its authority as Host") {
  CHECK_EQ(forwarded("GET http://b:81/p?q HTTP/1.1\r\nHost: a\r\n"), "GET /p?q HTTP/1.1\r\nhost: b:81\r\n\r\n");
  CHECK_EQ(forwarded("GET http://b?q HTTP/1.1\r\nHost: a\r\n"), "GET /?q HTTP/1.1\r\nhost: b\r\n\r\n");
  CHECK_EQ(forwarded("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n"), "OPTIONS * HTTP/1.1\r\nhost: b\r\n\r\n");
}

TEST("HTTP/1.0 is forwarded as 1.1, with the Host the caller knows and without Expect") {
  RequestHeadOptions options;
  options.authority = "10.0.0.1:80";
  CHECK_EQ(forwarded("GET / HTTP/1.0\r\nExpect: 100-continue\r\n", options), "GET / HTTP/1.1\r\nhost: 10.0.0.1:80\r\n\r\n");
}

TEST("an upgrade is kept when asked") {
  RequestHeadOptions options;
  options.keep_upgrade = true;
  CHECK_EQ(forwarded("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x\r\nUpgrade: websocket\r\nX: 1\r\n", options),
           "GET / HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n");
}

TEST("the client is appended to X-Forwarded-For, the protocol replaced") {
  RequestHeadOptions options;
  options.forwarded_for = "10.0.0.9";
  options.forwarded_proto = "https";
  CHECK_EQ(
      forwarded("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nA: b\r\nx-forwarded-for: 2.2.2.2\r\nX-Forwarded-Proto: z\r\n",
                options),
      "GET / HTTP/1.1\r\nhost: a\r\nA: b\r\nx-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.9\r\nx-forwarded-proto: https\r\n\r\n");
}

TEST("mutations remove, then set, then add") {
  MutationSet mutations;
  std::string error;
  CHECK(mutations.compile({"x-Gone"}, {{"X-Set", "1"}, {"x-set", "2"}}, {{"x-add", "3"}, {"x-set", "4"}}, &error));
  RequestHeadOptions options;
  options.mutations = &mutations;
  CHECK_EQ(forwarded("GET / HTTP/1.1\r\nX-GONE: 1\r\nHost: a\r\nx-set: old\r\nX-Add: old\r\nX-Gone: 2\r\n", options),
           "GET / HTTP/1.1\r\nhost: a\r\nX-Add: old\r\nx-set: 2\r\nx-add: 3\r\nx-set: 4\r\n\r\n");
}

TEST("mutations of managed headers, of no names and with line ends in values are refused") {
  std::string error;
  for (const char* name : {"Host", "connection", "Transfer-Encoding", "content-length", "TE", "a b", ""}) {
    CHECK(!MutationSet().compile({name}, {}, {}, &error));
    CHECK(!MutationSet().compile({}, {{name, "x"}}, {}, &error));
  }
  CHECK(!MutationSet().compile({}, {}, {{"x", "a\r\nb: c"}}, &error));
  CHECK_EQ(error, "\"x\" has a value with control bytes");
}

TEST("replaced fields and the engine's own lines") {
  RequestHeadOptions options;
  options.drop_known = known_bit(KnownHeader::kXRequestId);
  options.extra_lines = "x-request-id: new\r\n";
  options.close = true;
  CHECK_EQ(forwarded("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: old\r\n", options),
           "GET / HTTP/1.1\r\nhost: a\r\nx-request-id: new\r\nconnection: close\r\n\r\n");
}

TEST("an answer's status line is HTTP/1.1's, with the reason as it came and the space before one that is empty") {
  CHECK_EQ(answered("HTTP/1.1 404 Nothing\there\r\nA: b\r\n", Method::kHead, 1), "HTTP/1.1 404 Nothing\there\r\nA: b\r\n\r\n");
  CHECK_EQ(answered("HTTP/1.1 404 x\r\nConnection: keep-alive\r\nA: b\r\n", Method::kHead, 1), "HTTP/1.1 404 x\r\nA: b\r\n\r\n");
  CHECK_EQ(answered("HTTP/1.0 404 x\r\nA: b\r\n", Method::kHead, 1), "HTTP/1.1 404 x\r\nA: b\r\n\r\n");
  for (const char* line : {"HTTP/1.1 404\r\n", "HTTP/1.1 404 \r\n", "HTTP/1.0 404\r\n"}) {
    CHECK_EQ(answered(std::string(line) + "A: b\r\n", Method::kHead, 1), "HTTP/1.1 404 \r\nA: b\r\n\r\n");
  }
}

TEST("a response body until close becomes chunks, or closes an HTTP/1.0 client's connection") {
  CHECK_EQ(answered("HTTP/1.0 200 OK\r\nServer: x\r\n", Method::kGet, 1),
           "HTTP/1.1 200 OK\r\nServer: x\r\ntransfer-encoding: chunked\r\n\r\n");
  CHECK_EQ(answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", Method::kGet, 0), "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
}

TEST("answers without a body keep what they say about one") {
  CHECK_EQ(answered("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Method::kHead, 1), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
  CHECK_EQ(answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", Method::kHead, 1),
           "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
  CHECK_EQ(answered("HTTP/1.1 304 Not Modified\r\nETag: x\r\n", Method::kGet, 1), "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n");
  CHECK_EQ(answered("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", Method::kGet, 1), "HTTP/1.1 204 No Content\r\n\r\n");
  CHECK_EQ(answered("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Method::kGet, 1), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

TEST("a switch of protocols is forwarded as one") {
  CHECK_EQ(answered("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", Method::kGet, 1),
           "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n");
}

TEST("local responses have a length, and no body for HEAD") {
  char out[256];
  size_t size = 0;
  CHECK(write_local_response(503, "", "x: y\r\n", "busy", Method::kGet, true, out, sizeof(out), &size));
  CHECK_EQ(std::string(out, size), "HTTP/1.1 503 Service Unavailable\r\nx: y\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy");
  CHECK(write_local_response(404, "", "", "gone", Method::kHead, false, out, sizeof(out), &size));
  CHECK_EQ(std::string(out, size), "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\n");
  CHECK(!write_local_response(404, "", "", "gone", Method::kGet, false, out, 20, &size));
  CHECK_EQ(reason_phrase(599), "Unknown");
}

TEST("chunk headers read back to their size") {
  for (const uint64_t payload : {1ull, 9ull, 15ull, 16ull, 255ull, 256ull, 65536ull, 0xfffffffffull}) {
    char out[kMaxChunkHeader];
    const std::string text(out, write_chunk_header(payload, out));
    CHECK_EQ(strtoull(text.c_str(), nullptr, 16), payload);
    CHECK_EQ(text.substr(text.size() - 2), "\r\n");
    CHECK(text[0] != '0');
  }
  char out[32];
  CHECK_EQ(std::string(out, write_last_chunk("a: b\r\n", out, sizeof(out))), "0\r\na: b\r\n\r\n");
  CHECK_EQ(write_last_chunk("a: b\r\n", out, 10), 0u);
}

TEST("parsing again is worth it only when an empty line has come") {
  const auto may = [](std::string_view bytes, size_t known) {
    return may_complete_head(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), known, {});
  };
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  for (size_t known = 0; known < head.size(); known++) CHECK(may(head, known));
  CHECK(!may(std::string_view(head).substr(0, head.size() - 1), 0));
  CHECK(!may(head + "x", head.size()));
  CHECK(may("a\n\n", 2));
}

}  // namespace
}  // namespace weft::test
