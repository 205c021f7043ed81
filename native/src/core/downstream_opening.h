// The first bytes of a client connection: PROXY protocol header, ClientHello, TLS handshake, protocol detection; whatever the listener
// asks for, in that order. Ends by handing the socket to the protocol that was found. Plain declared protocols never come here.
#pragma once
#include <memory>

#include "core/downstream.h"
#include "core/options.h"

namespace weft {

struct OpeningPlan {
  Protocol protocol = Protocol::kHttp1;
  bool proxy_protocol = false;
  // Null: plain.
  std::shared_ptr<const ListenerTls> tls;

  bool is_needed() const { return proxy_protocol || tls != nullptr || protocol == Protocol::kDetectFirst || protocol == Protocol::kHttp; }
};

class DownstreamOpening final : public Downstream {
 public:
  static void accept(Reactor* reactor, int fd, const DownstreamOrigin& origin, const OpeningPlan& plan);

  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_resume() override;
  void on_drain() override;
  int64_t idle_since_ms() const override;
  bool close_if_idle() override;
  void on_decision(const Batch::Pending&, const Decision&) override {}

 private:
  DownstreamOpening(Reactor* reactor, int fd, const DownstreamOrigin& origin, const OpeningPlan& plan)
      : Downstream(reactor, fd, origin), plan_(plan) {}
  enum class Stage : uint8_t { ProxyHeader, TlsOrPlain, PassingHello, Handshake, Detection };
  // Bytes at the front of the socket that stay there; 0: not now (or closed, which is done).
  size_t peek(size_t most);

  void proceed();
  void begin_stage(Stage stage);
  // HTTP clients may connect long before they ask.
  bool may_idle() const;
  void after_proxy_header();
  void after_tls();
  bool read_proxy_header();
  bool choose_tls_or_plain();
  bool read_passing_hello();
  bool shake_hands();
  bool detect();
  uint64_t first_bytes_ms() const;
  // Its first bytes are not all of what they may become.
  void await_head();
  void start_protocol(Protocol protocol);
  // Closes so that an alert still arrives.
  void make_last_words();
  void refuse();

  OpeningPlan plan_;
  Stage stage_ = Stage::ProxyHeader;
  // It does not rest any more: a head has begun.
  bool awaits_head_ = false;
};

}  // namespace weft
