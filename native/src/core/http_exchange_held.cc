// Answers that filters look at before the client has them: held when their head is here, then let go, or another one given.
#include <utility>

#include "core/held_answer.h"
#include "core/http_exchange.h"
#include "core/reactor.h"

namespace weft {

void HttpExchange::hold_answers() {
  if (held_ != nullptr) return;
  held_ = std::make_unique<HeldAnswer>(reactor_, this, client_);
  client_ = held_.get();
}

bool HttpExchange::holds_answer() const { return held_ != nullptr && held_->is_holding(); }

int32_t HttpExchange::held_token() const { return held_->token(); }

HeldBody HttpExchange::answer_body() const { return held_->body(); }

// A body that its filters want is waited for as long as an exchange may rest.
void HttpExchange::ask_of_answer() {
  if (!held_->is_collecting()) return held_->ask(connection_->origin());
  attempt_deadline_ms_ = reactor_->ms_after(idle_timeout_ms());
  set_timer();
}

void HttpExchange::on_answer_collected() {
  attempt_deadline_ms_ = 0;
  held_->ask(connection_->origin());
}

void HttpExchange::on_answer_decided(const Decision& made) {
  if (made.target == kTargetDeferred) {
    if (!reactor_->defer(this, made)) return reactor_->abandon(made), fail(503, Reason::Overflow);
    held_->note_deferred(made.token);
    attempt_deadline_ms_ = reactor_->deferral_deadline_ms(made);
    return set_timer();
  }
  made.is_local() ? replace_answer(made) : release_answer();
}

// What the endpoint did is told by itself: the request ends as one that was answered here.
void HttpExchange::replace_answer(const Decision& made) {
  reactor_->report_given_up_attempt(*this);
  detach_upstream();
  const int32_t route = decision.route_id;
  tables = reactor_->tables();
  decision = made;
  decision.route_id = route;
  answer_as_decided();
}

void HttpExchange::release_answer() {
  HeldAnswer& held = *held_;
  client_ = held.client();
  status = held.status();
  response_started = true;
  note_progress();
  if (const http2::HeaderBlock* only = held.only_block()) note_grpc_status(*only);
  bool fits = true;
  const bool sent = held.release(&fits);
  if (!fits) {
    response_started = false;
    reactor_->counters().add(Counter::UpstreamProtocolErrors);
    return fail(502, Reason::UpstreamProtocol);
  }
  if (!sent || over_) return;
  if (http2 != nullptr || !decision.has(kLog)) raw.clear();
  if (held.has_ended()) return on_response_complete();
  set_timer();
  upstream_->resume_response();
}

void HttpExchange::drop_held_answer() {
  if (!holds_answer()) return;
  held_->drop();
  client_ = held_->client();
}

}  // namespace weft
