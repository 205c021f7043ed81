// A message's head as text for whoever looks at it from outside the engine (filters), and a request's head written anew as they want it,
// in the protocol it came in. What is written is parsed and checked like what a client sends. Does no input or output.
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
// With the changes made to it so far; null: none.
std::string answer_head_text(const ResponseForm& answer, const http1::MutationSet* changes);

struct HeadChanges {
  // Lines, each with LF: "-name" removes, "=name: value" sets, "+name: value" adds, ":path: /a?b" and ":authority: host" (requests)
  // replace. False, with the reason in `error`.
  bool parse(std::string_view text, std::string* error);

  http1::MutationSet mutations;
  std::string path;
  std::string authority;
};

// False: it has neither path nor authority to change (CONNECT, "*"), or is none the parser takes, or too long.
bool rewrite_head(const http1::RequestHead& head, const uint8_t* base, const HeadChanges& changes, const http1::HeadLimits& limits,
                  ByteQueue* out);
// Null: as above.
std::unique_ptr<Http2Request> rewrite_head(const Http2Request& request, const HeadChanges& changes, const http1::HeadLimits& limits);

}  // namespace weft
