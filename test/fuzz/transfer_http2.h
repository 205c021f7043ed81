// HTTP/2 ends of the transfer fuzz target: they keep to every window and limit, and hold the proxy to theirs.
#pragma once

#include "transfer_ends.h"

namespace weft::fuzz {

class Http2End : public End {
 public:
  Http2End(int fd, const EndEvents& events, http2::Role role, uint8_t settings, const EndpointTls* tls = nullptr)
      : End(fd, events, tls), role_(role), parser_(role, {}) {
    static const uint32_t windows[] = {65535, 1000, 1, 1 << 20};
    own_window_ = windows[settings & 3];
    if (role == http2::Role::kClient) wire.out += http2::kClientPreface;
    const http2::Setting setting = {http2::SettingId::kInitialWindowSize, own_window_};
    uint8_t bytes[64];
    put(bytes, http2::write_settings(&setting, 1, bytes));
  }

  // `up`: 1 no content-length, 2 END_STREAM in a frame of its own, 4 with trailers.
  void ask(Transfer* exchange) override {
    const Transfer& e = *exchange;
    const bool has_body = e.up_size != 0;
    std::vector<std::pair<std::string, std::string>> fields = {{":method", e.is_head  ? "HEAD"
                                                                           : has_body ? "POST"
                                                                                      : "GET"},
                                                               {":scheme", "http"},
                                                               {":path", "/t"},
                                                               {":authority", "a.test"}};
    fields.emplace_back("x-id", std::to_string(e.id));
    if (has_body && (e.up & 1) == 0) fields.emplace_back("content-length", std::to_string(e.up_size));
    Stream& stream = begin(next_id_, exchange);
    headers(next_id_, fields, !has_body);
    stream.send_form = e.up;
    stream.send_left = e.up_size;
    stream.sent_end = !has_body;
    if (tainted) exchange->spoiled = true;
    next_id_ += 2;
  }
  bool may_ask() const override { return !goaway_ && !told_end_ && !wire.finishes && streams_.size() < 60; }

  void open_windows(uint32_t more) override {
    window_update(0, &connection_window_, more);
    for (auto& [id, stream] : streams_) {
      if (!stream.received_end) window_update(id, &stream.receive_window, more);
    }
  }
  void refill(uint32_t by) override {
    if (connection_window_ == 0) window_update(0, &connection_window_, by);
    for (auto& [id, stream] : streams_) {
      if (!stream.received_end && stream.receive_window <= 0) window_update(id, &stream.receive_window, by);
    }
  }
  bool reset_one(uint8_t which) override {
    if (streams_.empty()) return false;
    auto at = streams_.begin();
    std::advance(at, which % streams_.size());
    uint8_t bytes[http2::kRstStreamFrameBytes];
    put(bytes, http2::write_rst_stream(at->first, (which & 1) != 0 ? http2::ErrorCode::kCancel : http2::ErrorCode::kInternalError, bytes));
    Transfer* exchange = at->second.exchange;
    const bool was_whole = at->second.received_end;
    exchange->spoiled = true;
    streams_.erase(at);
    if (is_client() && !was_whole) events_.on_outcome(exchange, 0, 0);
    return true;
  }
  void refuse_more() override {
    uint8_t bytes[http2::kGoawayFrameBytes];
    put(bytes, http2::write_goaway(last_seen_, http2::ErrorCode::kNoError, {}, bytes));
    refuses_ = true;
  }
  std::vector<Transfer*> open() const override {
    std::vector<Transfer*> all;
    for (const auto& [id, stream] : streams_) all.push_back(stream.exchange);
    return all;
  }

 protected:
  void fill() override {
    for (auto& [id, stream] : streams_) {
      while (wire.out.size() < 65536 && stream.may_send && !stream.sent_end && send_some(id, stream)) {
      }
    }
    drop_finished();
  }
  void on_bytes(std::string_view bytes) override {
    kept_ += bytes;
    for (size_t at = 0;;) {
      http2::Frame frame;
      const http2::FrameStep step = parser_.next(reinterpret_cast<const uint8_t*>(kept_.data()) + at, kept_.size() - at, &frame);
      at += step.consumed;
      require(step.status != http2::FrameStatus::kFault, "the proxy's frames are right");
      if (step.status != http2::FrameStatus::kFrame) {
        kept_.erase(0, at);
        return;
      }
      on_frame(frame);
    }
  }
  void on_end(bool) override {
    auto left = std::move(streams_);
    streams_.clear();
    for (auto& [id, stream] : left) {
      if (is_client() && !stream.received_end) events_.on_outcome(stream.exchange, 0, 0);
    }
    wire.finishes = true;
  }

 private:
  struct Stream {
    Transfer* exchange = nullptr;
    int64_t send_window = 0;
    int64_t receive_window = 0;
    size_t send_left = 0;
    size_t sent = 0;
    uint8_t send_form = 0;
    bool may_send = true;
    bool sent_end = false;
    bool received_end = false;
    int status = 0;
    Checked body;
  };

  bool is_client() const { return role_ == http2::Role::kClient; }
  void put(const uint8_t* from, const uint8_t* to) { wire.out.append(reinterpret_cast<const char*>(from), static_cast<size_t>(to - from)); }

  Stream& begin(uint32_t id, Transfer* exchange) {
    Stream& stream = streams_[id];
    stream.exchange = exchange;
    stream.send_window = peer_.initial_window_size;
    stream.receive_window = acknowledged_ ? own_window_ : 65535;
    return stream;
  }
  void headers(uint32_t id, const std::vector<std::pair<std::string, std::string>>& fields, bool ends) {
    uint8_t bytes[2048];
    uint8_t* end = encoder_.begin(bytes + http2::kFrameHeaderBytes);
    for (const auto& [name, value] : fields) end = encoder_.write_text(name, value, http2::Indexing::kAllowed, end);
    const auto size = static_cast<size_t>(end - bytes) - http2::kFrameHeaderBytes;
    put(bytes, http2::write_headers(id, ends, size, 16384, bytes));
  }
  bool send_some(uint32_t id, Stream& stream) {
    static const size_t sizes[] = {16384, 1000, 5, 4096};
    const Transfer& e = *stream.exchange;
    const size_t form = stream.send_form >> 3 & 3;
    const size_t piece = form == 2 && stream.send_left > 5000 ? 1000 : sizes[form];
    const auto window = static_cast<size_t>(std::max<int64_t>(0, std::min(send_window_, stream.send_window)));
    const size_t count = std::min({piece, window, stream.send_left});
    if (stream.send_left != 0 && count == 0) return false;
    stream.send_left -= count;
    const bool last = stream.send_left == 0, trailers = (stream.send_form & 4) != 0;
    const bool apart = (stream.send_form & 2) != 0 && stream.sent + count != 0 && count != 0;
    uint8_t head[http2::kFrameHeaderBytes];
    if (count != 0 || !trailers) {
      const bool ends = last && !trailers && !apart;
      put(head,
          http2::write_frame_header(static_cast<uint32_t>(count), http2::FrameType::kData, ends ? http2::kFlagEndStream : 0, id, head));
      wire.out += body_of(e, !is_client(), stream.sent, count);
    }
    stream.sent += count;
    stream.send_window -= static_cast<int64_t>(count);
    send_window_ -= static_cast<int64_t>(count);
    if (!last) return true;
    if (trailers) {
      headers(id, {{"x-end", "1"}}, true);
    } else if (apart) {
      put(head, http2::write_frame_header(0, http2::FrameType::kData, http2::kFlagEndStream, id, head));
    }
    stream.sent_end = true;
    return true;
  }
  void window_update(uint32_t id, int64_t* window, uint32_t more) {
    // Each that carries too little counts as a flood, and all of them together must stay within the protocol's bounds.
    if (more == 0 || *window > more) return;
    uint8_t bytes[http2::kWindowUpdateFrameBytes];
    put(bytes, http2::write_window_update(id, more, bytes));
    *window += more;
  }
  void drop_finished() {
    for (auto at = streams_.begin(); at != streams_.end();) {
      Stream& stream = at->second;
      at = stream.sent_end && stream.received_end ? streams_.erase(at) : std::next(at);
    }
  }

  void on_frame(const http2::Frame& frame) {
    switch (frame.type) {
      case http2::FrameType::kHeaders:
        return on_headers(frame);
      case http2::FrameType::kData:
        return on_data(frame);
      case http2::FrameType::kRstStream:
        return on_reset(frame);
      case http2::FrameType::kSettings:
        return on_settings(frame);
      case http2::FrameType::kWindowUpdate: {
        if (frame.stream == 0) send_window_ += http2::window_increment(frame);
        const auto at = streams_.find(frame.stream);
        if (at != streams_.end()) at->second.send_window += http2::window_increment(frame);
        return;
      }
      case http2::FrameType::kPing: {
        if (frame.has(http2::kFlagAck)) return;
        uint8_t bytes[http2::kPingFrameBytes];
        return put(bytes, http2::write_ping(http2::ping_bytes(frame), true, bytes));
      }
      case http2::FrameType::kGoaway:
        if (http2::goaway(frame).code != 0) fprintf(stderr, "GOAWAY %u\n", http2::goaway(frame).code);
        require(http2::goaway(frame).code == 0 || tainted, "no GOAWAY for those who keep the rules");
        goaway_ = true;
        return;
      default:
        return;
    }
  }
  void on_settings(const http2::Frame& frame) {
    if (frame.has(http2::kFlagAck)) {
      // Until now the proxy went by the initial window (RFC 9113 6.9.3).
      acknowledged_ = true;
      for (auto& [id, stream] : streams_) stream.receive_window += static_cast<int64_t>(own_window_) - 65535;
      return;
    }
    const int64_t before = peer_.initial_window_size;
    const http2::Role sender = is_client() ? http2::Role::kServer : http2::Role::kClient;
    require(http2::apply_settings(frame.payload, frame.size, sender, &peer_) == http2::FrameFault::kNone, "the proxy's SETTINGS are right");
    for (auto& [id, stream] : streams_) stream.send_window += peer_.initial_window_size - before;
    uint8_t bytes[16];
    put(bytes, http2::write_settings_ack(bytes));
  }
  void on_headers(const http2::Frame& frame) {
    http2::HeaderBlock block(&table_);
    require(decoder_.decode(frame.payload, frame.size, {}, &block) == http2::HpackFault::kNone, "the proxy's field blocks are right");
    std::map<std::string, std::string> fields;
    for (const http2::HeaderField& field : block) fields[std::string(block.name(field))] = block.value(field);
    auto at = streams_.find(frame.stream);
    if (!is_client() && at == streams_.end() && fields.count(":method") != 0) {
      if (refuses_) return;
      last_seen_ = frame.stream;
      Transfer* exchange = events_.find(static_cast<uint32_t>(atoi(fields["x-id"].c_str())));
      require(exchange != nullptr, "no request that nobody made");
      Stream& stream = begin(frame.stream, exchange);
      stream.may_send = false;
      if ((exchange->down & 1) != 0) answer(frame.stream, stream);
      at = streams_.find(frame.stream);
    }
    if (at == streams_.end()) return;
    Stream& stream = at->second;
    if (is_client() && fields.count(":status") != 0) {
      const int status = atoi(fields[":status"].c_str());
      if (status < 200) return;
      stream.status = status;
      if (status == 200) require(fields["x-id"] == std::to_string(stream.exchange->id), "an answer is its own request's");
    }
    if (frame.has(http2::kFlagEndStream)) received_all(at->first, stream);
  }
  void on_data(const http2::Frame& frame) {
    connection_window_ -= frame.flow_size;
    require(connection_window_ >= 0, "the connection's window is kept to");
    const auto at = streams_.find(frame.stream);
    if (at == streams_.end()) return;
    Stream& stream = at->second;
    stream.receive_window -= frame.flow_size;
    require(stream.receive_window >= 0 || frame.flow_size == 0, "the stream's window is kept to");
    const std::string_view bytes(reinterpret_cast<const char*>(frame.payload), frame.size);
    if (!is_client() || stream.status == 200) stream.body.add(*stream.exchange, is_client(), bytes);
    if (frame.has(http2::kFlagEndStream)) received_all(at->first, stream);
  }
  void on_reset(const http2::Frame& frame) {
    const auto at = streams_.find(frame.stream);
    if (at == streams_.end()) return;
    Transfer* exchange = at->second.exchange;
    const bool was_whole = at->second.received_end;
    streams_.erase(at);
    if (is_client() && !was_whole) events_.on_outcome(exchange, 0, 0);
  }
  void received_all(uint32_t id, Stream& stream) {
    stream.received_end = true;
    if (is_client()) {
      events_.on_outcome(stream.exchange, stream.status, stream.body.at);
    } else {
      require(stream.body.at == stream.exchange->up_size, "a request that ended in order is whole");
      if ((stream.exchange->down & 1) == 0) answer(id, stream);
    }
  }
  // `down`: 1 early, 2 after an interim answer; above, as `up` of a client.
  void answer(uint32_t id, Stream& stream) {
    const Transfer& e = *stream.exchange;
    const bool has_body = !e.is_head && e.down_size != 0;
    if ((e.down & 2) != 0) headers(id, {{":status", "103"}, {"link", "</a>"}}, false);
    std::vector<std::pair<std::string, std::string>> fields = {{":status", "200"}, {"x-id", std::to_string(e.id)}};
    stream.send_form = e.down >> 2;
    if ((stream.send_form & 1) == 0) fields.emplace_back("content-length", std::to_string(e.down_size));
    headers(id, fields, !has_body);
    stream.send_left = e.is_head ? 0 : e.down_size;
    stream.sent_end = !has_body;
    stream.may_send = true;
  }

  http2::Role role_;
  http2::InternTable table_;
  http2::HpackEncoder encoder_{&table_};
  http2::HpackDecoder decoder_{&table_};
  http2::FrameParser parser_;
  http2::Settings peer_;
  std::string kept_;
  std::map<uint32_t, Stream> streams_;
  uint32_t own_window_ = 65535;
  int64_t connection_window_ = 65535;
  int64_t send_window_ = 65535;
  uint32_t next_id_ = 1;
  uint32_t last_seen_ = 0;
  bool acknowledged_ = false;
  bool goaway_ = false;
  bool refuses_ = false;
};

}  // namespace weft::fuzz
