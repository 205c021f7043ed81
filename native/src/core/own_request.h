// A request that no client's connection carries: whole from the beginning, decided on, forwarded and reported like any other. Has no
// socket; chooses nothing. Whose it is, and what becomes of its answer, is its kinds' (mirror.h, call.h).
#pragma once
#include <memory>

#include "core/downstream.h"
#include "core/http_exchange.h"
#include "core/streams.h"

namespace weft {

class OwnRequest : public Downstream, public ClientStream {
 public:
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
  void resume_request() override {}
  void requeue() override;
  void on_exchange_end(bool whole, Reason reason) override;

 protected:
  // `request`: head and body of HTTP/1, whole. `flag`, `number`: what decide() knows it by.
  OwnRequest(Reactor* reactor, const DownstreamOrigin& origin, int32_t flag, int32_t number, const uint8_t* request, size_t size);
  // Of the answer something has come.
  bool note();
  // It is not to be decided on any more.
  virtual bool is_void() const { return false; }
  virtual void on_begin() {}
  virtual void on_drop() {}

  int32_t number_;

 private:
  void drop();
  void begin(const Batch::Pending& pending, const Decision& decision);

  int32_t flag_;
  ByteQueue request_;
  uint64_t started_us_;
  bool awaits_batch_ = true;
  std::unique_ptr<HttpExchange> exchange_;
};

}  // namespace weft
