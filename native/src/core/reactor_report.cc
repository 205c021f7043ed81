// What an ended exchange leaves behind: its completion, its access log record, its counters.
#include <time.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/reactor.h"
#include "core/request_lines.h"

namespace weft {

namespace {

constexpr uint64_t kCompletionDelayMs = 100;

int32_t clipped_us(uint64_t from, uint64_t to) { return to <= from ? 0 : static_cast<int32_t>(std::min<uint64_t>(to - from, INT32_MAX)); }

double unix_ms() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

uint32_t access_log_kind(StreamKind kind) {
  switch (kind) {
    case StreamKind::Http1:
      return kAccessLogHttp1;
    case StreamKind::Http2:
      return kAccessLogHttp2;
    case StreamKind::Opaque:
      break;
  }
  return kAccessLogOpaque;
}

// Of a call that ended without one: the client went away (CANCELLED), or the answer has none (UNKNOWN), or what the client makes of it.
int final_grpc_status(const Exchange& exchange, Reason reason) {
  if (exchange.grpc == GrpcForm::None || exchange.grpc_status >= 0) return exchange.grpc_status;
  if (reason == Reason::DownstreamClosed) return 1;
  return reason == Reason::None ? 2 : grpc_status_of(503, reason);
}

void keep(std::vector<FailureNote>* notes, const Connection& connection, const char* reason, const std::string& text) {
  if (notes->size() == FailureNotes::kMost) return;
  FailureNote note;
  note.reason = reason;
  note.downstream = connection.is_downstream();
  remote_peer(connection.fd(), &note.peer);
  if (note.downstream) local_peer(connection.fd(), &note.local);
  note.text = text;
  notes->push_back(std::move(note));
}

std::string_view text(const Exchange& exchange, http1::Span span) {
  return exchange.raw.size() >= exchange.head_size ? span.in(exchange.raw.data()) : std::string_view();
}

}  // namespace

void Reactor::note_tls_failure(const Connection& connection) {
  const TlsSession* tls = connection.tls();
  if (tls != nullptr && tls->failure() != TlsFailure::None) note_tls_failure(connection, tls->failure(), tls->failure_text());
}

void Reactor::note_tls_failure(const Connection& connection, TlsFailure failure, const std::string& text) {
  constexpr size_t kFirst = static_cast<size_t>(Counter::TlsTruncated);
  static_assert(static_cast<size_t>(Counter::TlsFlood) - kFirst == static_cast<size_t>(TlsFailure::Flood) - 1);
  counters_.add(static_cast<Counter>(kFirst + static_cast<size_t>(failure) - 1));
  keep(&failures_.tls, connection, tls_failure_name(failure), text);
}

void Reactor::note_refused_proxy_header(const Connection& connection, const char* reason) {
  counters_.add(Counter::OpeningsRefusedProxy);
  keep(&failures_.proxy_headers, connection, reason, "");
}

void Reactor::give_back(int32_t target) {
  if (target < 0 || static_cast<size_t>(target) >= options_.outstanding_count) return;
  __atomic_sub_fetch(&options_.outstanding[target], 1, __ATOMIC_RELAXED);
}

void Reactor::report(Exchange& exchange, Downstream& downstream, Reason reason) {
  give_back(exchange.counted_target);
  exchange.counted_target = -1;
  counters_.add(Counter::BytesDownstreamReceived, static_cast<double>(exchange.received));
  counters_.add(Counter::BytesDownstreamSent, static_cast<double>(exchange.sent));
  const int klass = exchange.status / 100;
  if (klass >= 2 && klass <= 5)
    counters_.add(static_cast<Counter>(static_cast<size_t>(Counter::Responses2xx) + static_cast<size_t>(klass) - 2));

  Completion completion = {};
  completion.target = exchange.decision.target == kTargetUndecided ? -503 : exchange.decision.target;
  // Completed already: it ends while it waits for another.
  if (exchange.attempt_failed) completion.target = kTargetOriginal;
  completion.token = exchange.decision.token;
  completion.status = exchange.status;
  completion.reason = static_cast<int32_t>(reason);
  completion.latency_us = clipped_us(exchange.started_us, now_us_);
  completion.first_byte_us = exchange.first_byte_us == 0 ? -1 : clipped_us(exchange.decided_us, exchange.first_byte_us);
  completion.received_low = static_cast<uint32_t>(exchange.received);
  completion.received_high = static_cast<uint32_t>(exchange.received >> 32);
  completion.sent_low = static_cast<uint32_t>(exchange.sent);
  completion.sent_high = static_cast<uint32_t>(exchange.sent >> 32);
  completion.attempts = exchange.attempts;
  exchange.grpc_status = static_cast<int8_t>(final_grpc_status(exchange, reason));
  completion.grpc_status = exchange.grpc_status;
  completion.load = exchange.load;
  add_completion(completion, exchange.decision.has(kPrompt));
  if (exchange.decision.has(kLog) && access_log_.valid()) write_access_log(exchange, downstream, reason);
}

void Reactor::log_undecided(const Exchange& exchange, Downstream& downstream, Reason reason) {
  if (access_log_.valid()) write_access_log(exchange, downstream, reason);
}

void Reactor::report_detection(Exchange& exchange, CompletionKind kind) {
  if (kind == CompletionKind::Abandoned) {
    give_back(exchange.counted_target);
    exchange.counted_target = -1;
  }
  complete(exchange.decision, kind);
}

void Reactor::report_failed_attempt(Exchange& exchange) {
  exchange.note_tried(exchange.decision.target);
  give_back(exchange.counted_target);
  exchange.counted_target = -1;
  exchange.attempt_failed = true;
  Completion completion = {};
  completion.kind = CompletionKind::Failed;
  completion.target = exchange.decision.target;
  completion.token = exchange.decision.token;
  completion.status = exchange.failure.status;
  completion.reason = static_cast<int32_t>(exchange.failure.reason);
  completion.grpc_status = exchange.failure.grpc_status;
  completion.first_byte_us = -1;
  completion.attempts = exchange.attempts;
  completion.load = std::exchange(exchange.load, {});
  add_completion(completion, exchange.decision.has(kPrompt));
}

void Reactor::report_given_up_attempt(Exchange& exchange) {
  give_back(exchange.counted_target);
  exchange.counted_target = -1;
  const uint64_t answered_us = exchange.first_byte_us != 0 ? exchange.first_byte_us : now_us_;
  complete(exchange.decision, CompletionKind::Abandoned, clipped_us(exchange.decided_us, answered_us));
}

void Reactor::abandon(const Decision& decision) {
  // Who asked for completions counts what is passed on, too.
  if (decision.target < 0 && decision.target != kTargetDeferred && !decision.has(kPrompt)) return;
  give_back(decision.target);
  complete(decision, CompletionKind::Abandoned);
}

void Reactor::complete(const Decision& decision, CompletionKind kind, int32_t first_byte_us) {
  Completion completion = {};
  completion.kind = kind;
  completion.target = decision.target;
  completion.token = decision.token;
  completion.first_byte_us = first_byte_us;
  add_completion(completion, decision.has(kPrompt));
}

void Reactor::add_completion(const Completion& completion, bool is_urgent) {
  if (batch_.completions() == 0) completions_due_ms_ = now_ms() + kCompletionDelayMs;
  if (batch_.completions_full()) decide_batch();
  batch_.add_completion(completion);
  completion_is_urgent_ |= is_urgent;
}

void Reactor::write_access_log(const Exchange& exchange, Downstream& downstream, Reason reason) {
  AccessLogRecord record;
  const DownstreamOrigin& origin = downstream.origin();
  const Peer& destination = downstream.reached();
  record.kind = access_log_kind(exchange.kind);
  // Streams and tunnels may have lasted for days.
  record.latency_us = now_us_ - std::min(now_us_, exchange.started_us);
  record.started_ms = unix_ms() - static_cast<double>(record.latency_us) / 1e3;
  record.first_byte_us = exchange.first_byte_us == 0 ? -1 : clipped_us(exchange.decided_us, exchange.first_byte_us);
  record.status = exchange.status;
  record.reason = static_cast<int32_t>(reason);
  record.target = exchange.decision.target;
  record.token = exchange.decision.token;
  record.route_id = exchange.decision.route_id;
  record.listener_id = origin.listener->id;
  record.method = exchange.kind != StreamKind::Opaque ? static_cast<int32_t>(exchange.method) : 255;
  record.attempts = exchange.attempts;
  record.received = static_cast<double>(exchange.received);
  record.sent = static_cast<double>(exchange.sent);
  const Address& client = exchange.has_forwarded_client ? exchange.forwarded_client : origin.client.address;
  memcpy(record.client, client.bytes.data(), 16);
  memcpy(record.destination, destination.address.bytes.data(), 16);
  memcpy(record.upstream, exchange.upstream.address.bytes.data(), 16);
  record.client_port = exchange.has_forwarded_client ? 0 : origin.client.port;
  record.destination_port = destination.port;
  record.upstream_port = exchange.upstream.port;
  record.grpc_status = exchange.grpc_status;
  AccessLogTexts texts;
  if (origin.security != nullptr) {
    record.tls_version = origin.security->tls_version;
    texts.client_identity = origin.security->certificate_name;
  }
  texts.grpc_message = exchange.grpc_message;
  if (exchange.http2 != nullptr) {
    const Http2Request& request = *exchange.http2;
    texts.path = request.summary.target;
    texts.authority = request.summary.authority;
    texts.user_agent = request.block.value_of(http1::KnownHeader::kUserAgent);
    texts.request_id = request.block.value_of(http1::KnownHeader::kXRequestId);
  } else if (exchange.kind == StreamKind::Opaque && origin.security != nullptr) {
    // In place of an authority: the server name that the client's TLS asked for.
    texts.authority = origin.security->server_name;
  } else {
    texts.path = text(exchange, exchange.path);
    texts.authority = text(exchange, exchange.authority);
    texts.user_agent = text(exchange, exchange.user_agent);
    texts.request_id = text(exchange, exchange.request_id);
  }
  RequestIdLine made;
  if (texts.request_id.empty() && exchange.made_request_id[0] != 0) {
    made.format(exchange.made_request_id[0], exchange.made_request_id[1]);
    texts.request_id = made.id();
  }
  const bool written = access_log_.write(record, texts);
  counters_.add(written ? Counter::AccessLogRecords : Counter::AccessLogDropped);
}

}  // namespace weft
