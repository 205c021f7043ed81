// A copy of a client's request on its way to a mirror: decided on, forwarded and reported like a request of its client, but that its answer
// goes nowhere. Has no socket; whole from the beginning. Chooses nothing.
#pragma once
#include <memory>

#include "core/downstream.h"
#include "core/http_exchange.h"
#include "core/streams.h"

namespace weft {

class Mirror final : public Downstream, public ClientStream {
 public:
  // Of one worker, at once; beyond them copies are dropped, and where other tables have come before the copy is decided on.
  static constexpr uint32_t kMost = 512;

  // `request`: head and body of HTTP/1, whole. `number`: what decide() knows the mirror by. `origin`: of the client. False: too many.
  static bool send(Reactor* reactor, const DownstreamOrigin& origin, int32_t number, const uint8_t* request, size_t size);
  Mirror(Reactor* reactor, const DownstreamOrigin& origin, int32_t number, const uint8_t* request, size_t size);
  ~Mirror() override;

  void on_events(uint32_t) override {}
  void on_resume() override;
  void on_engine_close() override;
  void on_decision(const Batch::Pending& pending, const Decision& decision) override;
  // Of no client's connections.
  int32_t listener_id() const override { return -1; }

  // ClientStream
  size_t unsent() const override { return 0; }
  size_t buffer_share() const override;
  bool send_interim(const ResponseForm&) override { return true; }
  bool begin_response(const ResponseForm&, bool) override { return true; }
  bool send_framed(const void*, size_t, bool, std::string_view) override { return note(); }
  bool send_payload(const void*, size_t, bool) override { return note(); }
  bool send_trailers(const http2::HeaderBlock&) override { return note(); }
  bool reply_local(int, std::string_view, std::string_view, Reason) override { return true; }
  void resume_request() override {}
  void requeue() override;
  void on_exchange_end(bool whole, Reason reason) override;

 private:
  bool note();
  void drop();
  void begin(const Batch::Pending& pending, const Decision& decision);

  ByteQueue request_;
  int32_t number_;
  // Serial of the tables that it is of.
  uint64_t number_of_;
  uint64_t started_us_;
  bool awaits_batch_ = true;
  std::unique_ptr<HttpExchange> exchange_;
};

}  // namespace weft
