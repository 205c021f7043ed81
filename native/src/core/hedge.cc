// See hedge.h.
#include "core/hedge.h"

#include "core/reactor.h"

namespace weft {

Hedge* Hedge::ask(Reactor* reactor, HttpExchange* exchange, const DownstreamOrigin& origin) {
  auto* hedge = new Hedge(reactor, exchange, origin);
  reactor->adopt_bare(hedge);
  reactor->resume_later(hedge);
  return hedge;
}

Hedge::Hedge(Reactor* reactor, HttpExchange* exchange, const DownstreamOrigin& origin)
    : Downstream(reactor, -1, origin), exchange_(exchange) {}

void Hedge::on_resume() {
  if (exchange_ != nullptr && !enter_batch()) reactor_->resume_later(this);
}

bool Hedge::enter_batch() {
  if (!reactor_->has_batch_room()) return false;
  DescriptorContext context = descriptor_context(exchange_);
  context.flags |= kDescriptorHedge;
  Batch& batch = reactor_->batch();
  const ByteQueue& raw = exchange_->raw;
  if (exchange_->http2 != nullptr) return batch.add_request(context, *reactor_->tables(), *exchange_->http2, raw.size() == 0, 0);
  const uint8_t* base = stage_request(raw.data(), raw.size());
  if (base != nullptr) batch.add_request(context, *reactor_->tables(), base, raw.size());
  return base != nullptr;
}

void Hedge::on_decision(const Batch::Pending&, const Decision& decision) { exchange_->hedge_with(decision); }

void Hedge::leave() {
  exchange_ = nullptr;
  reactor_->close(this);
}

}  // namespace weft
