// A message's head as text for whoever looks at it from outside the engine (filters), and written anew as they want it, in the protocol it
// came in. What is written is parsed and checked like what a peer sends. Does no input or output.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "core/exchange.h"
#include "core/http1/serialize.h"
#include "core/streams.h"

namespace weft {

// Lines "name: value" LF, before them the pseudo-header fields of HTTP/2: ":method: GET", ":path: /a?b", ":authority: host"; ":status:
// 200".
std::string request_head_text(const http1::RequestHead& head, const uint8_t* base);
std::string request_head_text(const http2::HeaderBlock& block);
std::string answer_head_text(const ResponseForm& answer);

struct HeadChanges {
  // Lines, each with LF: "-name" removes, "=name: value" sets, "+name: value" adds, ":path: /a?b" and ":authority: host" (requests) or
  // ":status: 404" (answers) replace. False, with the reason in `error`.
  bool parse(std::string_view text, std::string* error);

  http1::MutationSet mutations;
  std::string path;
  std::string authority;
  // 0: none.
  int status = 0;
  // Where the body ends, with CRLF; empty: where it did.
  std::string framing_line;
};

// What is said where a rewrite_head() of a request is false.
inline constexpr std::string_view kNoHead = "the request's head would be none that the proxy accepts";

// False: it has neither path nor authority to change (CONNECT, "*"), or is none the parser takes, or too long.
bool rewrite_head(const http1::RequestHead& head, const uint8_t* base, const HeadChanges& changes, const http1::HeadLimits& limits,
                  ByteQueue* out);
// Null: as above.
std::unique_ptr<Http2Request> rewrite_head(const Http2Request& request, const HeadChanges& changes, const http1::HeadLimits& limits);
// Of answers; a status that has no body can't become one that has, nor the other way. False and null as above.
bool rewrite_head(const http1::ResponseHead& head, const uint8_t* base, const HeadChanges& changes, const http1::HeadLimits& limits,
                  ByteQueue* out);
std::unique_ptr<http2::HeaderBlock> rewrite_head(const http2::HeaderBlock& answer, int status, const HeadChanges& changes,
                                                 const http1::HeadLimits& limits, http2::ResponseSummary* summary);

// For HeadChanges::framing_line.
std::string length_line(size_t size);

http2::HeaderBlock copy_of(const http2::HeaderBlock& block);

}  // namespace weft
