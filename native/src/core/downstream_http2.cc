// The client connection's own life: reading, streams coming and going, timeouts, draining, closing. Answers are in
// downstream_http2_stream.cc.
#include "core/downstream_http2.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/grpc.h"
#include "core/reactor.h"
#include "core/request_lines.h"

namespace weft {

namespace {
using http2::ErrorCode;

constexpr uint64_t kLingerMs = 2'000;
// Until the client has heard our GOAWAY, if it does not answer the PING behind it.
constexpr uint64_t kDrainNoticeMs = 1'000;
// For a client that leaves with nothing under way, instead of the idle timeout: what it asked before it left may come behind its GOAWAY.
constexpr uint64_t kLeaveMs = 500;
// For the rest of a request that was answered before its end, of so many of a connection.
constexpr uint64_t kFinishMs = 2'000;
constexpr size_t kMostUnfinished = 32;
}  // namespace

DownstreamHttp2::DownstreamHttp2(Reactor* reactor, int fd, const DownstreamOrigin& origin)
    : Downstream(reactor, fd, origin), link_(reactor, this, this, http2::Role::kServer) {
  reactor->counters().add(Counter::Http2ConnectionsOpen);
}

DownstreamHttp2::~DownstreamHttp2() {
  reactor_->cancel(&unfinished_);
  link_.streams().for_each([this](Http2Stream* stream) {
    link_.streams().remove(stream->id);
    delete static_cast<DownstreamHttp2Stream*>(stream);
  });
}

void DownstreamHttp2::accept(Reactor* reactor, int fd, const DownstreamOrigin& origin) {
  auto* connection = new DownstreamHttp2(reactor, fd, origin);
  reactor->adopt(connection);
  connection->begin();
}

void DownstreamHttp2::take_over(Reactor* reactor, Connection* opening, const DownstreamOrigin& origin, int32_t dialled) {
  auto* connection = new DownstreamHttp2(reactor, -1, origin);
  connection->dialled_ = dialled;
  reactor->succeed(opening, connection);
  connection->begin();
  reactor->resume_later(connection);
}

void DownstreamHttp2::begin() {
  link_.start();
  reactor_->schedule(this, reactor_->limits().header_timeout_ms);
  if (is_leaving()) on_drain();
}

void DownstreamHttp2::on_events(uint32_t events) {
  if (state_ == State::Ending) return;
  if ((events & EPOLLERR) != 0) return abort();
  if ((events & EPOLLOUT) != 0 && !output_.empty()) {
    const size_t before = output_.size();
    if (!flush()) return abort();
    if (state_ == State::Closing) {
      if (output_.empty()) return linger();
      if (output_.size() != before) reactor_->schedule(this, reactor_->limits().stream_idle_timeout_ms);
    }
    link_.send_pending();
    listen_again();
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) == 0) return;
  readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0) peer_finished_ = true;
  if (state_ == State::Lingering) return linger();
  read();
}

void DownstreamHttp2::on_resume() {
  if (state_ == State::Ending) return abort();
  if (state_ > State::Draining && !end_streams(true)) return;
  if (state_ == State::Lingering) return linger();
  std::vector<uint32_t> again;
  again.swap(requeued_);
  if (state_ == State::Open || state_ == State::Draining) link_.send_pending();
  for (const uint32_t id : again) {
    auto* stream = static_cast<DownstreamHttp2Stream*>(link_.streams().find(id));
    if (stream != nullptr && stream->exchange_ != nullptr && !enter_batch(stream)) stream->requeue();
  }
  read();
}

void DownstreamHttp2::read() {
  const Handle self = handle_;
  for (int turn = 0; state_ == State::Open || state_ == State::Draining; turn++) {
    if (link_.is_paused() && !reactor_->has_batch_room()) return reactor_->resume_later(this);
    if (!readable_ && !link_.is_paused()) return;
    if (turn == reactor_->reads_per_turn()) return reactor_->resume_later(this);
    rests_ = link_.is_choked();
    if (rests_) return;
    uint8_t* bytes = reactor_->read_scratch();
    const size_t have = link_.input().size();
    if (have != 0) memcpy(bytes, link_.input().data(), have);
    int64_t count = 0;
    // What was left for this turn comes first: with ever more behind it, each turn would copy all of that.
    if (readable_ && !link_.is_paused()) {
      count = receive(bytes + have, std::min(Reactor::kReadScratch - have, reactor_->read_bytes()));
      if (count == 0 || count == -2) return abort();
      if (count < 0) return;
    }
    link_.input().clear();
    const bool good = link_.receive(bytes, have + static_cast<size_t>(count));
    if (reactor_->find(self) == nullptr) return;
    if (!good) return finish_and_close();
    if (link_.is_paused()) return reactor_->resume_later(this);
    watch_head();
  }
}

// What is under way has times of its own.
void DownstreamHttp2::watch_head() {
  const bool is_whole = link_.has_settings() && !link_.in_block() && link_.input().empty();
  const bool begins = link_.streams().size() == 0 && !is_whole;
  if (begins == begins_ || is_leaving()) return;
  if (!begins) return set_idle_timer();
  begins_ = true;
  reactor_->schedule(this, reactor_->limits().header_timeout_ms);
}

// After a rest in read(), once the peer has taken what we owed it.
void DownstreamHttp2::listen_again() {
  if (rests_ && !link_.is_choked()) reactor_->resume_later(this);
}

void DownstreamHttp2::on_flush() {
  ByteQueue& out = link_.output();
  if (state_ == State::Ending) return out.clear();
  if (!out.empty()) {
    const bool sent = write(out.data(), out.size());
    out.clear();
    if (!sent) return abort();
  }
  if (state_ == State::Closing && output_.empty()) return linger();
  if (link_.can_send_pending()) reactor_->resume_later(this);
  listen_again();
}

bool DownstreamHttp2::on_new_headers(uint32_t id, http2::HeaderBlock&& block, bool ends) {
  const bool is_beyond = link_.streams().size() >= reactor_->limits().max_streams;
  if (!is_beyond && state_ == State::Open) return open_stream(id, std::move(block), ends), true;
  reactor_->counters().add(Counter::Http2RefusedStreams);
  // What it opens before it knows the limit, or that we go, is no fault of its own.
  const bool is_its_fault = state_ == State::Open && link_.has_acknowledged_settings();
  if (is_its_fault) {
    link_.refuse(id, ErrorCode::kRefusedStream);
  } else {
    link_.reset(id, ErrorCode::kRefusedStream);
  }
  return is_its_fault;
}

void DownstreamHttp2::open_stream(uint32_t id, http2::HeaderBlock&& block, bool ends) {
  auto* stream = new DownstreamHttp2Stream(this, reactor_->now_us());
  stream->remote_ended = ends;
  link_.open(stream, id);
  reactor_->counters().add(Counter::Http2StreamsOpen);
  HttpExchange& exchange = *stream->exchange_;
  exchange.received = block.list_size();
  exchange.request_ended = ends;
  exchange.http2 = std::make_unique<Http2Request>(&reactor_->interned());
  exchange.http2->block = std::move(block);
  http2::RequestSummary& summary = exchange.http2->summary;
  const http2::BlockError error = http2::check_request(exchange.http2->block, ends, true, &summary);
  if (error != http2::BlockError::kNone) return refuse_request(stream, http2::block_error_status(error));
  if (summary.is_extended_connect) {
    if (summary.protocol != "websocket") return refuse_request(stream, 501);
    exchange.tunnel = Tunnel::WebSocket;
  }
  if (summary.method == http1::Method::kConnect) exchange.tunnel = Tunnel::Connect;
  if (exchange.tunnel != Tunnel::None && summary.content_length > 0) return refuse_request(stream, 400);
  exchange.method = summary.method;
  stream->length_left = summary.has_content_length && !ends ? static_cast<int64_t>(summary.content_length) : -1;
  if (origin_.listener->forwarding.trusted_hops > 0 && summary.has(http1::KnownHeader::kXForwardedFor)) find_client(&exchange);
  if ((summary.method == http1::Method::kOptions || summary.method == http1::Method::kTrace) &&
      summary.has(http1::KnownHeader::kMaxForwards)) {
    const http2::HeaderBlock& request = exchange.http2->block;
    exchange.max_forwards = parse_max_forwards(request.value(*request.find(http1::KnownHeader::kMaxForwards)));
  }
  // An error of gRPC's is a 200, which would open a tunnel.
  if (summary.has(http1::KnownHeader::kContentType) && exchange.tunnel == Tunnel::None) {
    const http2::HeaderBlock& request = exchange.http2->block;
    exchange.grpc = grpc_form_of(request.value(*request.find(http1::KnownHeader::kContentType)));
    if (is_grpc_web(exchange.grpc) && summary.method != http1::Method::kPost) exchange.grpc = GrpcForm::None;
  }
  if (!enter_batch(stream)) stream->requeue();
}

void DownstreamHttp2::find_client(HttpExchange* exchange) const {
  ForwardedClient client(origin_.listener->forwarding.trusted_hops);
  const http2::HeaderBlock& block = exchange->http2->block;
  for (const http2::HeaderField& field : block) {
    if (field.traits.known == http1::KnownHeader::kXForwardedFor) client.add(block.value(field));
  }
  exchange->has_forwarded_client = client.find(&exchange->forwarded_client);
}

// 0: there is no answer but a reset.
void DownstreamHttp2::refuse_request(DownstreamHttp2Stream* stream, int status) {
  Counters& counters = reactor_->counters();
  counters.add(status == 431   ? Counter::RequestsRefusedHeadSize
               : status == 501 ? Counter::RequestsRefusedUnsupported
                               : Counter::RequestsRefusedMalformed);
  HttpExchange& exchange = *stream->exchange_;
  exchange.status = status;
  // check_request() goes no further than what it refuses.
  const http2::HeaderBlock& block = exchange.http2->block;
  exchange.method = http1::method_of(block.value_of(http2::Pseudo::kMethod));
  exchange.http2->summary.target = block.value_of(http2::Pseudo::kPath);
  const std::string_view authority = block.value_of(http2::Pseudo::kAuthority);
  exchange.http2->summary.authority = authority.empty() ? block.value_of(http1::KnownHeader::kHost) : authority;
  reactor_->log_undecided(exchange, *this, Reason::DownstreamProtocol);
  if (status == 0) {
    counters.add(Counter::Http2StreamErrors);
    return close_stream(stream, ErrorCode::kProtocolError);
  }
  stream->reply_local(status, {}, {}, Reason::DownstreamProtocol);
  close_stream(stream, ErrorCode::kNoError);
}

bool DownstreamHttp2::enter_batch(DownstreamHttp2Stream* stream) {
  HttpExchange& exchange = *stream->exchange_;
  return reactor_->has_batch_room() && reactor_->batch().add_request(descriptor_context(&exchange), *reactor_->tables(), *exchange.http2,
                                                                     exchange.request_ended, stream->id);
}

void DownstreamHttp2::on_decision(const Batch::Pending& pending, const Decision& decision) {
  auto* stream = static_cast<DownstreamHttp2Stream*>(link_.streams().find(pending.stream));
  // Reset meanwhile, or about to be.
  if (stream == nullptr || stream->exchange_ == nullptr || stream->exchange_->is_over() || state_ > State::Draining)
    return reactor_->abandon(decision);
  begin_exchange(stream, decision);
}

void DownstreamHttp2::begin_exchange(DownstreamHttp2Stream* stream, const Decision& decision) {
  HttpExchange& exchange = *stream->exchange_;
  if (exchange.has_begun()) {
    exchange.try_again(decision);
    if (!exchange.is_over()) stream->resume_request();
    return;
  }
  const Http2Request& request = *exchange.http2;
  uint64_t timeout_ms = 0;
  if (exchange.grpc != GrpcForm::None) {
    const http2::HeaderField* field = request.block.find(http1::KnownHeader::kGrpcTimeout);
    if (field != nullptr) timeout_ms = parse_grpc_timeout(request.block.value(*field));
  }
  exchange.begin(decision, timeout_ms);
  RequestForm form;
  form.block = &request.block;
  form.summary = &request.summary;
  // What came behind the head before the decision goes with it; at most a stream's window, so it is kept for another attempt as it is.
  const bool asks_tunnel = exchange.tunnel != Tunnel::None;
  if (!asks_tunnel) exchange.raw = std::move(stream->held_);
  BodyTransfer transfer;
  transfer.bytes = exchange.raw.data();
  transfer.size = exchange.raw.size();
  exchange.request_ended = !asks_tunnel && stream->remote_ended && stream->held_trailers_ == nullptr;
  exchange.start(form, transfer);
  if (!exchange.is_over()) stream->resume_request();
}

void DownstreamHttp2::on_headers(Http2Stream* base, http2::HeaderBlock&& block, bool ends) {
  auto* stream = static_cast<DownstreamHttp2Stream*>(base);
  // RFC 9113 8.1: a second HEADERS is trailers and ends the request. 8.5: a tunnel has none.
  const bool is_tunnel = stream->exchange_ != nullptr && stream->exchange_->tunnel != Tunnel::None;
  if (!ends || is_tunnel || http2::check_trailers(block) != http2::BlockError::kNone)
    return link_.refuse(stream, ErrorCode::kProtocolError);
  if (stream->exchange_ == nullptr) return drop_rest(stream, ends);
  stream->exchange_->received += block.list_size();
  stream->held_trailers_ = std::make_unique<http2::HeaderBlock>(std::move(block));
  stream->resume_request();
}

void DownstreamHttp2::on_data(Http2Stream* base, const uint8_t* bytes, size_t size, bool ends) {
  auto* stream = static_cast<DownstreamHttp2Stream*>(base);
  if (stream->exchange_ == nullptr) return drop_rest(stream, ends);
  HttpExchange& exchange = *stream->exchange_;
  exchange.received += size;
  if (exchange.is_over()) return;
  if (!stream->held_.empty() || !exchange.takes_body() || size > exchange.body_room()) {
    stream->held_.append(bytes, size);
    return;
  }
  exchange.give_payload(bytes, size, ends);
  if (!exchange.is_over()) stream->resume_request();
}

void DownstreamHttp2::on_stream_reset(Http2Stream* base, ErrorCode, bool by_us) {
  auto* stream = static_cast<DownstreamHttp2Stream*>(base);
  if (stream->exchange_ != nullptr && stream->exchange_->has_begun()) {
    reactor_->counters().add(Counter::DownstreamResets);
    return stream->exchange_->abort(by_us ? Reason::DownstreamProtocol : Reason::DownstreamClosed);
  }
  if (by_us && stream->exchange_ != nullptr) reactor_->log_undecided(*stream->exchange_, *this, Reason::DownstreamProtocol);
  close_stream(stream, ErrorCode::kCancel);
}

void DownstreamHttp2::on_stream_writable(Http2Stream* base) {
  auto* stream = static_cast<DownstreamHttp2Stream*>(base);
  if (stream->exchange_ != nullptr) stream->exchange_->on_client_writable();
}

void DownstreamHttp2::on_goaway(uint32_t, ErrorCode) {
  // RFC 9113 6.8: it speaks of streams that we open, and we open none. Its own requests are served as before, those too that come behind
  // it: nghttp2 sends HEADERS that wait after a GOAWAY that was asked for later.
  const bool is_first = !std::exchange(client_leaves_, true);
  if (is_first && link_.streams().size() == 0 && state_ == State::Open) set_idle_timer();
}

void DownstreamHttp2::close_stream(DownstreamHttp2Stream* stream, ErrorCode code) {
  link_.close(stream, code);
  reactor_->counters().add(Counter::Http2StreamsOpen, -1);
  if (stream->exchange_ != nullptr) reactor_->retire(std::move(stream->exchange_));
  reactor_->retire(std::unique_ptr<Retired>(stream));
  if (link_.streams().size() != 0) return;
  if (state_ == State::Draining) return finish_and_close();
  set_idle_timer();
}

// RFC 9113 8.1 allows a reset without an error. Some clients take it for one, and lose the answer: who may send all that is left without
// another window is let do so, and its mistakes are still told.
bool DownstreamHttp2::let_finish(DownstreamHttp2Stream* stream) {
  const bool has_room = stream->receive_window > 0 && stream->length_left <= stream->receive_window;
  if (state_ != State::Open || !stream->local_ended || stream->remote_ended || !has_room) return false;
  reactor_->retire(std::move(stream->exchange_));
  const ByteQueue dropped = std::move(stream->held_);
  reset_unfinished(kMostUnfinished - 1);
  unfinished_.entries.push_back({stream->id, reactor_->now_ms() + kFinishMs});
  if (!unfinished_.is_scheduled()) reactor_->schedule(&unfinished_, kFinishMs);
  return true;
}

void DownstreamHttp2::drop_rest(DownstreamHttp2Stream* stream, bool ends) {
  if (ends || stream->receive_window <= 0) close_stream(stream, ErrorCode::kNoError);
}

void DownstreamHttp2::reset_unfinished(size_t most) {
  std::vector<Unfinished::Entry>& entries = unfinished_.entries;
  const uint64_t now = reactor_->now_ms();
  size_t over = 0;
  while (over < entries.size() && (now >= entries[over].until_ms || (most != 0 && entries.size() - over > most))) {
    Http2Stream* stream = link_.streams().find(entries[over++].stream);
    if (stream != nullptr) close_stream(static_cast<DownstreamHttp2Stream*>(stream), ErrorCode::kNoError);
  }
  entries.erase(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(over));
  if (!entries.empty()) reactor_->schedule_at(&unfinished_, entries.front().until_ms);
}

void DownstreamHttp2::set_idle_timer() {
  begins_ = false;
  const uint64_t idle_ms = reactor_->limits().idle_timeout_ms;
  const bool leaves = client_leaves_ && link_.streams().size() == 0;
  // The timer is that of the notice.
  if (state_ == State::Open && is_leaving() && !leaves) return;
  reactor_->schedule(this, leaves ? std::min(idle_ms, kLeaveMs) : idle_ms);
}

void DownstreamHttp2::on_timer() {
  Counters& counters = reactor_->counters();
  switch (state_) {
    case State::Open:
      if (is_leaving()) return finish_drain();
      if (begins_) {
        counters.add(Counter::TimeoutsHeader);
      } else if (link_.streams().size() != 0) {
        // Each exchange has times of its own.
        return set_idle_timer();
      } else if (!client_leaves_) {
        counters.add(Counter::TimeoutsIdle);
      }
      link_.send_goaway(link_.last_peer_stream(), ErrorCode::kNoError, {});
      return finish_and_close();
    case State::Draining:
      return finish_drain();
    case State::Closing:
      counters.add(Counter::TimeoutsIdle);
      make_close_abortive();
      return abort();
    case State::Lingering:
    case State::Ending:
      return abort();
  }
}

int64_t DownstreamHttp2::idle_since_ms() const {
  const bool idle = state_ == State::Open && !begins_ && link_.streams().size() == 0;
  return idle ? Connection::idle_since_ms(reactor_->limits().idle_timeout_ms) : kNotIdle;
}

// What its client has sent meanwhile is above GOAWAY's last stream: RFC 9113 6.8 lets it be sent again.
bool DownstreamHttp2::close_if_idle() {
  if (has_unread()) return false;
  link_.send_goaway(link_.last_peer_stream(), ErrorCode::kNoError, {});
  finish_and_close();
  return true;
}

// RFC 9113 6.8: first a notice that refuses nothing; the true last id when the client must have heard it.
void DownstreamHttp2::on_drain() {
  if (state_ != State::Open) return;
  link_.send_goaway(http2::kMaxStreamId, ErrorCode::kNoError, {});
  link_.send_ping();
  reactor_->schedule(this, kDrainNoticeMs);
}

void DownstreamHttp2::on_ping_ack() {
  if (is_leaving() && state_ == State::Open) finish_drain();
}

void DownstreamHttp2::finish_drain() {
  if (state_ == State::Open) {
    state_ = State::Draining;
    link_.send_goaway(link_.last_peer_stream(), ErrorCode::kNoError, {});
  }
  if (link_.streams().size() == 0) return finish_and_close();
  set_idle_timer();
}

void DownstreamHttp2::finish_and_close() {
  if (state_ > State::Draining) return;
  state_ = State::Closing;
  end_streams(true);
  reactor_->schedule(this, reactor_->limits().stream_idle_timeout_ms);
  reactor_->flush_later(this);
}

// Closing a socket with unread input sends a reset, which can destroy what is still on its way: say FIN, and read a while.
void DownstreamHttp2::linger() {
  if (state_ != State::Lingering) {
    state_ = State::Lingering;
    finish_output();
    reactor_->schedule(this, kLingerMs);
  }
  for (int i = 0; i < reactor_->reads_per_turn(); i++) {
    const int64_t count = receive(reactor_->body_scratch(), reactor_->read_bytes());
    if (count == -1) return;
    if (count <= 0) return abort();
  }
  reactor_->resume_later(this);
}

// A hundred that each close a connection take a millisecond.
bool DownstreamHttp2::end_streams(bool by_us) {
  bool is_long = false;
  link_.streams().for_each([this, by_us, &is_long](Http2Stream* stream) {
    if (is_long) return;
    stream->local_ended = stream->remote_ended = true;
    on_stream_reset(stream, ErrorCode::kCancel, by_us);
    is_long = reactor_->turn_is_long();
  });
  if (!is_long || link_.streams().size() == 0) return true;
  reactor_->resume_later(this);
  return false;
}

void DownstreamHttp2::abort() {
  state_ = State::Ending;
  reactor_->cancel(this);
  reactor_->cancel(&unfinished_);
  if (!end_streams(false)) return;
  reactor_->counters().add(Counter::Http2ConnectionsOpen, -1);
  reactor_->close_downstream(this);
}

void DownstreamHttp2::on_engine_close() {
  reactor_->counters().add(Counter::Http2ConnectionsOpen, -1);
  reactor_->counters().add(Counter::Http2StreamsOpen, -static_cast<double>(link_.streams().size()));
  link_.streams().for_each([](Http2Stream* stream) {
    HttpExchange* exchange = static_cast<DownstreamHttp2Stream*>(stream)->exchange_.get();
    if (exchange != nullptr) exchange->on_engine_close();
  });
}

}  // namespace weft
