// A copy of a client's request on its way to a mirror: a request of our own whose answer goes nowhere.
#pragma once
#include "core/own_request.h"

namespace weft {

class Mirror final : public OwnRequest {
 public:
  // Of one worker, at once; beyond them copies are dropped, and where other tables have come before the copy is decided on.
  static constexpr uint32_t kMost = 512;

  // `request`: head and body of HTTP/1, whole. `number`: what decide() knows the mirror by. `origin`: of the client. False: too many.
  static bool send(Reactor* reactor, const DownstreamOrigin& origin, int32_t number, const uint8_t* request, size_t size);
  Mirror(Reactor* reactor, const DownstreamOrigin& origin, int32_t number, const uint8_t* request, size_t size);
  ~Mirror() override;

  // ClientStream. Nothing of the answer is progress: the stream's idle timeout bounds it as a whole, for nobody would end one that goes on.
  bool begin_response(const ResponseForm&, bool) override { return true; }
  bool send_framed(const void*, size_t, bool, std::string_view) override { return true; }
  bool send_payload(const void*, size_t, bool) override { return true; }
  bool send_trailers(const http2::HeaderBlock&) override { return true; }
  bool reply_local(int, std::string_view, std::string_view, Reason) override { return true; }

 private:
  // Who its number means now may be somebody who must not see it.
  bool is_void() const override;
  void on_begin() override;
  void on_drop() override;

  // Serial of the tables that it is of.
  uint64_t number_of_;
};

}  // namespace weft
