// Names the engine understands: fields, methods, errors. Everything here is a lookup by exact bytes.
#include <cstring>

#include "core/http1/head.h"

namespace weft::http1 {
namespace {

template <typename Word>
Word load(const char* bytes) {
  Word word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

/// Compares a token of exactly N - 1 bytes with a lower-case literal of letters and "-". Setting 0x20 lowers letters; the bytes it would
/// confuse with them ("-" and CR) are no token characters. "_" becomes 0x7f, which nothing else does, and is so written.
template <size_t N>
bool is(const char* token, const char (&literal)[N]) {
  constexpr size_t size = N - 1;
  if constexpr (size >= 8) {
    constexpr uint64_t lower = 0x2020202020202020ull;
    bool same = true;
    for (size_t at = 0; at + 8 < size; at += 8) same &= (load<uint64_t>(token + at) | lower) == load<uint64_t>(literal + at);
    return same && (load<uint64_t>(token + size - 8) | lower) == load<uint64_t>(literal + size - 8);
  } else if constexpr (size >= 4) {
    constexpr uint32_t lower = 0x20202020u;
    return (load<uint32_t>(token) | lower) == load<uint32_t>(literal) &&
           (load<uint32_t>(token + size - 4) | lower) == load<uint32_t>(literal + size - 4);
  } else {
    for (size_t i = 0; i < size; i++) {
      if ((token[i] | 0x20) != literal[i]) return false;
    }
    return true;
  }
}

/// Compares bytes that are as many: what both sizes are, the compiler need not ask.
template <size_t N>
bool is_exactly(std::string_view token, const char (&literal)[N]) {
  return memcmp(token.data(), literal, N - 1) == 0;
}

/// The same but for "_" in place of some "-".
bool is_lookalike(std::string_view token, std::string_view literal) {
  if ((token[0] | 0x20) != literal[0]) return false;
  for (size_t i = 0; i < literal.size(); i++) {
    if ((token[i] == '_' ? '-' : token[i] | 0x20) != literal[i]) return false;
  }
  return true;
}

constexpr const char* kErrorNames[] = {
#define WEFT_X(name, text, status) text,
    WEFT_HTTP1_HEAD_ERRORS(WEFT_X)
#undef WEFT_X
};

constexpr int kErrorStatus[] = {
#define WEFT_X(name, text, status) status,
    WEFT_HTTP1_HEAD_ERRORS(WEFT_X)
#undef WEFT_X
};

}  // namespace

KnownHeader known_header(std::string_view name) {
  const char* p = name.data();
  switch (name.size()) {
    case 2:
      if (is(p, "te")) return KnownHeader::kTe;
      break;
    case 4:
      if (is(p, "host")) return KnownHeader::kHost;
      if (is(p, "date")) return KnownHeader::kDate;
      break;
    case 6:
      if (is(p, "expect")) return KnownHeader::kExpect;
      break;
    case 7:
      if (is(p, "upgrade")) return KnownHeader::kUpgrade;
      if (is(p, "trailer")) return KnownHeader::kTrailer;
      break;
    case 9:
      if (is(p, "forwarded")) return KnownHeader::kForwarded;
      break;
    case 10:
      if (is(p, "connection")) return KnownHeader::kConnection;
      if (is(p, "user-agent")) return KnownHeader::kUserAgent;
      if (is(p, "keep-alive")) return KnownHeader::kKeepAlive;
      if (is(p, "tracestate")) return KnownHeader::kTracestate;
      break;
    case 11:
      if (is(p, "traceparent")) return KnownHeader::kTraceparent;
      if (is(p, "retry-after")) return KnownHeader::kRetryAfter;
      break;
    case 12:
      if (is(p, "content-type")) return KnownHeader::kContentType;
      if (is(p, "grpc-timeout")) return KnownHeader::kGrpcTimeout;
      if (is(p, "max-forwards")) return KnownHeader::kMaxForwards;
      if (is(p, "x-request-id")) return KnownHeader::kXRequestId;
      break;
    case 13:
      if (is(p, "authorization")) return KnownHeader::kAuthorization;
      break;
    case 14:
      if (is(p, "content-length")) return KnownHeader::kContentLength;
      if (is(p, "content\x7flength")) return KnownHeader::kLengthLookalike;
      break;
    case 15:
      if (is(p, "x-forwarded-for")) return KnownHeader::kXForwardedFor;
      if (is_lookalike(name, "x-forwarded-for")) return KnownHeader::kForwardedLookalike;
      break;
    case 16:
      if (is(p, "proxy-connection")) return KnownHeader::kProxyConnection;
      if (is(p, "x-forwarded-host")) return KnownHeader::kXForwardedHost;
      if (is(p, "x-forwarded-port")) return KnownHeader::kXForwardedPort;
      if (is_lookalike(name, "x-forwarded-host") || is_lookalike(name, "x-forwarded-port")) return KnownHeader::kForwardedLookalike;
      break;
    case 17:
      if (is(p, "transfer-encoding")) return KnownHeader::kTransferEncoding;
      if (is(p, "x-forwarded-proto")) return KnownHeader::kXForwardedProto;
      if (is_lookalike(name, "x-forwarded-proto")) return KnownHeader::kForwardedLookalike;
      if (is(p,
             "transfer\x7f"
             "encoding"))
        return KnownHeader::kEncodingLookalike;
      break;
    case 23:
      if (is(p, "x-forwarded-client-cert")) return KnownHeader::kXForwardedClientCert;
      if (is_lookalike(name, "x-forwarded-client-cert")) return KnownHeader::kForwardedLookalike;
      break;
    default:
      break;
  }
  return KnownHeader::kOther;
}

Method method_of(std::string_view token) {
  switch (token.size()) {
    case 3:
      if (is_exactly(token, "GET")) return Method::kGet;
      if (is_exactly(token, "PUT")) return Method::kPut;
      break;
    case 4:
      if (is_exactly(token, "POST")) return Method::kPost;
      if (is_exactly(token, "HEAD")) return Method::kHead;
      break;
    case 5:
      if (is_exactly(token, "PATCH")) return Method::kPatch;
      if (is_exactly(token, "TRACE")) return Method::kTrace;
      break;
    case 6:
      if (is_exactly(token, "DELETE")) return Method::kDelete;
      break;
    case 7:
      if (is_exactly(token, "OPTIONS")) return Method::kOptions;
      if (is_exactly(token, "CONNECT")) return Method::kConnect;
      break;
    default:
      break;
  }
  return Method::kOther;
}

const char* head_error_name(HeadError error) { return error < HeadError::kCount ? kErrorNames[static_cast<size_t>(error)] : "?"; }
int head_error_status(HeadError error) { return error < HeadError::kCount ? kErrorStatus[static_cast<size_t>(error)] : 400; }

}  // namespace weft::http1
