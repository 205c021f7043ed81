// One request, or one opaque connection, from its first byte to its completion record: what was decided and what is to be reported.
// Exists only while it is in flight; the connection it came on outlives it. Does no input or output (http_exchange.h does).
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "core/byte_queue.h"
#include "core/grpc.h"
#include "core/http1/body.h"
#include "core/http1/head.h"
#include "core/http2/header_block.h"
#include "core/load_report.h"
#include "core/reasons.h"
#include "core/records.h"
#include "core/recycled.h"
#include "core/snapshot.h"
#include "core/socket.h"

namespace weft {

// What a request asks to become: from the answer that agrees on, both sides of its exchange are bytes, each with an end of its own.
enum class Tunnel : uint8_t {
  None,
  // RFC 6455 over HTTP/1, RFC 8441 over HTTP/2.
  WebSocket,
  // RFC 9110 9.3.6.
  Connect,
};

// The request of an HTTP/2 stream.
struct Http2Request : Recycled<Http2Request> {
  explicit Http2Request(http2::InternTable* table) : block(table) {}
  http2::HeaderBlock block;
  http2::RequestSummary summary;
};

// Endpoints at which a request has had attempts; who decides on the next one avoids them.
struct TriedEndpoints {
  std::array<int32_t, kMaxTried> ids;
  int32_t count = 0;

  // What is beyond the room is not avoided.
  void add(int32_t endpoint) {
    if (endpoint < 0 || count == kMaxTried || std::find(ids.begin(), ids.begin() + count, endpoint) != ids.begin() + count) return;
    ids[static_cast<size_t>(count++)] = endpoint;
  }
};

// How an attempt failed: the answer that was not taken, or what a client is told for want of one.
struct AttemptFailure {
  int32_t status = 0;
  // None: there was an answer.
  Reason reason = Reason::None;
  int32_t grpc_status = -1;
};

// Of a message, for its filters.
enum class HeldBody : uint8_t { None, Whole, TooLong };
inline int32_t body_flag(HeldBody held) {
  return held == HeldBody::None ? 0 : held == HeldBody::Whole ? kDescriptorBodyHeld : kDescriptorBodyTooLong;
}

inline constexpr int32_t kNoMaxForwards = -1;
inline constexpr int32_t kBadMaxForwards = -2;

// What was decided outside the tables, by filters.
struct OutsideChanges {
  // The request's head as it is sent; `raw` and `http2` are what rules match. Empty and null: those.
  ByteQueue head;
  std::unique_ptr<Http2Request> http2;
  // A rule's own are not applied to them any more.
  bool path = false;
  bool authority = false;
  // Given in place of the upstream's, where the decision is local.
  bool has_reply = false;
  std::string lines;
  std::string body;
  int32_t grpc_status = -1;
  // Complete header lines for the answer, whoever gives it, before those of the decisions.
  std::string answer_lines;
};

// What a decision made of one attempt. Of two that are under way the exchange is one, hedge.h has the other.
struct DecidedAttempt {
  // Tables of the decision: the attempt sees one generation.
  Snapshot tables;
  Decision decision;
  uint64_t decided_us = 0;
  // Decision.Target whose `outstanding` is still to be given back; -1: none.
  int32_t counted_target = -1;
  Peer upstream;
  // Path and query to send instead of the request's; empty: those.
  std::string target;
  // Complete lines for the answer, whoever gives it.
  std::string answer_lines;
};

struct Exchange : DecidedAttempt {
  uint64_t started_us = 0;
  uint64_t first_byte_us = 0;
  uint64_t expires_ms = 0;
  uint64_t received = 0;
  uint64_t sent = 0;
  // Whom trusted proxies in front say they speak for; else the connection's peer is the client.
  Address forwarded_client;
  bool has_forwarded_client = false;
  int32_t attempts = 0;
  AttemptFailure failure;
  // Of the attempt, as far as its answer has come; nothing: it was not read, or says nothing of use.
  LoadReport load;
  // Null: none has failed.
  std::unique_ptr<TriedEndpoints> tried;
  int32_t status = 0;
  // RFC 9110 7.6.2, of OPTIONS and TRACE alone; kNoMaxForwards: it said nothing; kBadMaxForwards: what is no number.
  int32_t max_forwards = kNoMaxForwards;

  // Request as it came: of HTTP/1 the head, and of the body what was consumed. Kept until it can't be sent again and needs no log record.
  ByteQueue raw;
  uint32_t head_size = 0;
  // HTTP/2: the head. Kept until the end.
  std::unique_ptr<Http2Request> http2;
  // `raw` is complete and the response has not begun.
  bool replayable = false;

  StreamKind kind = StreamKind::Opaque;
  http1::Method method = http1::Method::kGet;
  Tunnel tunnel = Tunnel::None;
  // It is one.
  bool is_tunnel = false;
  bool response_started = false;
  // The client has sent its request to the end.
  bool request_ended = false;
  // The decision's attempt was completed as failed; another decision is awaited.
  bool attempt_failed = false;
  // A deferred decision can be made now: its token is the decision's.
  bool is_answered = false;
  // The request's.
  HeldBody held_body = HeldBody::None;
  // A decision had kFiltered.
  bool is_filtered = false;
  // What the client of a gRPC call was told; -1: nothing, or no gRPC.
  int8_t grpc_status = -1;
  // Only where it is logged.
  std::string grpc_message;
  // Null: nobody outside the engine has changed anything.
  std::unique_ptr<OutsideChanges> changes;
  // Of the request id that a gateway made; 0: it made none.
  uint64_t made_request_id[2] = {};
  // Native only over HTTP/2; gRPC-Web only of POST.
  GrpcForm grpc = GrpcForm::None;
  http1::BodyReader request_body;
  // HTTP/1: as it came; HTTP/2: kUntilClose.
  http1::Framing request_framing = http1::Framing::kNone;

  // Positions in `raw`, for the access log.
  http1::Span path = {};
  http1::Span authority = {};
  http1::Span user_agent = {};
  http1::Span request_id = {};

  void describe_for_log(const http1::RequestHead& head) {
    path = head.target;
    authority = head.authority;
    user_agent = head.value_of(http1::KnownHeader::kUserAgent);
    request_id = head.value_of(http1::KnownHeader::kXRequestId);
  }
  // HTTP/1 carries no other gRPC.
  void note_grpc_web(const http1::RequestHead& head, const uint8_t* base) {
    if (head.method != http1::Method::kPost || !head.has(http1::KnownHeader::kContentType)) return;
    const GrpcForm form = grpc_form_of(head.value_of(http1::KnownHeader::kContentType).in(base));
    if (is_grpc_web(form)) grpc = form;
  }
  bool request_complete() const { return request_ended; }
  // An attempt is, or was, made there.
  void note_tried(int32_t endpoint) {
    if (tried == nullptr) tried = std::make_unique<TriedEndpoints>();
    tried->add(endpoint);
  }
  // RFC 9110 9.2.2.
  bool is_idempotent() const {
    return method != http1::Method::kPost && method != http1::Method::kPatch && method != http1::Method::kConnect &&
           method != http1::Method::kOther;
  }
};

}  // namespace weft
