// A unary gRPC call of TypeScript's: a request of our own whose answer it is given, whole. Chooses nothing, knows no message.
#pragma once
#include "core/ended_call.h"
#include "core/own_request.h"

namespace weft {

class Call final : public OwnRequest {
 public:
  // Of one worker, at once.
  static constexpr uint32_t kMost = 1024;
  static constexpr size_t kMaxAnswer = 64 * 1024;

  // `request`: head and body of HTTP/1, whole. `number`: what decide() knows the call by. False: too many.
  static bool send(Reactor* reactor, int32_t number, const uint8_t* request, size_t size);
  Call(Reactor* reactor, int32_t number, const uint8_t* request, size_t size);
  ~Call() override;

  // ClientStream
  bool begin_response(const ResponseForm& response, bool ends) override;
  bool send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) override;
  bool send_payload(const void* bytes, size_t size, bool end) override;
  bool send_trailers(const http2::HeaderBlock& block) override;
  bool reply_local(int status, std::string_view lines, std::string_view body, Reason reason) override;
  void on_exchange_end(bool whole, Reason reason) override;

 private:
  void note_status(const http2::HeaderBlock& block);

  EndedCall ended_;
  // The rest goes nowhere.
  bool is_too_long_ = false;
};

}  // namespace weft
