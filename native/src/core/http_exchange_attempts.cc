// How attempts end without an answer that is taken, and what comes next: the same again, another one, or the end.
#include "core/http1/ascii.h"
#include "core/http_exchange.h"
#include "core/reactor.h"

namespace weft {

namespace {
// Even where every decision says Retry.
constexpr int32_t kMaxAttempts = 16;
// Of one attempt: a peer that goes on refusing is not asked for ever.
constexpr uint8_t kMaxRefusals = 3;
// Whom an answer would have wait longer is given that answer.
constexpr int64_t kMaxAskedMs = 60'000;
// Of those that a request names.
constexpr size_t kMaxNamedHeaders = 16;

AttemptFailure failure_of(AttemptEnd end) {
  switch (end) {
    case AttemptEnd::ConnectFailed:
    case AttemptEnd::ConnectTimedOut:
      return {503, Reason::ConnectFailure};
    case AttemptEnd::Reset:
    case AttemptEnd::Refused:
      return {503, Reason::UpstreamReset};
    case AttemptEnd::TimedOut:
      return {504, Reason::UpstreamTimeout};
    case AttemptEnd::BadResponse:
      break;
  }
  return {502, Reason::UpstreamProtocol};
}

AnswerSigns signs_of(const ResponseForm& response) {
  AnswerSigns signs;
  signs.status = response.status();
  const std::string_view grpc_status = response.value_of("grpc-status");
  if (!grpc_status.empty()) signs.grpc_status = parse_grpc_status(grpc_status);
  signs.rate_limited = !response.value_of("x-envoy-ratelimited").empty();
  signs.overloaded = !response.value_of("x-envoy-overloaded").empty();
  signs.retry_after = response.value_of("retry-after");
  signs.pushback = response.value_of("grpc-retry-pushback-ms");
  return signs;
}

}  // namespace

// A reused connection that ended before it gave a byte was, nearly always, closed by its idle timeout while the request was under way.
// Requests that must not run twice (RFC 9110 9.2.2) are never sent again: that the peer's TCP acknowledged nothing proves nothing, since
// the reset of a process that read them carries its acknowledgement where Linux does not count it (measured). Their connection was
// looked at just before they were sent instead.
bool HttpExchange::may_retry_stale() const { return upstream_ != nullptr && upstream_->is_reused() && replayable && is_idempotent(); }

void HttpExchange::on_attempt_end(AttemptEnd end) {
  failure = failure_of(end);
  if (has_two_attempts()) return leave_to_other();
  const bool refused = end == AttemptEnd::Refused;
  const bool unsent =
      end == AttemptEnd::ConnectFailed || end == AttemptEnd::ConnectTimedOut || (upstream_ != nullptr && upstream_->is_unconnected());
  const bool asks_again = refused && replayable && refusals_++ < kMaxRefusals;
  if (asks_again || (end == AttemptEnd::Reset && may_retry_stale())) {
    reactor_->counters().add(Counter::RetriesStale);
    detach_upstream();
    replay(false);
    return go_on_with_request();
  }
  const bool wanted = replayable && wants_another(end, unsent);
  detach_upstream();
  if (wanted && may_try_again()) {
    const RetryConditions* conditions = tables->retry(decision.retry);
    return rest_before_next(conditions != nullptr ? conditions->backoff_ms(attempts, reactor_->random()) : 0);
  }
  fail(failure.status, retries_exhausted_ && end != AttemptEnd::TimedOut ? Reason::RetriesExhausted : failure.reason);
}

// By what the route says; where it says nothing, by what does no harm.
bool HttpExchange::wants_another(AttemptEnd end, bool unsent) const {
  const RetryConditions* conditions = tables->retry(decision.retry);
  const bool refused = end == AttemptEnd::Refused;
  if (conditions == nullptr) return unsent || refused || (end != AttemptEnd::BadResponse && is_idempotent());
  if (unsent && conditions->connect_failure()) return true;
  if (refused && conditions->refused()) return true;
  return conditions->reset() && (unsent || refused || is_idempotent() || conditions->any_method());
}

// It could not be begun.
void HttpExchange::give_up_attempt(int answer_status, Reason reason) {
  failure = {answer_status, reason};
  if (has_two_attempts()) return leave_to_other();
  fail(answer_status, reason);
}

// Of an attempt that is wanted. False: there have been as many as may be.
bool HttpExchange::may_try_again() {
  if (decision.has(kRetry) && attempts < kMaxAttempts) return true;
  retries_exhausted_ = attempts > 1;
  if (retries_exhausted_) reactor_->counters().add(Counter::RetriesExhausted);
  return false;
}

// The attempt is reported; the next one is decided on when the time has come.
void HttpExchange::rest_before_next(uint64_t ms) {
  reactor_->report_failed_attempt(*this);
  awaits_decision_ = true;
  hedge_at_ms_ = 0;
  reactor_->counters().add(Counter::RetriesDecided);
  if (ms == 0) return client_->requeue();
  rests_until_ms_ = reactor_->ms_after(ms);
  attempt_deadline_ms_ = 0;
  set_timer();
}

bool HttpExchange::has_retriable_header(const ResponseForm& response, const RetryConditions& conditions) {
  for (const std::string& name : conditions.headers()) {
    if (response.has(name)) return true;
  }
  // At the edge clients may say anything: they'd have every answer asked for again.
  const bool heeds_client = conditions.request_names_headers() && connection_->origin().listener->forwarding.trusted_hops != 0;
  std::string_view names = heeds_client ? retriable_names() : std::string_view();
  std::string name;
  for (size_t looked_at = 0; !names.empty() && looked_at < kMaxNamedHeaders; looked_at++) {
    const size_t comma = names.find(',');
    name.clear();
    for (const char each : names.substr(0, comma))
      if (each != ' ' && each != '\t') name.push_back(http1::lower(each));
    names.remove_prefix(comma == std::string_view::npos ? names.size() : comma + 1);
    if (!name.empty() && response.has(name)) return true;
  }
  return false;
}

// Of the request as it is sent; empty: it names none.
std::string_view HttpExchange::retriable_names() {
  if (http2 != nullptr) return sent_http2().block.value_of(kRetriableHeaderNames);
  return parse_kept_head().value_of(kRetriableHeaderNames, sent_head().data());
}

bool HttpExchange::declines_answer(const ResponseForm& response) {
  const RetryConditions* conditions = tables->retry(decision.retry);
  if (conditions == nullptr || !replayable || !conditions->may_decline(response.status(), grpc != GrpcForm::None)) return false;
  if (!is_idempotent() && !conditions->any_method()) return false;
  AnswerSigns signs = signs_of(response);
  signs.retriable_header = conditions->looks_at_headers() && has_retriable_header(response, *conditions);
  if (!conditions->declines(signs)) return false;
  failure = {signs.status, Reason::None, signs.grpc_status};
  if (has_two_attempts()) return leave_to_other(), true;
  const int64_t asked_ms = conditions->delay_ms(signs);
  const bool in_time = expires_ms == 0 || asked_ms < static_cast<int64_t>(remaining_ms());
  if (asked_ms == RetryConditions::kNever || asked_ms > kMaxAskedMs || !in_time || !may_try_again()) return false;
  const uint64_t backoff_ms = conditions->backoff_ms(attempts, reactor_->random());
  detach_upstream();
  rest_before_next(asked_ms >= 0 ? static_cast<uint64_t>(asked_ms) : backoff_ms);
  return true;
}

}  // namespace weft
