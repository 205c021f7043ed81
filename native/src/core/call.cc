// See call.h.
#include "core/call.h"

#include <charconv>
#include <utility>

#include "core/reactor.h"

namespace weft {

namespace {
DownstreamOrigin no_client() {
  DownstreamOrigin origin;
  origin.listener = Shared(ListenerInfo{});
  return origin;
}
}  // namespace

bool Call::send(Reactor* reactor, int32_t number, const uint8_t* request, size_t size) {
  if (reactor->calls() >= kMost) return false;
  auto* call = new Call(reactor, number, request, size);
  reactor->adopt_bare(call);
  reactor->resume_later(call);
  return true;
}

Call::Call(Reactor* reactor, int32_t number, const uint8_t* request, size_t size)
    : OwnRequest(reactor, no_client(), kDescriptorCall, number, request, size), ended_{number, -1, {}} {
  reactor_->count_calls(1);
}

Call::~Call() { reactor_->count_calls(-1); }

// HTTP/1 carries no gRPC.
bool Call::begin_response(const ResponseForm& response, bool) {
  if (response.block != nullptr && response.status() == 200) note_status(*response.block);
  return true;
}

bool Call::send_framed(const void* bytes, size_t size, bool end, std::string_view) { return send_payload(bytes, size, end); }

bool Call::send_payload(const void* bytes, size_t size, bool) {
  is_too_long_ |= size > kMaxAnswer - ended_.body.size();
  if (!is_too_long_) ended_.body.append(static_cast<const char*>(bytes), size);
  return note();
}

bool Call::send_trailers(const http2::HeaderBlock& block) {
  note_status(block);
  return note();
}

bool Call::reply_local(int, std::string_view, std::string_view, Reason) {
  ended_.grpc_status = -1;
  return true;
}

void Call::note_status(const http2::HeaderBlock& block) {
  const http2::HeaderField* found = block.find("grpc-status");
  if (found == nullptr) return;
  const std::string_view digits = block.value(*found);
  if (std::from_chars(digits.data(), digits.data() + digits.size(), ended_.grpc_status).ec != std::errc()) ended_.grpc_status = -1;
}

void Call::on_exchange_end(bool whole, Reason reason) {
  if (!whole || is_too_long_) ended_.grpc_status = -1;
  reactor_->end_call(std::move(ended_));
  OwnRequest::on_exchange_end(whole, reason);
}

}  // namespace weft
