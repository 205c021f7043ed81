// Connections whose bytes are not read. Bytes, half-closes and resets go over as they come,
// with backpressure. The client's end drives both; the upstream's end only passes its events on.
// A protocol that nobody declared is taken for opaque and dialled at once; if the client's first bytes come before the upstream's and are
// HTTP, the connection becomes one of HTTP (opaque_detection.cc).
#pragma once
#include <memory>

#include "core/connection_limits.h"
#include "core/counters.h"
#include "core/deferrals.h"
#include "core/downstream.h"
#include "core/exchange.h"

namespace weft {

class OpaqueUpstream;

class OpaqueDownstream final : public Downstream, public Deferrable {
 public:
  OpaqueDownstream(Reactor* reactor, int fd, const DownstreamOrigin& origin) : Downstream(reactor, fd, origin) {}
  ~OpaqueDownstream() override;
  static void accept(Reactor* reactor, int fd, const DownstreamOrigin& origin, bool detects);
  // Goes on with the socket (and TLS) of one whose first bytes were read by another.
  static void take_over(Reactor* reactor, Connection* opening, const DownstreamOrigin& origin, bool detects);

  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_resume() override;
  void on_engine_close() override;
  void on_decision(const Batch::Pending& pending, const Decision& decision) override;
  void on_answered() override;

  void on_upstream_connected();
  void on_upstream_failed(bool timed_out);
  // Moves what can be moved, both ways.
  void relay();
  // One end is broken: the other hears a reset.
  void finish(Reason reason, bool abortive);

 private:
  friend class OpaqueUpstream;
  // Refused: nothing can be dialled, but the client may yet turn out to speak HTTP, which has an answer.
  // Breaking: the upstream is gone without a proper end; what it said before is still on its way to the client.
  enum class State : uint8_t { Queueing, Deciding, Deferred, Connecting, Refused, Open, Breaking };
  enum class Pump : uint8_t { Waiting, SourceBroken, SinkBroken };

  // The protocol is not known yet.
  struct Detection {
    uint64_t deadline_ms = 0;
    // Of `upstream_`.
    UpstreamTarget target;
    // Why it is Refused.
    Reason refusal = Reason::None;
  };

  void begin(bool detects);
  void dial();
  // Nothing can be dialled.
  void refuse(Reason reason);

  // Looks at the client's first bytes, if any. False: this connection is over, or another's.
  bool detect();
  bool may_detect() const;
  // Nothing was known when it was refused.
  void decide_again();
  void on_upstream_spoke();
  void become_http(Protocol protocol);
  // It is opaque. False: and over.
  bool settle(Counter how);
  void end_detection();
  bool is_decided() const;
  void note_server_name();
  void enter_batch();
  void defer();
  void open_relay();
  Pump pump(Connection* from, Connection* to, bool* from_ended, uint64_t* count);
  void pass_ends_on();
  // The upstream broke: the client hears what came before, then a reset.
  void break_off();
  void continue_breaking();
  void note_progress();
  // When it has been idle for too long, unless something comes.
  uint64_t idle_due_ms() const { return idle_timeout_ms_ == 0 ? UINT64_MAX : progress_ms_ + idle_timeout_ms_; }
  void await_end();
  // What was received and its reader has not acknowledged, both ways, here and in the kernel.
  size_t bytes_on_their_way() const;
  void account(Reason reason);

  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<Detection> detection_;
  OpaqueUpstream* upstream_ = nullptr;
  uint64_t progress_ms_ = 0;
  // 0: none.
  uint32_t idle_timeout_ms_ = 0;
  // By the policy of its service.
  uint64_t ends_ms_ = UINT64_MAX;
  // bytes_on_their_way() when it last seemed to rest.
  size_t seen_on_their_way_ = 0;
  State state_ = State::Queueing;
  bool client_ended_ = false;
  bool client_shut_ = false;
  bool upstream_ended_ = false;
  bool upstream_shut_ = false;
};

class OpaqueUpstream final : public Connection {
 public:
  OpaqueUpstream(Reactor* reactor, OpaqueDownstream* client) : Connection(reactor, -1, client->tenant()), client_(client) {}
  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_engine_close() override { counted_.drop(); }

 private:
  friend class OpaqueDownstream;
  OpaqueDownstream* client_;
  CountedConnection counted_;
};

}  // namespace weft
