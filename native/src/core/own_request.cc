// See own_request.h.
#include "core/own_request.h"

#include <utility>

#include "core/reactor.h"

namespace weft {

OwnRequest::OwnRequest(Reactor* reactor, const DownstreamOrigin& origin, int32_t flag, int32_t number, const uint8_t* request, size_t size)
    : Downstream(reactor, -1, origin),
      number_(number),
      flag_(flag),
      request_(reactor->buffer_account(origin.tenant)),
      started_us_(reactor->now_us()) {
  framing_ = http1::Framing::kUntilClose;
  request_.append(request, size);
}

size_t OwnRequest::buffer_share() const { return reactor_->buffer_bytes(tenant_); }

void OwnRequest::on_resume() {
  if (!awaits_batch_) return;
  if (is_void()) return drop();
  const uint8_t* base = stage_request(request_.data(), request_.size());
  if (base == nullptr) return reactor_->resume_later(this);
  awaits_batch_ = false;
  DescriptorContext context = descriptor_context(exchange_.get());
  context.flags |= flag_;
  context.previous_token = number_;
  reactor_->batch().add_request(context, *reactor_->tables(), base, request_.size());
}

void OwnRequest::on_decision(const Batch::Pending& pending, const Decision& decision) {
  if (exchange_ != nullptr) return exchange_->try_again(decision);
  begin(pending, decision);
}

void OwnRequest::drop() {
  on_drop();
  if (exchange_ != nullptr) exchange_->on_engine_close();
  on_exchange_end(false, Reason::LocalReset);
}

void OwnRequest::begin(const Batch::Pending& pending, const Decision& decision) {
  on_begin();
  exchange_ = std::make_unique<HttpExchange>(reactor_, this, this);
  HttpExchange& exchange = *exchange_;
  const http1::BodyFraming framing = http1::request_body_framing(pending.head);
  exchange.kind = StreamKind::Http1;
  exchange.started_us = started_us_;
  exchange.head_size = pending.head.size;
  exchange.method = pending.head.method;
  exchange.request_framing = framing.kind;
  exchange.request_body.begin(framing);
  exchange.note_grpc_web(pending.head, pending.base);
  if (decision.has(kLog)) exchange.describe_for_log(pending.head);
  exchange.raw.append(pending.base, exchange.head_size);
  exchange.begin(decision);
  const BodyTransfer body = exchange.take_body(pending.base + exchange.head_size, pending.size - exchange.head_size);
  RequestForm request;
  request.head = &pending.head;
  request.base = pending.base;
  exchange.start(request, body);
}

bool OwnRequest::note() {
  exchange_->note_progress();
  return true;
}

void OwnRequest::requeue() {
  awaits_batch_ = true;
  reactor_->resume_later(this);
}

void OwnRequest::on_exchange_end(bool, Reason) {
  if (exchange_ != nullptr) reactor_->retire(std::move(exchange_));
  reactor_->close(this);
}

void OwnRequest::on_engine_close() {
  if (exchange_ != nullptr) exchange_->on_engine_close();
}

}  // namespace weft
