// The seam between the two sides of an HTTP exchange. Whoever carries the client's half (an HTTP/1 connection, an HTTP/2 stream) is a
// ClientStream, whoever carries the upstream's half is an UpstreamStream; http_exchange.h joins one of each and knows no protocol.
// Calls cross per head and per read, never per byte. Nothing here does input or output.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/http1/body.h"
#include "core/http1/head.h"
#include "core/http2/header_block.h"
#include "core/reasons.h"

namespace weft {

class HttpExchange;

// Is freed when the tick ends: see Reactor::retire.
struct Retired {
  virtual ~Retired() = default;
};

// A request's head in the form it came: HTTP/1 (`head` parsed from `base`) or HTTP/2 (`block`, checked into `summary`); the other is null.
struct RequestForm {
  const http1::RequestHead* head = nullptr;
  const uint8_t* base = nullptr;
  const http2::HeaderBlock* block = nullptr;
  const http2::RequestSummary* summary = nullptr;
  // Translated from gRPC-Web: the content-type line instead of its own, without a length; trailers are welcome. Empty: it is not.
  std::string_view grpc_type_line;
};

struct ResponseForm {
  const http1::ResponseHead* head = nullptr;
  const uint8_t* base = nullptr;
  const http2::HeaderBlock* block = nullptr;
  const http2::ResponseSummary* summary = nullptr;
  // Translated to gRPC-Web: the content-type line instead of its own, without a length. Empty: it is not.
  std::string_view grpc_type_line;

  int status() const { return head != nullptr ? head->status : summary->status; }
  bool has(std::string_view lower_name) const {
    return block != nullptr ? block->find(lower_name) != nullptr : head->find(lower_name, base) != nullptr;
  }
  // Of the first field with that name; empty: there is none.
  std::string_view value_of(std::string_view lower_name) const {
    return block != nullptr ? block->value_of(lower_name) : head->value_of(lower_name, base);
  }
};

// Where one direction of a body goes. The head is begun first and may wait, so that it leaves with the first of the body in one system
// call: begin is always followed by one of the send functions in the same breath.
class BodySink {
 public:
  // How send_framed wants its bytes: HTTP/1 framing, or the bare payload (kUntilClose) for HTTP/2.
  http1::Framing framing() const { return framing_; }
  // Bytes that wait for the peer to take them. From ClientStream::buffer_share() on, the source rests.
  virtual size_t unsent() const = 0;
  // And those in the kernel that the peer has not acknowledged, where the connection is this exchange's alone.
  virtual size_t undelivered() const { return unsent(); }
  // In a tunnel `end` is that of this direction alone. The three senders. False: this side is broken, and the exchange is over. They read
  // nothing: their callers' bytes lie in scratch memory. `bytes` in framing(), with `end` and `trailer_lines` (CRLF each) already in them
  // where that framing has room for them.
  virtual bool send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) = 0;
  virtual bool send_payload(const void* bytes, size_t size, bool end) = 0;
  // Ends the body.
  virtual bool send_trailers(const http2::HeaderBlock& block) = 0;

 protected:
  ~BodySink() = default;
  http1::Framing framing_ = http1::Framing::kNone;
};

class ClientStream : public BodySink {
 public:
  // What this exchange may leave waiting each way, and keep for another attempt: EngineLimits.max_buffered_bytes, less where many
  // exchanges share a connection.
  virtual size_t buffer_share() const = 0;
  // 1xx, sent at once. False: as the senders.
  virtual bool send_interim(const ResponseForm& response) = 0;
  // `ends`: no body follows. False: it can't be written (too long); nothing of it was.
  virtual bool begin_response(const ResponseForm& response, bool ends) = 0;
  // A whole answer of the engine's own, with complete header `lines`. False: as the senders.
  virtual bool reply_local(int status, std::string_view lines, std::string_view body, Reason reason) = 0;
  // The upstream has room again, or has come to be: go on with the request's body.
  virtual void resume_request() = 0;
  // Another decision is wanted: the request stands in a batch again soon.
  virtual void requeue() = 0;
  // The exchange is over and reported. `whole`: the answer was sent to its end; else the client must be told that it is not.
  virtual void on_exchange_end(bool whole, Reason reason) = 0;

 protected:
  ~ClientStream() = default;
};

// How an attempt ended without an answer. Refused: the peer says that it did nothing with the request.
enum class AttemptEnd : uint8_t { ConnectFailed, ConnectTimedOut, Reset, Refused, TimedOut, BadResponse };

class UpstreamStream : public BodySink {
 public:
  // Returns false if the head with its mutations does not fit; nothing was sent then.
  virtual bool begin_request(const RequestForm& request, bool ends) = 0;
  // The client has room again.
  virtual void resume_response() = 0;
  // The exchange is through with it, or gives it up: reused if the answer is whole and nothing is in doubt, else closed or reset.
  virtual void release() = 0;
  // Carried an exchange before: its peer may have closed it meanwhile.
  virtual bool is_reused() const = 0;
  // Not connected yet: nothing was sent.
  virtual bool is_unconnected() const = 0;

 protected:
  ~UpstreamStream() = default;
};

}  // namespace weft
