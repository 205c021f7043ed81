// One HTTP/2 connection as RFC 9113 sees it, on either side of the proxy: frames in and out, HPACK, settings, windows, stream ids, and the
// limits on what a peer may make us do. Bytes go over a Connection; messages are its owner's, frame by frame.
// Does not know what a request is.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/byte_queue.h"
#include "core/http2/frame.h"
#include "core/http2/header_block.h"
#include "core/http2/hpack_decoder.h"
#include "core/http2/hpack_encoder.h"
#include "core/streams.h"

namespace weft {

class Connection;
class Reactor;

// The framing and flow control of one stream; who carries the message derives from it.
struct Http2Stream : Retired {
  uint32_t id = 0;
  // What the peer lets us send; may be negative after its SETTINGS.
  int64_t send_window = 0;
  // What the peer may still send us, and may send at most before we took any of it.
  int64_t receive_window = 0;
  uint32_t window_size = 0;
  // Received, and not yet taken by the other side of the exchange.
  uint32_t untaken = 0;
  // Taken, and not yet returned to the peer.
  uint32_t unreturned = 0;
  // Content-length not received yet; -1: not announced.
  int64_t length_left = -1;
  // Waits for a window, or for the socket.
  ByteQueue pending;
  std::string pending_trailers;
  bool end_pending = false;
  // END_STREAM or RST_STREAM was sent, or came.
  bool local_ended = false;
  bool remote_ended = false;
  bool is_blocked = false;
  Http2Stream* next_blocked = nullptr;
  Http2Stream* previous_blocked = nullptr;
};

// The streams of one connection by id: open addressing, at most half full.
class Http2StreamTable {
 public:
  Http2Stream* find(uint32_t id) const {
    if (count_ == 0) return nullptr;
    for (size_t at = slot(id);; at = (at + 1) & mask()) {
      Http2Stream* stream = slots_[at];
      if (stream == nullptr || stream->id == id) return stream;
    }
  }
  void add(Http2Stream* stream);
  void remove(uint32_t id);
  size_t size() const { return count_; }
  // `visit` may remove streams; what it deletes it must remove.
  template <typename Visit>
  void for_each(Visit visit) {
    std::vector<uint32_t> ids;
    for (const Http2Stream* stream : slots_) {
      if (stream != nullptr) ids.push_back(stream->id);
    }
    for (const uint32_t id : ids) {
      if (Http2Stream* stream = find(id)) visit(stream);
    }
  }

 private:
  size_t mask() const { return slots_.size() - 1; }
  // Spread: ids that follow each other would stand in one long run, which remove() has to walk.
  size_t slot(uint32_t id) const { return (id * 0x9e3779b1u) >> shift_; }

  std::vector<Http2Stream*> slots_;
  size_t count_ = 0;
  // 32 less the bits of a slot's number.
  uint32_t shift_ = 32;
};

// What a block of such text lines may take: each is at least 4 bytes long and costs the encoder's overhead.
constexpr size_t lines_room(std::string_view lines) { return lines.size() * (http2::HpackEncoder::kMaxFieldOverhead / 4 + 1) + 512; }

// So much at once, and so much a second.
class Http2Budget {
 public:
  Http2Budget(uint32_t burst, uint32_t per_second) : left_(burst), burst_(burst), per_second_(per_second) {}
  // False: spent.
  bool spend(uint64_t now_ms);
  void earn(uint32_t amount) { left_ = left_ + amount < burst_ ? left_ + amount : burst_; }

 private:
  uint32_t left_;
  uint32_t burst_;
  uint32_t per_second_;
  uint64_t refilled_ms_ = 0;
};

class Http2Link {
 public:
  class Owner {
   public:
    // HEADERS of a stream that the client opens. The block is checked for nothing but its compression. False: it was refused, and that is
    // not the client's fault.
    virtual bool on_new_headers(uint32_t stream, http2::HeaderBlock&& block, bool ends) = 0;
    virtual void on_headers(Http2Stream* stream, http2::HeaderBlock&& block, bool ends) = 0;
    // `size` bytes of payload; the window's bytes are counted in stream->untaken already.
    virtual void on_data(Http2Stream* stream, const uint8_t* bytes, size_t size, bool ends) = 0;
    // RST_STREAM, or an error of ours in what the peer sent on that stream (`by_us`, already told). The stream is still in the table.
    virtual void on_stream_reset(Http2Stream* stream, http2::ErrorCode code, bool by_us) = 0;
    // Less than max_buffered_bytes wait in the stream.
    virtual void on_stream_writable(Http2Stream* stream) = 0;
    virtual void on_goaway(uint32_t last_stream, http2::ErrorCode code) = 0;
    // The peer's SETTINGS (or their ACK of ours) came; limits may have changed.
    virtual void on_settings() = 0;
    virtual void on_ping_ack() = 0;

   protected:
    ~Owner() = default;
  };

  Http2Link(Reactor* reactor, Connection* connection, Owner* owner, http2::Role role);

  // The first bytes of our direction.
  void start();
  // All that came; `bytes` may begin with what input() kept (see below). False: the connection must end; GOAWAY is in the output.
  bool receive(const uint8_t* bytes, size_t size);
  // What is to stand in front of the next bytes.
  ByteQueue& input() { return input_; }
  // receive() stopped for lack of room, or time: the rest is in input().
  bool is_paused() const { return paused_; }
  bool in_block() const { return parser_.in_block(); }
  bool has_settings() const { return settings_seen_; }
  // It knows our limits.
  bool has_acknowledged_settings() const { return settings_acknowledged_; }

  // Output of this tick; the connection writes it with one call.
  ByteQueue& output() { return output_; }
  size_t backlog() const;
  // The peer does not read what we owe it: answers without flow control (HEADERS, RST_STREAM, ACKs) are as many as it likes to ask for. Its
  // DATA alone never gets so far, so that two proxies that only have bodies for each other go on reading.
  bool is_choked() const;
  // Bodies wait for no more than the output's turn, which a socket that took everything does not tell of.
  bool can_send_pending() const;
  const http2::Settings& peer() const { return peer_; }

  // A new stream of ours, or of the peer's.
  void open(Http2Stream* stream, uint32_t id);
  // Off the table. Resets it if the peer was not told the end, with `code`; PROTOCOL_ERROR is the peer's fault.
  void close(Http2Stream* stream, http2::ErrorCode code);
  Http2StreamTable& streams() { return streams_; }
  const Http2StreamTable& streams() const { return streams_; }
  uint32_t last_peer_stream() const { return last_peer_stream_; }
  // 0: no more ids.
  uint32_t next_id() const { return next_id_ > http2::kMaxStreamId ? 0 : next_id_; }

  // HEADERS around a block that `write(encoder, out, capacity, &size)` writes into `bound` bytes. False: it did not.
  template <typename Write>
  bool send_headers(Http2Stream* stream, size_t bound, bool ends, Write write) {
    // Frame headers of CONTINUATIONs are made room for behind the block.
    uint8_t* out = frame_room(bound + http2::kFrameHeaderBytes * (bound / 16384 + 2));
    size_t size = 0;
    if (!write(&encoder_, out + http2::kFrameHeaderBytes, bound, &size)) return false;
    commit_headers(stream, out, size, ends);
    return true;
  }
  // Sends what windows allow, keeps the rest.
  void send_data(Http2Stream* stream, const uint8_t* bytes, size_t size, bool ends);
  // Behind what waits. Both end the stream.
  void send_trailers(Http2Stream* stream, const http2::HeaderBlock& block);
  void send_trailers(Http2Stream* stream, std::string_view lines);
  // The other side took what it had; from now on the stream may have `room` bytes under way, if that is more.
  void taken(Http2Stream* stream, size_t room);
  // Of the buffers that streams share, one's part.
  size_t share() const;
  // The socket has room again, or windows opened.
  void send_pending();
  void send_goaway(uint32_t last_stream, http2::ErrorCode code, std::string_view debug);
  void send_ping();
  // Resets that are the peer's fault cost it what its own do (CVE-2025-8671). An error in what came on one stream: its owner is told.
  void refuse(Http2Stream* stream, http2::ErrorCode code);
  // One that is not in the table.
  void refuse(uint32_t stream, http2::ErrorCode code);
  // Nobody's fault.
  void reset(uint32_t stream, http2::ErrorCode code);
  // A request was served to its end: such a client may reset others.
  void earn_reset() { resets_.earn(1); }

 private:
  bool receive_frames(const uint8_t* bytes, size_t size);
  bool fail(http2::ErrorCode code, std::string_view debug);
  bool on_frame(const http2::Frame& frame);
  bool on_data(const http2::Frame& frame);
  bool on_headers(const http2::Frame& frame);
  bool on_rst_stream(const http2::Frame& frame);
  bool on_settings(const http2::Frame& frame);
  bool on_window_update(const http2::Frame& frame);
  bool on_closed_stream(const http2::Frame& frame);
  // Part of a header block has come, which nobody may keep; GOAWAY has been said.
  bool refuses_block();
  bool spend_control();
  bool spend_reset();
  bool is_idle(uint32_t stream) const;
  bool was_reset(uint32_t stream) const;
  bool has_ended(uint32_t stream) const;
  void note_remote_end(Http2Stream* stream);
  void commit_headers(Http2Stream* stream, uint8_t* out, size_t size, bool ends);
  size_t send_now(Http2Stream* stream, const uint8_t* bytes, size_t size, bool ends);
  void return_connection_window(uint32_t size);
  void block(Http2Stream* stream);
  void unblock(Http2Stream* stream);
  // The first of a tick takes room for what usually follows: growing frame by frame would cost more than the frames.
  uint8_t* frame_room(size_t size) {
    return output_.reserve(output_.empty() && size < ByteQueue::kTickBytes ? ByteQueue::kTickBytes : size);
  }
  void commit_to(const uint8_t* begin, const uint8_t* end) {
    output_.commit(static_cast<size_t>(end - begin));
    changed();
  }
  void changed();

  Reactor* reactor_;
  Connection* connection_;
  Owner* owner_;
  http2::FrameParser parser_;
  http2::HpackDecoder decoder_;
  http2::HpackEncoder encoder_;
  http2::Settings peer_;
  Http2StreamTable streams_;
  ByteQueue input_;
  ByteQueue output_;
  int64_t send_window_ = 65535;
  int64_t receive_window_ = 65535;
  uint32_t unreturned_ = 0;
  uint32_t last_peer_stream_ = 0;
  // Ids that the peer left out last: [from, to).
  uint32_t skipped_from_ = 0;
  uint32_t skipped_to_ = 0;
  uint32_t next_id_ = 1;
  Http2Budget control_;
  Http2Budget resets_;
  Http2Stream* first_blocked_ = nullptr;
  Http2Stream* last_blocked_ = nullptr;
  // Streams that we reset last: what was under way to them is no error.
  std::array<uint32_t, 256> reset_ids_{};
  uint32_t reset_count_ = 0;
  // Streams of ours that the server ended last: it may send nothing more on them.
  std::array<uint32_t, 256> ended_ids_{};
  uint32_t ended_count_ = 0;
  http2::Role role_;
  bool settings_seen_ = false;
  bool settings_acknowledged_ = false;
  bool paused_ = false;
  bool windows_opened_ = false;
  bool resets_spent_ = false;
};

}  // namespace weft
