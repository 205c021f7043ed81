// A second attempt of a request whose first one is late to answer: asked for in a batch of its own, since the client's side of the exchange
// must stand in none while an answer may come; then the keeper of the one of two attempts that the exchange does not look at. Belongs to
// its exchange. Has no socket, chooses nothing.
#pragma once
#include <optional>

#include "core/downstream.h"
#include "core/exchange.h"
#include "core/streams.h"
#include "core/upstream_target.h"

namespace weft {

class HttpExchange;

// The attempt that HttpExchange does not look at; of the other one it has all this itself.
struct OtherAttempt : DecidedAttempt {
  UpstreamTarget to;
  // Null: it waits for one.
  UpstreamStream* stream = nullptr;
  uint64_t deadline_ms = 0;
};

class Hedge final : public Downstream {
 public:
  // Stands in a batch soon. `origin`: of the client's connection.
  static Hedge* ask(Reactor* reactor, HttpExchange* exchange, const DownstreamOrigin& origin);
  Hedge(Reactor* reactor, HttpExchange* exchange, const DownstreamOrigin& origin);

  void on_events(uint32_t) override {}
  void on_resume() override;
  void on_decision(const Batch::Pending& pending, const Decision& decision) override;
  // Of no client's connections.
  int32_t listener_id() const override { return -1; }
  // The exchange has no more use for it.
  void leave();

  // Set as long as two attempts are under way.
  std::optional<OtherAttempt> other;

 private:
  bool enter_batch();

  HttpExchange* exchange_;
};

}  // namespace weft
