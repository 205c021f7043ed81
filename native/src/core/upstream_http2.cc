// The upstream connection's life: connecting, taking streams, reading answers, ending.
#include "core/upstream_http2.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/reactor.h"

namespace weft {

namespace {
using http2::ErrorCode;

constexpr uint8_t kMaxInterim = 16;
// At most, before the peer's SETTINGS say what it takes, and after.
constexpr uint32_t kFirstStreams = 100;
constexpr uint32_t kMostStreams = 1000;
// Of one target, in one worker, beside those that take no more.
constexpr uint32_t kMaxConnections = 16;
constexpr uint32_t kMaxWaiters = 4096;
// What a peer that does not read may leave with us: above the first it gets no more streams; above the second, beside bodies, it is given
// up.
constexpr size_t kUnreadForStreams = 512 * 1024;
constexpr size_t kMaxUnread = 4 * 1024 * 1024;
}  // namespace

Acquired UpstreamHttp2::acquire(Reactor* reactor, HttpExchange* exchange, const UpstreamTarget& target, UpstreamStream** stream) {
  UpstreamPool& pool = reactor->pool();
  UpstreamPool::Group* group = pool.group(target);
  auto* connection = static_cast<UpstreamHttp2*>(group->newest);
  for (; connection != nullptr && connection->is_over(); connection = static_cast<UpstreamHttp2*>(group->newest))
    connection->give_up_over();
  // RFC 8441 3: not before the server has said that it takes them.
  const bool extended = exchange->tunnel == Tunnel::WebSocket;
  if (connection != nullptr && extended) {
    if (!connection->link_.has_settings()) return wait(reactor, group, exchange);
    if (!connection->link_.peer().enable_connect_protocol) return Acquired::Unsupported;
  }
  if (connection != nullptr) {
    if (connection->streams_opened_ != 0) reactor->counters().add(Counter::UpstreamReuses);
    *stream = connection->open_stream(exchange);
    return Acquired::Stream;
  }
  if (!may_dial(*group)) return wait(reactor, group, exchange);
  auto made = std::make_unique<UpstreamHttp2>(reactor, group);
  if (target.policy != nullptr && !takes_place(reactor, group, &made->counted_)) return wait_for_connection(reactor, group, exchange);
  reactor->counters().add(Counter::UpstreamConnects);
  made->is_connecting_ = true;
  if (!reactor->dial(made.get(), target.connect)) {
    pool.drop_if_unused(group);
    reactor->counters().add(Counter::UpstreamConnectFailures);
    return Acquired::Failed;
  }
  pool.opened(group);
  connection = made.release();
  connection->open_as(target);
  reactor->counters().add(Counter::UpstreamOpen);
  reactor->schedule(connection, connect_timeout_ms(reactor, target));
  connection->link_.start();
  if (extended) {
    connection->relist();
    return wait(reactor, group, exchange);
  }
  *stream = connection->open_stream(exchange);
  return Acquired::Stream;
}

Acquired UpstreamHttp2::wait(Reactor* reactor, UpstreamPool::Group* group, HttpExchange* exchange) {
  if (group->target.policy != nullptr) return wait_for_connection(reactor, group, exchange);
  if (group->waiters >= kMaxWaiters) {
    reactor->counters().add(Counter::UpstreamWaitOverflows);
    return Acquired::Full;
  }
  reactor->counters().add(Counter::UpstreamWaits);
  UpstreamPool::wait(group, exchange);
  return Acquired::Waiting;
}

bool UpstreamHttp2::may_dial(const UpstreamPool::Group& group) { return group.open - group.leaving < kMaxConnections; }

UpstreamHttp2::UpstreamHttp2(Reactor* reactor, UpstreamPool::Group* group)
    : Connection(reactor, -1, group->target.tenant),
      group_(group),
      link_(reactor, this, this, http2::Role::kClient),
      opened_ms_(reactor->ms_after(0)) {}

UpstreamHttp2::~UpstreamHttp2() {
  link_.streams().for_each([this](Http2Stream* stream) {
    link_.streams().remove(stream->id);
    delete static_cast<UpstreamHttp2Stream*>(stream);
  });
}

bool UpstreamHttp2::is_over() const { return duration_left_ms(reactor_, group_->target, opened_ms_) == 0; }

void UpstreamHttp2::give_up_over() {
  reactor_->counters().add(Counter::TimeoutsDuration);
  give_up();
}

void UpstreamHttp2::rest() { reactor_->schedule(this, resting_ms(reactor_, group_->target, opened_ms_)); }

size_t UpstreamHttp2::stream_limit() const {
  const ConnectionPolicy* policy = group_->target.policy.get();
  const size_t peers = peers_stream_limit();
  return policy != nullptr && policy->max_streams != 0 ? std::min<size_t>(peers, policy->max_streams) : peers;
}

size_t UpstreamHttp2::peers_stream_limit() const {
  return link_.has_settings() ? std::min(link_.peer().max_concurrent_streams, kMostStreams) : std::max(1u, group_->stream_limit);
}

void UpstreamHttp2::relist() {
  const bool wanted = !closing_ && link_.next_id() != 0 && link_.streams().size() < stream_limit() && output_.size() < kUnreadForStreams;
  if (wanted == listed_) return;
  listed_ = wanted;
  if (wanted) {
    reactor_->pool().put(group_, this);
    if (group_->first_waiter != nullptr) reactor_->resume_later(this);
  } else {
    reactor_->pool().remove(group_, this);
  }
}

void UpstreamHttp2::take_no_more() {
  if (std::exchange(closing_, true)) return;
  group_->leaving++;
  relist();
  if (group_->first_waiter != nullptr) reactor_->resume_later(this);
}

UpstreamHttp2Stream* UpstreamHttp2::open_stream(HttpExchange* exchange) {
  auto* stream = new UpstreamHttp2Stream(this, exchange);
  link_.open(stream, link_.next_id());
  streams_opened_++;
  group_->carried++;
  const ConnectionPolicy* policy = group_->target.policy.get();
  if (policy != nullptr && !may_take_more(*policy)) take_no_more();
  if (!is_connecting_) reactor_->cancel(this);
  relist();
  return stream;
}

bool UpstreamHttp2::may_take_more(const ConnectionPolicy& policy) const {
  if (policy.max_requests != 0 && streams_opened_ >= policy.max_requests) return false;
  ConnectionLimits& limits = reactor_->connection_limits();
  return !limits.is_wanted(*group_) || !limits.yields(group_);
}

void UpstreamHttp2::close_stream(UpstreamHttp2Stream* stream) {
  link_.close(stream, ErrorCode::kCancel);
  reactor_->retire(std::unique_ptr<Retired>(stream));
  relist();
  if (link_.streams().size() == 0 && !broken_) {
    if (!closing_ && !reactor_->still_wanted(group_)) give_up();
    if (closing_) {
      reactor_->flush_later(this);
    } else if (!is_connecting_) {
      rest();
    }
  }
}

void UpstreamHttp2::on_events(uint32_t events) {
  if (broken_) return;
  if (is_connecting_) {
    const Opening opening = continue_opening(events);
    if (opening == Opening::Waiting) return;
    if (opening == Opening::Failed) {
      reactor_->counters().add(Counter::UpstreamConnectFailures);
      return break_all(AttemptEnd::ConnectFailed);
    }
    // Over TLS it must have agreed to.
    if (tls_ != nullptr && tls_->alpn() != "h2") {
      reactor_->counters().add(Counter::UpstreamProtocolErrors);
      return break_all(AttemptEnd::ConnectFailed);
    }
    reactor_->cancel(this);
    // Without a stream it was dialled to hear whether it takes one: its SETTINGS are part of connecting.
    if (link_.streams().size() == 0) reactor_->schedule(this, connect_timeout_ms(reactor_, group_->target));
    if (!flush()) return break_all(AttemptEnd::Reset);
    reactor_->flush_later(this);
    // Their clients may have been held up till here.
    link_.streams().for_each([this](Http2Stream* stream) { on_stream_writable(stream); });
  }
  if ((events & EPOLLOUT) != 0 && !output_.empty()) {
    // What the peer said before it closed comes first.
    if (!flush()) output_.clear(), peer_finished_ = true;
    link_.send_pending();
    relist();
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) return;
  readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) peer_finished_ = true;
  read();
}

void UpstreamHttp2::on_resume() {
  if (!end_streams()) return;
  if (broken_) return close_now();
  link_.send_pending();
  // Each once: those that another connection must say something to wait on.
  const auto has_room = [this] { return listed_ || (!group_->is_limited && group_->newest == nullptr && may_dial(*group_)); };
  for (uint32_t left = group_->waiters; left != 0 && group_->first_waiter != nullptr && has_room(); left--) {
    auto* exchange = static_cast<HttpExchange*>(group_->first_waiter);
    UpstreamPool::stop_waiting(exchange);
    exchange->on_upstream_available();
    if (closed_) return;
  }
  read();
}

void UpstreamHttp2::read() {
  for (int turn = 0; (readable_ || link_.is_paused()) && !is_connecting_ && !broken_ && !closed_; turn++) {
    if (turn == reactor_->reads_per_turn()) return reactor_->resume_later(this);
    uint8_t* bytes = reactor_->read_scratch();
    const size_t have = link_.input().size();
    if (have != 0) memcpy(bytes, link_.input().data(), have);
    int64_t count = 0;
    if (readable_ && !link_.is_paused()) {
      count = receive(bytes + have, std::min(Reactor::kReadScratch - have, reactor_->read_bytes()));
      if (count == -1) return;
      if (count == 0 || count == -2) return break_all(AttemptEnd::Reset);
    }
    link_.input().clear();
    if (!link_.receive(bytes, have + static_cast<size_t>(count))) {
      reactor_->counters().add(Counter::UpstreamProtocolErrors);
      // The GOAWAY that says why.
      on_flush();
      return break_all(AttemptEnd::BadResponse);
    }
    if (link_.is_paused() && !broken_ && !closed_) return reactor_->resume_later(this);
  }
}

void UpstreamHttp2::on_flush() {
  ByteQueue& out = link_.output();
  if (broken_) return out.clear();
  if (!out.empty()) {
    const bool sent = write(out.data(), out.size());
    out.clear();
    if (!sent) {
      // It may have answered before it closed: that comes first.
      output_.clear();
      readable_ = peer_finished_ = true;
      return reactor_->resume_later(this);
    }
    if (output_.size() > kMaxUnread + reactor_->limits().max_buffered_bytes) {
      reactor_->counters().add(Counter::UpstreamProtocolErrors);
      return break_all(AttemptEnd::Reset);
    }
    relist();
    if (link_.can_send_pending()) reactor_->resume_later(this);
  }
  close_if_done();
}

void UpstreamHttp2::close_if_done() {
  if (closing_ && link_.streams().size() == 0 && !closed_) close_now();
}

void UpstreamHttp2::on_timer() {
  if (is_connecting_ || (link_.streams().size() == 0 && !link_.has_settings())) {
    reactor_->counters().add(Counter::TimeoutsConnect);
    return break_all(AttemptEnd::ConnectTimedOut);
  }
  if (link_.streams().size() != 0) return;
  if (is_over()) return give_up_over();
  reactor_->counters().add(Counter::TimeoutsUpstreamIdle);
  give_up();
}

void UpstreamHttp2::on_drain() { give_up(); }

int64_t UpstreamHttp2::idle_since_ms() const {
  const bool idle = !is_connecting_ && !closing_ && link_.streams().size() == 0;
  return idle ? Connection::idle_since_ms(idle_timeout_ms(reactor_, group_->target)) : kNotIdle;
}

bool UpstreamHttp2::close_if_idle() {
  give_up();
  return true;
}

void UpstreamHttp2::give_up() {
  if (closing_) return;
  take_no_more();
  link_.send_goaway(0, ErrorCode::kNoError, {});
}

// A limit below what is open already: the peer refuses what it does not want, and that is tried again.
void UpstreamHttp2::on_settings() {
  group_->stream_limit = std::min(link_.peer().max_concurrent_streams, kFirstStreams);
  relist();
  if (link_.streams().size() == 0 && !closing_) rest();
  if (group_->first_waiter != nullptr) reactor_->resume_later(this);
}

void UpstreamHttp2::on_goaway(uint32_t last_stream, ErrorCode) {
  reactor_->counters().add(Counter::Http2UpstreamGoaways);
  take_no_more();
  last_processed_ = std::min(last_processed_, last_stream);
  ending_ = true;
  end_streams();
  reactor_->flush_later(this);
}

void UpstreamHttp2::on_headers(Http2Stream* base, http2::HeaderBlock&& block, bool ends) {
  auto* stream = static_cast<UpstreamHttp2Stream*>(base);
  HttpExchange* exchange = stream->exchange_;
  if (exchange == nullptr) return;
  exchange->hear(stream);
  ClientStream* client = exchange->client();
  if (stream->head_received_) {
    // RFC 9113 8.5: a tunnel has no trailers.
    if (!ends || exchange->is_tunnel || http2::check_trailers(block) != http2::BlockError::kNone || stream->length_left > 0) {
      return link_.refuse(stream, ErrorCode::kProtocolError);
    }
    exchange->note_grpc_status(block);
    exchange->note_load(block);
    if (client->send_trailers(block)) answer_complete(stream);
    return;
  }
  http2::ResponseSummary summary;
  ResponseForm response;
  response.block = &block;
  response.summary = &summary;
  if (http2::check_response(block, &summary) != http2::BlockError::kNone ||
      (summary.is_interim() && (ends || stream->interim_++ >= kMaxInterim))) {
    return link_.refuse(stream, ErrorCode::kProtocolError);
  }
  if (summary.is_interim()) {
    exchange->on_interim(response);
    return;
  }
  const bool tunnel = exchange->opens_tunnel(response);
  const bool has_body = exchange->method != http1::Method::kHead && summary.status != 204 && summary.status != 304;
  if (summary.has_content_length && has_body && !tunnel) {
    stream->length_left = static_cast<int64_t>(summary.content_length);
    if (ends && stream->length_left != 0) return link_.refuse(stream, ErrorCode::kProtocolError);
  }
  exchange->note_load(response);
  if (exchange->declines(response)) return;
  if (!has_body) stream->length_left = 0;
  if (!client->begin_response(response, ends && !tunnel)) return link_.refuse(stream, ErrorCode::kInternalError);
  stream->head_received_ = true;
  exchange->on_response_begun(summary.status);
  if (ends) exchange->note_grpc_status(block);
  if (!client->send_payload(nullptr, 0, ends)) return;
  if (tunnel) exchange->open_tunnel();
  if (ends && !exchange->is_over()) answer_complete(stream);
}

void UpstreamHttp2::on_data(Http2Stream* base, const uint8_t* bytes, size_t size, bool ends) {
  auto* stream = static_cast<UpstreamHttp2Stream*>(base);
  HttpExchange* exchange = stream->exchange_;
  if (exchange == nullptr) return;
  if (!stream->head_received_) return link_.refuse(stream, ErrorCode::kProtocolError);
  if (!exchange->client()->send_payload(bytes, size, ends)) return;
  if (ends) return answer_complete(stream);
  stream->resume_response();
}

void UpstreamHttp2::answer_complete(UpstreamHttp2Stream* stream) {
  stream->complete_ = true;
  stream->exchange_->on_response_complete();
}

void UpstreamHttp2::on_stream_reset(Http2Stream* base, ErrorCode code, bool by_us) {
  auto* stream = static_cast<UpstreamHttp2Stream*>(base);
  Counters& counters = reactor_->counters();
  if (by_us) {
    counters.add(Counter::UpstreamProtocolErrors);
    return break_stream(stream, AttemptEnd::BadResponse);
  }
  counters.add(Counter::UpstreamResets);
  if (code == ErrorCode::kRefusedStream) counters.add(Counter::Http2UpstreamRefusals);
  break_stream(stream, code == ErrorCode::kRefusedStream ? AttemptEnd::Refused : AttemptEnd::Reset);
}

void UpstreamHttp2::break_stream(UpstreamHttp2Stream* stream, AttemptEnd end) {
  HttpExchange* exchange = stream->exchange_;
  if (exchange == nullptr || exchange->is_over()) return;
  // RFC 9113 6.8: these may be tried elsewhere.
  if (stream->id > last_processed_) end = AttemptEnd::Refused;
  exchange->hear(stream);
  if (stream->head_received_) {
    return exchange->on_response_broken(end == AttemptEnd::BadResponse ? Reason::UpstreamProtocol : Reason::UpstreamReset);
  }
  exchange->on_attempt_end(end);
}

void UpstreamHttp2::break_all(AttemptEnd end) {
  if (broken_ || closed_) return;
  take_no_more();
  broken_ = ending_ = true;
  end_ = end;
  reactor_->cancel(this);
  if (end == AttemptEnd::Reset && link_.streams().size() != 0) reactor_->counters().add(Counter::UpstreamResets);
  if (!link_.has_settings()) fail_waiters(end);
  if (end_streams()) close_now();
}

// A thousand that are each tried again, or answered, take milliseconds.
bool UpstreamHttp2::end_streams() {
  if (!std::exchange(ending_, false)) return true;
  link_.streams().for_each([this](Http2Stream* stream) {
    if (!broken_ && stream->id <= last_processed_) return;
    // Nothing more is said of those that hear of it in another turn.
    stream->local_ended = stream->remote_ended = true;
    if (ending_) return;
    break_stream(static_cast<UpstreamHttp2Stream*>(stream), end_);
    ending_ = reactor_->turn_is_long();
  });
  if (ending_) reactor_->resume_later(this);
  return !ending_;
}

// Those that wait for the SETTINGS of a connection hear of its end as its streams do; else they would dial again and again.
void UpstreamHttp2::fail_waiters(AttemptEnd end) {
  for (uint32_t left = group_->waiters; left != 0 && group_->first_waiter != nullptr; left--) {
    auto* exchange = static_cast<HttpExchange*>(group_->first_waiter);
    UpstreamPool::stop_waiting(exchange);
    if (exchange->tunnel == Tunnel::WebSocket) {
      exchange->on_attempt_end(end);
    } else {
      UpstreamPool::wait(group_, exchange);
    }
  }
}

void UpstreamHttp2::on_stream_writable(Http2Stream* base) {
  auto* stream = static_cast<UpstreamHttp2Stream*>(base);
  if (stream->exchange_ == nullptr) return;
  stream->exchange_->hear(stream);
  stream->exchange_->on_upstream_writable();
}

void UpstreamHttp2::close_now() {
  take_no_more();
  closed_ = true;
  reactor_->counters().add(Counter::UpstreamOpen, -1);
  counted_.drop();
  // Those that wait need another connection: the first of them dials it. Where there are limits they take their turn (ConnectionLimits).
  UpstreamPool::Group* group = group_;
  Reactor* reactor = reactor_;
  reactor->close(this);
  // The last one's place keeps the group until they are served; that of one of many is theirs.
  const bool is_last = group->open == 1;
  group->leaving--;
  if (!is_last) reactor->pool().closed(group);
  while (!group->is_limited && group->newest == nullptr && may_dial(*group) && group->first_waiter != nullptr) {
    auto* exchange = static_cast<HttpExchange*>(group->first_waiter);
    UpstreamPool::stop_waiting(exchange);
    exchange->on_upstream_available();
  }
  if (is_last) reactor->pool().closed(group);
}

}  // namespace weft
