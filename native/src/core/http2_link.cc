// Frames in, and the errors in them. Sending is in http2_link_output.cc.
#include "core/http2_link.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/connection.h"
#include "core/reactor.h"

namespace weft {

namespace {
using http2::ErrorCode;
using http2::Frame;
using http2::FrameType;

// Frames that carry nothing: SETTINGS, PING, WINDOW_UPDATE, PRIORITY, empty DATA, unknown ones. Productive frames earn them, as gRPC's
// window probing wants.
constexpr uint32_t kControlBurst = 1000;
constexpr uint32_t kControlPerSecond = 100;
// CVE-2023-44487: requests that are reset before they are served.
constexpr uint32_t kResetBurst = 500;
constexpr uint32_t kResetPerSecond = 50;

http2::FrameLimits frame_limits(const EngineLimits& limits) {
  http2::FrameLimits frame;
  // What is a little too long gets a 431 yet.
  frame.max_block_bytes = 2 * limits.max_head_bytes;
  return frame;
}

}  // namespace

void Http2StreamTable::add(Http2Stream* stream) {
  if ((count_ + 1) * 2 > slots_.size()) {
    std::vector<Http2Stream*> old(slots_.empty() ? 16 : slots_.size() * 2);
    old.swap(slots_);
    shift_ = 32 - static_cast<uint32_t>(std::countr_zero(slots_.size()));
    count_ = 0;
    for (Http2Stream* each : old) {
      if (each != nullptr) add(each);
    }
  }
  size_t at = slot(stream->id);
  while (slots_[at] != nullptr) at = (at + 1) & mask();
  slots_[at] = stream;
  count_++;
}

void Http2StreamTable::remove(uint32_t id) {
  if (count_ == 0) return;
  size_t hole = slot(id);
  while (slots_[hole] != nullptr && slots_[hole]->id != id) hole = (hole + 1) & mask();
  if (slots_[hole] == nullptr) return;
  slots_[hole] = nullptr;
  count_--;
  // Closes the gap for those whose way leads over it.
  for (size_t at = (hole + 1) & mask(); slots_[at] != nullptr; at = (at + 1) & mask()) {
    const size_t home = slot(slots_[at]->id);
    if (((at - home) & mask()) < ((at - hole) & mask())) continue;
    slots_[hole] = slots_[at];
    slots_[at] = nullptr;
    hole = at;
  }
}

bool Http2Budget::spend(uint64_t now_ms) {
  if (left_ == 0 || now_ms - refilled_ms_ >= 1000) {
    const uint64_t earned = (now_ms - refilled_ms_) * per_second_ / 1000;
    if (earned != 0) {
      left_ = static_cast<uint32_t>(std::min<uint64_t>(burst_, left_ + earned));
      refilled_ms_ = now_ms;
    }
  }
  if (left_ == 0) return false;
  left_--;
  return true;
}

Http2Link::Http2Link(Reactor* reactor, Connection* connection, Owner* owner, http2::Role role)
    : reactor_(reactor),
      connection_(connection),
      owner_(owner),
      parser_(role, frame_limits(reactor->limits()), reactor->buffer_account(connection->tenant())),
      decoder_(&reactor->interned()),
      encoder_(&reactor->interned()),
      input_(reactor->buffer_account(connection->tenant())),
      output_(reactor->buffer_account(connection->tenant())),
      control_(kControlBurst, kControlPerSecond),
      resets_(kResetBurst, kResetPerSecond),
      role_(role) {}

bool Http2Link::fail(ErrorCode code, std::string_view debug) {
  Counters& counters = reactor_->counters();
  counters.add(Counter::Http2ProtocolErrors);
  send_goaway(last_peer_stream_, code, debug);
  return false;
}

bool Http2Link::receive(const uint8_t* bytes, size_t size) {
  const Handle self = connection_->handle();
  const bool good = receive_frames(bytes, size);
  // Not within: it makes the other sides read, into the memory that the frames lie in.
  if (good && std::exchange(windows_opened_, false) && reactor_->find(self) != nullptr) send_pending();
  return good;
}

bool Http2Link::receive_frames(const uint8_t* bytes, size_t size) {
  const Handle self = connection_->handle();
  paused_ = false;
  for (size_t at = 0;;) {
    // What is left of a flood of small frames waits for the connection's next turn.
    if ((role_ == http2::Role::kServer && !reactor_->has_batch_room()) || (at != 0 && reactor_->turn_is_long())) {
      paused_ = true;
      input_.append(bytes + at, size - at);
      return true;
    }
    Frame frame;
    const http2::FrameStep step = parser_.next(bytes + at, size - at, &frame);
    at += step.consumed;
    if (step.status == http2::FrameStatus::kMore) {
      input_.append(bytes + at, size - at);
      return !refuses_block();
    }
    if (step.status == http2::FrameStatus::kFault) {
      const ErrorCode code = http2::frame_fault_code(step.fault);
      if (code == ErrorCode::kEnhanceYourCalm) reactor_->counters().add(Counter::Http2BlockFloods);
      return fail(code, http2::frame_fault_name(step.fault));
    }
    if (!on_frame(frame)) return false;
    if (resets_spent_) return fail(ErrorCode::kEnhanceYourCalm, "too many requests are reset");
    if (reactor_->find(self) == nullptr) return true;
  }
}

bool Http2Link::refuses_block() {
  if (role_ == http2::Role::kClient || !parser_.in_block()) return false;
  if (!reactor_->refuses_part_of_head(connection_->tenant(), streams_.size() != 0)) return false;
  send_goaway(last_peer_stream_, ErrorCode::kEnhanceYourCalm, "no room for a head in parts");
  // Nothing is read any more, and the connection may linger.
  parser_ = http2::FrameParser(role_, frame_limits(reactor_->limits()));
  return true;
}

bool Http2Link::spend_control() {
  if (control_.spend(reactor_->now_ms())) return true;
  reactor_->counters().add(Counter::Http2ControlFloods);
  return fail(ErrorCode::kEnhanceYourCalm, "too many frames that carry nothing");
}

// CVE-2025-8671: a client that makes us reset its requests costs what one costs that resets them itself.
bool Http2Link::spend_reset() {
  if (role_ == http2::Role::kClient || resets_.spend(reactor_->now_ms())) return true;
  if (!resets_spent_) reactor_->counters().add(Counter::Http2RapidResets);
  resets_spent_ = true;
  return false;
}

bool Http2Link::on_frame(const Frame& frame) {
  switch (frame.type) {
    case FrameType::kData:
      return on_data(frame);
    case FrameType::kHeaders:
      return on_headers(frame);
    case FrameType::kRstStream:
      return on_rst_stream(frame);
    case FrameType::kSettings:
      return on_settings(frame);
    case FrameType::kWindowUpdate:
      return on_window_update(frame);
    case FrameType::kPing: {
      if (frame.has(http2::kFlagAck)) {
        if (!spend_control()) return false;
        owner_->on_ping_ack();
        return true;
      }
      if (!spend_control()) return false;
      uint8_t* out = frame_room(http2::kPingFrameBytes);
      commit_to(out, http2::write_ping(http2::ping_bytes(frame), true, out));
      return true;
    }
    case FrameType::kGoaway: {
      const http2::Goaway goaway = http2::goaway(frame);
      owner_->on_goaway(goaway.last_stream, static_cast<ErrorCode>(goaway.code));
      return spend_control();
    }
    case FrameType::kPriority:
      if (frame.stream_error != ErrorCode::kNoError) {
        Http2Stream* stream = streams_.find(frame.stream);
        // RFC 9113 6.4, 5.1: a stream that is idle or closed may not be reset.
        if (stream == nullptr) return fail(frame.stream_error, "PRIORITY that is none");
        refuse(stream, frame.stream_error);
      }
      return spend_control();
    default:
      return spend_control();
  }
}

bool Http2Link::is_idle(uint32_t stream) const {
  const bool ours = ((stream & 1) != 0) == (role_ == http2::Role::kClient);
  return ours ? stream >= next_id_ : stream > last_peer_stream_;
}

bool Http2Link::was_reset(uint32_t stream) const { return std::find(reset_ids_.begin(), reset_ids_.end(), stream) != reset_ids_.end(); }

void Http2Link::note_remote_end(Http2Stream* stream) {
  stream->remote_ended = true;
  if (role_ == http2::Role::kClient) ended_ids_[ended_count_++ % ended_ids_.size()] = stream->id;
}

bool Http2Link::has_ended(uint32_t stream) const { return std::find(ended_ids_.begin(), ended_ids_.end(), stream) != ended_ids_.end(); }

// RFC 9113 5.1: what was under way when we gave the stream up is let pass; anything else is the peer's mistake. A stream of which we know
// no more was perhaps given up: many are at once when their clients go, or find us busy.
bool Http2Link::on_closed_stream(const Frame& frame) {
  const bool knows_all = reset_count_ <= reset_ids_.size();
  const bool mistaken = role_ == http2::Role::kServer ? knows_all && !was_reset(frame.stream) : has_ended(frame.stream);
  return mistaken ? fail(ErrorCode::kStreamClosed, "frame on a closed stream") : spend_control();
}

bool Http2Link::on_data(const Frame& frame) {
  receive_window_ -= frame.flow_size;
  if (receive_window_ < 0) return fail(ErrorCode::kFlowControlError, "the connection's window is exceeded");
  const bool ends = frame.has(http2::kFlagEndStream);
  if (frame.size != 0) {
    control_.earn(1);
  } else if (!ends && !spend_control()) {
    return false;
  }
  Http2Stream* stream = streams_.find(frame.stream);
  // The connection's window is nobody's: what is not taken holds up its own stream alone, and is bounded by that stream's window.
  return_connection_window(frame.flow_size);
  if (stream == nullptr) return is_idle(frame.stream) ? fail(ErrorCode::kProtocolError, "DATA on an idle stream") : on_closed_stream(frame);
  stream->untaken += frame.flow_size;
  stream->receive_window -= frame.flow_size;
  if (stream->remote_ended) return refuse(stream, ErrorCode::kStreamClosed), true;
  if (stream->receive_window < 0) return refuse(stream, ErrorCode::kFlowControlError), true;
  if (stream->length_left >= 0) {
    stream->length_left -= frame.size;
    // RFC 9113 8.1.1.
    if (stream->length_left < 0 || (ends && stream->length_left != 0)) return refuse(stream, ErrorCode::kProtocolError), true;
  }
  if (ends) note_remote_end(stream);
  owner_->on_data(stream, frame.payload, frame.size, ends);
  return true;
}

bool Http2Link::on_headers(const Frame& frame) {
  const bool ends = frame.has(http2::kFlagEndStream);
  http2::HeaderBlock block(&reactor_->interned());
  http2::BlockLimits limits;
  limits.max_list_bytes = reactor_->limits().max_head_bytes;
  limits.max_fields = reactor_->limits().max_headers + 5;
  const http2::HpackFault fault = decoder_.decode(frame.payload, frame.size, limits, &block);
  if (fault == http2::HpackFault::kBomb) reactor_->counters().add(Counter::Http2BlockFloods);
  if (fault != http2::HpackFault::kNone) return fail(http2::hpack_fault_code(fault), http2::hpack_fault_name(fault));
  if (Http2Stream* stream = streams_.find(frame.stream)) {
    control_.earn(1);
    if (frame.stream_error != ErrorCode::kNoError) return refuse(stream, frame.stream_error), true;
    if (stream->remote_ended) return refuse(stream, ErrorCode::kStreamClosed), true;
    if (ends && stream->length_left > 0 && role_ == http2::Role::kServer) return refuse(stream, ErrorCode::kProtocolError), true;
    if (ends) note_remote_end(stream);
    owner_->on_headers(stream, std::move(block), ends);
    return true;
  }
  if (role_ == http2::Role::kClient) {
    return is_idle(frame.stream) ? fail(ErrorCode::kProtocolError, "HEADERS on an idle stream") : on_closed_stream(frame);
  }
  if ((frame.stream & 1) == 0) return fail(ErrorCode::kProtocolError, "a client's stream with an even id");
  // RFC 9113 5.1.1. Which error it is, is exact for the last gap in the ids alone.
  if (frame.stream >= skipped_from_ && frame.stream < skipped_to_) return fail(ErrorCode::kProtocolError, "an id below the last");
  if (frame.stream <= last_peer_stream_) return on_closed_stream(frame);
  const uint32_t expected = last_peer_stream_ == 0 ? 1 : last_peer_stream_ + 2;
  if (frame.stream != expected) skipped_from_ = expected, skipped_to_ = frame.stream;
  last_peer_stream_ = frame.stream;
  if (frame.stream_error != ErrorCode::kNoError) return refuse(frame.stream, frame.stream_error), true;
  // One that is refused carried nothing: who never acknowledges our limit, or hears no GOAWAY, may not go on for ever.
  if (!owner_->on_new_headers(frame.stream, std::move(block), ends)) return spend_control();
  control_.earn(1);
  return true;
}

bool Http2Link::on_rst_stream(const Frame& frame) {
  if (is_idle(frame.stream)) return fail(ErrorCode::kProtocolError, "RST_STREAM on an idle stream");
  Http2Stream* stream = streams_.find(frame.stream);
  if (!spend_reset()) return true;
  if (stream == nullptr) return spend_control();
  note_remote_end(stream);
  stream->local_ended = true;
  owner_->on_stream_reset(stream, static_cast<ErrorCode>(http2::rst_stream_code(frame)), false);
  return true;
}

bool Http2Link::on_settings(const Frame& frame) {
  if (!spend_control()) return false;
  if (frame.has(http2::kFlagAck)) return settings_acknowledged_ = true;
  settings_seen_ = true;
  const uint32_t window = peer_.initial_window_size;
  const http2::Role sender = role_ == http2::Role::kServer ? http2::Role::kClient : http2::Role::kServer;
  const http2::FrameFault fault = http2::apply_settings(frame.payload, frame.size, sender, &peer_);
  if (fault != http2::FrameFault::kNone) return fail(http2::frame_fault_code(fault), http2::frame_fault_name(fault));
  encoder_.set_peer_limit(peer_.header_table_size);
  // Larger frames than this would only make one stream's turn longer.
  peer_.max_frame_size = std::min<uint32_t>(peer_.max_frame_size, 65536);
  const int64_t change = int64_t{peer_.initial_window_size} - int64_t{window};
  bool overflow = false;
  if (change != 0) {
    streams_.for_each([&](Http2Stream* stream) {
      stream->send_window += change;
      overflow |= stream->send_window > http2::kMaxWindow;
    });
  }
  if (overflow) return fail(ErrorCode::kFlowControlError, "a stream's window is beyond 2^31 - 1");
  uint8_t* out = frame_room(http2::kFrameHeaderBytes);
  commit_to(out, http2::write_settings_ack(out));
  owner_->on_settings();
  if (change > 0) windows_opened_ = true;
  return true;
}

bool Http2Link::on_window_update(const Frame& frame) {
  if (!spend_control()) return false;
  const uint32_t increment = http2::window_increment(frame);
  if (frame.stream == 0) {
    send_window_ += increment;
    if (send_window_ > http2::kMaxWindow) return fail(ErrorCode::kFlowControlError, "the connection's window is beyond 2^31 - 1");
    windows_opened_ = true;
    return true;
  }
  if (is_idle(frame.stream)) return fail(ErrorCode::kProtocolError, "WINDOW_UPDATE on an idle stream");
  Http2Stream* stream = streams_.find(frame.stream);
  if (stream == nullptr) return true;
  if (frame.stream_error != ErrorCode::kNoError) return refuse(stream, frame.stream_error), true;
  stream->send_window += increment;
  if (stream->send_window > http2::kMaxWindow) return refuse(stream, ErrorCode::kFlowControlError), true;
  if (stream->is_blocked) windows_opened_ = true;
  return true;
}

}  // namespace weft
