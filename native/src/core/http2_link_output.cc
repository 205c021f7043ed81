// Frames out: heads, bodies within the windows, windows returned.
#include <algorithm>

#include "core/connection.h"
#include "core/http2/transcode.h"
#include "core/http2_link.h"
#include "core/reactor.h"

namespace weft {

namespace {
using http2::ErrorCode;
using http2::FrameType;

// What each stream may receive before we took anything of it (RFC 9113 6.9.2's initial value): a stream that is stuck holds no more. It
// grows with the first that is taken.
constexpr uint32_t kFirstWindow = 65535;
// What may be under way on a connection, on its way to us. It is returned as it comes.
constexpr uint32_t kConnectionWindow = 1u << 20;
// So many streams of a connection may buffer max_buffered_bytes each; more share what these would have, down to a frame each.
constexpr size_t kFullShares = 16;
constexpr size_t kLeastShare = 16384;
// Of what is not DATA, before the peer is listened to no more.
constexpr size_t kOwedBytes = 64 * 1024;
// Frames of control that each DATA of ours allows its reader beside what is free: WINDOW_UPDATE above all (Envoy's figure).
constexpr uint32_t kUpdatesPerData = 10;
}  // namespace

void Http2Link::changed() { reactor_->flush_later(connection_); }

size_t Http2Link::backlog() const { return output_.size() + connection_->output().size(); }

bool Http2Link::is_choked() const { return backlog() >= reactor_->limits().max_buffered_bytes + Reactor::kReadScratch + kOwedBytes; }

bool Http2Link::can_send_pending() const {
  return first_blocked_ != nullptr && send_window_ > 0 && backlog() < reactor_->limits().max_buffered_bytes;
}

void Http2Link::start() {
  uint8_t* out = frame_room(256);
  uint8_t* end = out;
  if (role_ == http2::Role::kClient) {
    memcpy(end, http2::kClientPreface.data(), http2::kClientPreface.size());
    end += http2::kClientPreface.size();
    const http2::Setting settings[] = {{http2::SettingId::kEnablePush, 0},
                                       {http2::SettingId::kMaxHeaderListSize, reactor_->limits().max_head_bytes}};
    end = http2::write_settings(settings, std::size(settings), end);
  } else {
    const http2::Setting settings[] = {{http2::SettingId::kMaxConcurrentStreams, reactor_->limits().max_streams},
                                       {http2::SettingId::kMaxHeaderListSize, reactor_->limits().max_head_bytes},
                                       {http2::SettingId::kEnableConnectProtocol, 1}};
    end = http2::write_settings(settings, std::size(settings), end);
  }
  end = http2::write_window_update(0, kConnectionWindow - static_cast<uint32_t>(receive_window_), end);
  receive_window_ = kConnectionWindow;
  commit_to(out, end);
}

void Http2Link::open(Http2Stream* stream, uint32_t id) {
  stream->id = id;
  stream->pending.set_account(reactor_->buffer_account(connection_->tenant()));
  stream->send_window = peer_.initial_window_size;
  stream->receive_window = stream->window_size = kFirstWindow;
  if (role_ == http2::Role::kClient) next_id_ = id + 2;
  streams_.add(stream);
}

void Http2Link::close(Http2Stream* stream, ErrorCode code) {
  unblock(stream);
  if (!stream->local_ended || !stream->remote_ended) {
    if (code == ErrorCode::kProtocolError) spend_reset();
    reset(stream->id, code);
  }
  stream->local_ended = stream->remote_ended = true;
  streams_.remove(stream->id);
}

void Http2Link::reset(uint32_t stream, ErrorCode code) {
  reset_ids_[reset_count_++ % reset_ids_.size()] = stream;
  uint8_t* out = frame_room(http2::kRstStreamFrameBytes);
  commit_to(out, http2::write_rst_stream(stream, code, out));
}

void Http2Link::refuse(uint32_t stream, ErrorCode code) {
  reactor_->counters().add(Counter::Http2StreamErrors);
  spend_reset();
  reset(stream, code);
}

void Http2Link::refuse(Http2Stream* stream, ErrorCode code) {
  refuse(stream->id, code);
  stream->local_ended = stream->remote_ended = true;
  owner_->on_stream_reset(stream, code, true);
}

void Http2Link::send_goaway(uint32_t last_stream, ErrorCode code, std::string_view debug) {
  uint8_t* out = frame_room(http2::kGoawayFrameBytes + debug.size());
  commit_to(out, http2::write_goaway(last_stream, code, debug, out));
}

void Http2Link::send_ping() {
  uint8_t* out = frame_room(http2::kPingFrameBytes);
  commit_to(out, http2::write_ping(0, false, out));
}

void Http2Link::commit_headers(Http2Stream* stream, uint8_t* out, size_t size, bool ends) {
  stream->local_ended = stream->local_ended || ends;
  commit_to(out, http2::write_headers(stream->id, ends, size, peer_.max_frame_size, out));
}

// DATA frames of what windows and the socket allow; returns how much that was.
size_t Http2Link::send_now(Http2Stream* stream, const uint8_t* bytes, size_t size, bool ends) {
  const size_t limit = reactor_->limits().max_buffered_bytes;
  const int64_t window = std::min(stream->send_window, send_window_);
  size_t allowed = window <= 0 || backlog() >= limit ? 0 : std::min<size_t>(size, static_cast<size_t>(window));
  if (size != 0 && allowed == 0) return 0;
  uint8_t* begin = frame_room(allowed + http2::frames_of(allowed, peer_.max_frame_size) * http2::kFrameHeaderBytes);
  uint8_t* out = begin;
  const bool whole = ends && allowed == size;
  size_t done = 0;
  do {
    const size_t part = std::min<size_t>(allowed - done, peer_.max_frame_size);
    const bool last = whole && done + part == allowed;
    control_.earn(kUpdatesPerData);
    out = http2::write_frame_header(static_cast<uint32_t>(part), FrameType::kData, last ? http2::kFlagEndStream : 0, stream->id, out);
    if (part != 0) memcpy(out, bytes + done, part);
    out += part;
    done += part;
  } while (done < allowed);
  commit_to(begin, out);
  stream->send_window -= static_cast<int64_t>(done);
  send_window_ -= static_cast<int64_t>(done);
  if (whole) stream->local_ended = true;
  return done;
}

void Http2Link::send_data(Http2Stream* stream, const uint8_t* bytes, size_t size, bool ends) {
  if (stream->local_ended || (size == 0 && !ends)) return;
  size_t done = 0;
  if (stream->pending.empty()) {
    done = send_now(stream, bytes, size, ends);
    if (done == size) return;
  }
  stream->pending.append(bytes + done, size - done);
  stream->end_pending = ends;
  block(stream);
}

void Http2Link::send_trailers(Http2Stream* stream, const http2::HeaderBlock& trailers) {
  if (stream->local_ended) return;
  if (stream->pending.empty()) {
    send_headers(stream, http2::trailers_bound(trailers), true,
                 [&](http2::HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
                   return http2::write_trailer_block(trailers, encoder, out, capacity, size);
                 });
    if (!stream->local_ended) send_data(stream, nullptr, 0, true);
    return;
  }
  std::string lines(trailers.list_size() + 64, '\0');
  size_t size = 0;
  if (!http2::write_trailer_lines(trailers, lines.data(), lines.size(), &size)) size = 0;
  lines.resize(size);
  stream->pending_trailers = std::move(lines);
  stream->end_pending = true;
}

void Http2Link::send_trailers(Http2Stream* stream, std::string_view lines) {
  if (stream->local_ended) return;
  if (lines.empty()) return send_data(stream, nullptr, 0, true);
  if (!stream->pending.empty()) {
    stream->pending_trailers = lines;
    stream->end_pending = true;
    return;
  }
  send_headers(stream, lines_room(lines), true, [&](http2::HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
    return http2::write_trailer_block(lines, encoder, out, capacity, size);
  });
  if (!stream->local_ended) send_data(stream, nullptr, 0, true);
}

void Http2Link::block(Http2Stream* stream) {
  if (stream->is_blocked) return;
  stream->is_blocked = true;
  stream->next_blocked = nullptr;
  stream->previous_blocked = last_blocked_;
  (last_blocked_ != nullptr ? last_blocked_->next_blocked : first_blocked_) = stream;
  last_blocked_ = stream;
}

void Http2Link::unblock(Http2Stream* stream) {
  if (!stream->is_blocked) return;
  stream->is_blocked = false;
  (stream->previous_blocked != nullptr ? stream->previous_blocked->next_blocked : first_blocked_) = stream->next_blocked;
  (stream->next_blocked != nullptr ? stream->next_blocked->previous_blocked : last_blocked_) = stream->previous_blocked;
  stream->next_blocked = stream->previous_blocked = nullptr;
}

// One frame's worth each in turn, so that none starves the others.
void Http2Link::send_pending() {
  const size_t limit = reactor_->limits().max_buffered_bytes;
  // Those that were looked at without result stay in their order.
  size_t fruitless = 0;
  for (Http2Stream* stream = first_blocked_; stream != nullptr && send_window_ > 0 && backlog() < limit; stream = first_blocked_) {
    unblock(stream);
    const size_t before = stream->pending.size();
    const size_t part = std::min<size_t>(before, peer_.max_frame_size);
    const bool last = part == before && stream->end_pending && stream->pending_trailers.empty();
    const size_t done = send_now(stream, stream->pending.data(), part, last);
    stream->pending.consume(done);
    if (!stream->pending.empty()) block(stream);
    if (done == 0) {
      if (++fruitless > streams_.size()) return;
      continue;
    }
    fruitless = 0;
    if (stream->pending.empty() && !stream->pending_trailers.empty()) {
      const std::string lines = std::move(stream->pending_trailers);
      stream->pending_trailers.clear();
      send_trailers(stream, lines);
    }
    if (stream->pending.empty() || (before >= limit && stream->pending.size() < limit)) owner_->on_stream_writable(stream);
  }
}

void Http2Link::return_connection_window(uint32_t size) {
  unreturned_ += size;
  if (unreturned_ < kConnectionWindow / 2) return;
  uint8_t* out = frame_room(http2::kWindowUpdateFrameBytes);
  commit_to(out, http2::write_window_update(0, unreturned_, out));
  receive_window_ += unreturned_;
  unreturned_ = 0;
}

void Http2Link::taken(Http2Stream* stream, size_t room) {
  const uint32_t size = std::exchange(stream->untaken, 0);
  if (size == 0 || stream->remote_ended) return;
  stream->unreturned += size;
  if (stream->unreturned < stream->window_size / 2) return;
  const uint32_t grown = std::max(stream->window_size, static_cast<uint32_t>(room));
  const uint32_t increment = std::exchange(stream->unreturned, 0) + grown - std::exchange(stream->window_size, grown);
  uint8_t* out = frame_room(http2::kWindowUpdateFrameBytes);
  commit_to(out, http2::write_window_update(stream->id, increment, out));
  stream->receive_window += increment;
}

size_t Http2Link::share() const {
  const size_t most = reactor_->buffer_bytes(connection_->tenant());
  if (streams_.size() <= kFullShares) return most;
  return std::min(most, std::max(kLeastShare, most * kFullShares / streams_.size()));
}

}  // namespace weft
