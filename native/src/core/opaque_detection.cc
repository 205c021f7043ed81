// Detection while dialling: the connection is decided and dialled as opaque at once, so that a server that speaks first is waited for by
// nobody, and stays opaque unless the client's first bytes, which are peeked at and left in the socket, are HTTP. What was decided is
// tentative until then.
#include <errno.h>
#include <sys/socket.h>

#include "core/downstream_http1.h"
#include "core/downstream_http2.h"
#include "core/opaque.h"
#include "core/reactor.h"
#include "core/sniff/client_hello.h"
#include "core/sniff/protocol.h"
#include "core/upstream_http1.h"

namespace weft {

bool OpaqueDownstream::detect() {
  const ssize_t size = recv(fd_, reactor_->read_scratch(), kFirstBytesNeeded, MSG_PEEK);
  if (size < 0) {
    if (errno == EAGAIN || errno == EINTR) return true;
    finish(Reason::DownstreamClosed, true);
    return false;
  }
  readable_ = true;
  // An end without a byte: what asks nothing can only be told something.
  if (size == 0) return settle(Counter::DetectedOpaque);
  switch (detect_protocol(reactor_->read_scratch(), static_cast<size_t>(size))) {
    case FirstBytes::kUndecided:
      return !peer_finished_ || settle(Counter::DetectedOpaque);
    case FirstBytes::kHttp1:
      become_http(Protocol::kHttp1);
      return false;
    case FirstBytes::kHttp2:
      become_http(Protocol::kHttp2);
      return false;
    case FirstBytes::kTls:
      note_server_name();
      return settle(Counter::DetectedTls);
    case FirstBytes::kOpaque:
      break;
  }
  return settle(Counter::DetectedOpaque);
}

// A decision that is under way, or put off, must come to its end: on_decision() looks again.
bool OpaqueDownstream::may_detect() const { return state_ != State::Deciding && state_ != State::Deferred && !exchange_->is_answered; }

// Its bytes, or its end: HTTP servers say nothing before they are asked.
void OpaqueDownstream::on_upstream_spoke() {
  if (upstream_->is_readable()) settle(Counter::DetectedServerFirst);
}

// For the access log, if it came in one piece: nobody waits for it.
void OpaqueDownstream::note_server_name() {
  constexpr size_t kMost = ClientHello::kMaxBytes + 1024;
  const ssize_t size = recv(fd_, reactor_->read_scratch(), kMost, MSG_PEEK);
  ClientHello hello;
  if (size <= 0 || sniff_client_hello(reactor_->read_scratch(), static_cast<size_t>(size), &hello) != SniffStatus::kComplete) return;
  ClientSecurity security;
  security.server_name = hello.name();
  origin_.security = Shared(std::move(security));
}

// The decision on the request is another one. It is told of the endpoint of this one, to whose connection the request can go.
void OpaqueDownstream::become_http(Protocol protocol) {
  const bool http2 = protocol == Protocol::kHttp2;
  reactor_->counters().add(http2 ? Counter::DetectedHttp2 : Counter::DetectedHttp1);
  DownstreamOrigin origin = origin_;
  origin.detected = true;
  const int32_t chosen = state_ != State::Refused && exchange_->counted_target >= 0 ? exchange_->counted_target : -1;
  // An attempt that failed has ended, while the next one waits for its decision.
  if (is_decided() && !exchange_->attempt_failed) reactor_->report_detection(*exchange_, CompletionKind::Abandoned);
  if (upstream_ != nullptr) {
    if (http2)
      reactor_->close(upstream_);
    else
      UpstreamHttp1::park(reactor_, upstream_, detection_->target);
    upstream_ = nullptr;
  }
  if (http2) return DownstreamHttp2::take_over(reactor_, this, origin, chosen);
  DownstreamHttp1::take_over(reactor_, this, origin, chosen);
}

bool OpaqueDownstream::is_decided() const {
  return exchange_->decision.target != kTargetUndecided && exchange_->decision.target != kTargetDeferred;
}

void OpaqueDownstream::end_detection() {
  detection_.reset();
  reactor_->counters().add(Counter::OpaqueConnections);
  reactor_->counters().add(Counter::OpaqueOpen);
  if (is_decided()) reactor_->report_detection(*exchange_, CompletionKind::Settled);
}

void OpaqueDownstream::decide_again() {
  if (is_decided()) reactor_->report_detection(*exchange_, CompletionKind::Abandoned);
  exchange_->decision = Decision{};
  exchange_->attempts = 0;
  end_detection();
  reactor_->cancel(this);
  state_ = State::Queueing;
  reactor_->resume_later(this);
}

bool OpaqueDownstream::settle(Counter how) {
  const Handle self = handle_;
  const Reason refusal = detection_->refusal;
  reactor_->counters().add(how);
  if (state_ == State::Refused && exchange_->decision.is_local() && exchange_->attempts == 1) {
    decide_again();
    return true;
  }
  end_detection();
  // A deferral has a deadline of its own.
  if (state_ != State::Deferred) reactor_->cancel(this);
  if (state_ == State::Refused) finish(refusal, true);
  if (state_ == State::Open) open_relay();
  return reactor_->find(self) != nullptr;
}

}  // namespace weft
