// gRPC-Web between an exchange and its streams: the client's side answers in gRPC-Web, the upstream's side asks in gRPC. Each stands for
// the stream it wraps and hands on what it does not translate. Belongs to its exchange; translates towards HTTP/2 endpoints only.
#pragma once
#include <string>

#include "core/grpc_web.h"
#include "core/streams.h"

namespace weft {

class GrpcWebStreams {
 public:
  GrpcWebStreams(HttpExchange* exchange, ClientStream* client, GrpcForm form)
      : form_(form), client_side_(this, client), upstream_side_(this, exchange) {}
  GrpcWebStreams(const GrpcWebStreams&) = delete;

  ClientStream* client() { return &client_side_; }
  // A new attempt's stream; it is wrapped if it speaks HTTP/2.
  UpstreamStream* toward(UpstreamStream* upstream, bool http2);

 private:
  class ClientSide final : public ClientStream {
   public:
    ClientSide(GrpcWebStreams* web, ClientStream* inner) : web_(web), inner_(inner) {}
    size_t unsent() const override { return inner_->unsent(); }
    size_t buffer_share() const override { return inner_->buffer_share(); }
    bool send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) override;
    bool send_payload(const void* bytes, size_t size, bool end) override;
    bool send_trailers(const http2::HeaderBlock& block) override;
    bool send_interim(const ResponseForm& response) override { return inner_->send_interim(response); }
    bool begin_response(const ResponseForm& response, bool ends) override;
    bool reply_local(int status, std::string_view lines, std::string_view body, Reason reason) override;
    void resume_request() override { inner_->resume_request(); }
    void requeue() override { inner_->requeue(); }
    void on_exchange_end(bool whole, Reason reason) override { inner_->on_exchange_end(whole, reason); }

   private:
    GrpcWebStreams* web_;
    ClientStream* inner_;
    // The answer is gRPC.
    bool translates_ = false;
  };

  class UpstreamSide final : public UpstreamStream {
   public:
    UpstreamSide(GrpcWebStreams* web, HttpExchange* exchange) : web_(web), exchange_(exchange) { framing_ = http1::Framing::kUntilClose; }
    size_t unsent() const override { return inner_->unsent(); }
    bool send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) override;
    bool send_payload(const void* bytes, size_t size, bool end) override;
    bool send_trailers(const http2::HeaderBlock& block) override;
    bool begin_request(const RequestForm& request, bool ends) override;
    void resume_response() override { inner_->resume_response(); }
    void release() override { inner_->release(); }
    bool is_reused() const override { return inner_->is_reused(); }
    bool is_unconnected() const override { return inner_->is_unconnected(); }

   private:
    friend class GrpcWebStreams;
    bool send_decoded(const uint8_t* text, size_t size);
    bool refuse();
    bool may_end() { return web_->form_ != GrpcForm::WebText || decoder_.at_boundary() || refuse(); }

    GrpcWebStreams* web_;
    HttpExchange* exchange_;
    UpstreamStream* inner_ = nullptr;
    Base64Decoder decoder_;
  };

  GrpcForm form_;
  bool base64_is_bad_ = false;
  ClientSide client_side_;
  UpstreamSide upstream_side_;
};

}  // namespace weft
