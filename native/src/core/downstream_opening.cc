// See downstream_opening.h. Everything before the handshake is peeked at and left in the socket, so that who comes next finds it whole.
#include "core/downstream_opening.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>

#include "core/downstream_http1.h"
#include "core/downstream_http2.h"
#include "core/opaque.h"
#include "core/reactor.h"
#include "core/sniff/client_hello.h"
#include "core/sniff/protocol.h"
#include "core/sniff/proxy_protocol.h"
#include "core/tls/tls_context.h"

namespace weft {

namespace {
bool is_http(Protocol protocol) {
  return protocol != Protocol::kOpaque && protocol != Protocol::kDetect && protocol != Protocol::kDetectFirst;
}

Counter counter_of(FirstBytes first) {
  switch (first) {
    case FirstBytes::kHttp1:
      return Counter::DetectedHttp1;
    case FirstBytes::kHttp2:
      return Counter::DetectedHttp2;
    case FirstBytes::kTls:
      return Counter::DetectedTls;
    case FirstBytes::kUndecided:
    case FirstBytes::kOpaque:
      break;
  }
  return Counter::DetectedOpaque;
}

// Of a header that is not taken; what is incomplete had ended.
const char* refusal_of(ProxyStatus status) {
  if (status == ProxyStatus::kAbsent) return "absent";
  if (status == ProxyStatus::kInvalid) return "malformed";
  return status == ProxyStatus::kTooLong ? "too-long" : "truncated";
}
}  // namespace

void DownstreamOpening::accept(Reactor* reactor, int fd, const DownstreamOrigin& origin, const OpeningPlan& plan) {
  auto* connection = new DownstreamOpening(reactor, fd, origin, plan);
  reactor->adopt(connection);
  if (plan.proxy_protocol) return connection->begin_stage(Stage::ProxyHeader);
  connection->after_proxy_header();
}

void DownstreamOpening::begin_stage(Stage stage) {
  stage_ = stage;
  const bool first = stage == Stage::Detection || stage == Stage::TlsOrPlain;
  reactor_->schedule(this, first ? first_bytes_ms() : reactor_->limits().header_timeout_ms);
}

// A client that stays silent may wait for a server that speaks first, and is given little; one of HTTP may connect long before it asks.
uint64_t DownstreamOpening::first_bytes_ms() const {
  constexpr uint64_t kSilenceMs = 100;
  const uint32_t detect_ms = reactor_->limits().detect_timeout_ms;
  if (is_http(plan_.protocol)) return idle_timeout_ms();
  return detect_ms != 0 ? detect_ms : kSilenceMs;
}

bool DownstreamOpening::may_idle() const {
  return !awaits_head_ && (stage_ == Stage::Detection || stage_ == Stage::TlsOrPlain) && is_http(plan_.protocol);
}

void DownstreamOpening::await_head() {
  if (is_http(plan_.protocol) && !std::exchange(awaits_head_, true)) reactor_->schedule(this, reactor_->limits().header_timeout_ms);
}

void DownstreamOpening::on_drain() {
  if (may_idle()) reactor_->schedule(this, idle_timeout_ms());
}

int64_t DownstreamOpening::idle_since_ms() const {
  return may_idle() ? Connection::idle_since_ms(reactor_->limits().idle_timeout_ms) : kNotIdle;
}

bool DownstreamOpening::close_if_idle() {
  if (has_unread()) return false;
  refuse();
  return true;
}

void DownstreamOpening::after_proxy_header() {
  if (plan_.tls == nullptr) return after_tls();
  switch (plan_.tls->mode) {
    case TlsMode::kPassthrough:
    case TlsMode::kByServerName:
      return begin_stage(Stage::PassingHello);
    case TlsMode::kPermissive:
      return begin_stage(Stage::TlsOrPlain);
    case TlsMode::kTerminate:
      return begin_stage(Stage::Handshake);
  }
}

void DownstreamOpening::after_tls() {
  const bool may_dial = plan_.protocol == Protocol::kDetect && tls_ == nullptr;
  if (!may_dial && plan_.protocol != Protocol::kOpaque && plan_.protocol != Protocol::kHttp1 && plan_.protocol != Protocol::kHttp2)
    return begin_stage(Stage::Detection);
  start_protocol(plan_.protocol);
}

void DownstreamOpening::on_events(uint32_t events) {
  if ((events & EPOLLERR) != 0) return refuse();
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0) readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0) peer_finished_ = true;
  proceed();
}

void DownstreamOpening::on_resume() { proceed(); }

void DownstreamOpening::proceed() {
  const Handle self = handle_;
  // Each stage returns whether another may follow at once.
  for (bool more = true; more && reactor_->find(self) != nullptr;) {
    switch (stage_) {
      case Stage::ProxyHeader:
        more = read_proxy_header();
        break;
      case Stage::TlsOrPlain:
        more = choose_tls_or_plain();
        break;
      case Stage::PassingHello:
        more = read_passing_hello();
        break;
      case Stage::Handshake:
        more = shake_hands();
        break;
      case Stage::Detection:
        more = detect();
        break;
    }
  }
}

size_t DownstreamOpening::peek(size_t most) {
  const ssize_t count = recv(fd_, reactor_->read_scratch(), most, MSG_PEEK);
  if (count > 0) return static_cast<size_t>(count);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  refuse();
  return 0;
}

bool DownstreamOpening::read_proxy_header() {
  const size_t size = peek(kMaxProxyHeaderV2);
  if (size == 0) return false;
  ProxyHeader header;
  const ProxyStatus status = parse_proxy_header(reactor_->read_scratch(), size, &header);
  if (status == ProxyStatus::kIncomplete && !peer_finished_ && size < kMaxProxyHeaderV2) return false;
  if (status != ProxyStatus::kComplete || recv(fd_, reactor_->read_scratch(), header.size, 0) != static_cast<ssize_t>(header.size)) {
    reactor_->note_refused_proxy_header(*this, refusal_of(status));
    refuse();
    return false;
  }
  if (!header.is_local) origin_.client = header.source;
  after_proxy_header();
  return true;
}

bool DownstreamOpening::choose_tls_or_plain() {
  const size_t size = peek(kFirstBytesNeeded);
  if (size == 0) return false;
  const FirstBytes first = detect_protocol(reactor_->read_scratch(), size);
  if (first == FirstBytes::kTls) {
    begin_stage(Stage::Handshake);
    return true;
  }
  // Only a handshake record's first bytes are worth waiting for.
  if (reactor_->read_scratch()[0] == 22 && first == FirstBytes::kUndecided && !peer_finished_) return await_head(), false;
  after_tls();
  return true;
}

bool DownstreamOpening::read_passing_hello() {
  const size_t size = peek(ClientHello::kMaxBytes + 1024);
  if (size == 0) return false;
  ClientHello hello;
  const SniffStatus status = sniff_client_hello(reactor_->read_scratch(), size, &hello);
  if (status == SniffStatus::kIncomplete && !peer_finished_ && size < ClientHello::kMaxBytes + 1024) return false;
  if (status != SniffStatus::kComplete) {
    reactor_->note_tls_failure(*this, TlsFailure::NotTls, "");
    refuse();
    return false;
  }
  // What was only peeked at is there for the handshake.
  if (plan_.tls != nullptr && plan_.tls->mode == TlsMode::kByServerName && !plan_.tls->context->passes(hello.name())) {
    begin_stage(Stage::Handshake);
    return true;
  }
  ClientSecurity security;
  security.server_name = hello.name();
  origin_.security = Shared(std::move(security));
  start_protocol(Protocol::kOpaque);
  return false;
}

bool DownstreamOpening::shake_hands() {
  if (tls_ == nullptr && handshake_at_ == HandshakeAt::Loop) {
    tls_ = TlsSession::accept(plan_.tls->context);
  }
  const Opening opening = continue_handshake();
  if (opening == Opening::Waiting) return false;
  if (opening == Opening::Failed) {
    // The alert is on its way; a FIN lets it arrive.
    make_last_words();
    return false;
  }
  ClientSecurity security;
  security.terminated = true;
  security.server_name = tls_->server_name();
  security.identity = tls_->peer_identity();
  security.tls_version = tls_->version_number();
  security.has_certificate = tls_->has_verified_peer();
  security.certificate_name = tls_->peer_name();
  if (origin_.listener->forwarding.tells_certificate()) security.certificate_line = tls_->forwarded_certificate_line();
  origin_.security = Shared(std::move(security));
  // What was negotiated needs no guess.
  if (plan_.protocol != Protocol::kOpaque && tls_->alpn() == "h2") plan_.protocol = Protocol::kHttp2;
  if (plan_.protocol != Protocol::kOpaque && tls_->alpn() == "http/1.1") plan_.protocol = Protocol::kHttp1;
  after_tls();
  return true;
}

bool DownstreamOpening::detect() {
  // Within TLS nothing can be peeked at: what is not negotiated there is HTTP.
  if (tls_ != nullptr) {
    start_protocol(Protocol::kHttp1);
    return false;
  }
  const size_t size = peek(kFirstBytesNeeded);
  if (size == 0) return false;
  const FirstBytes first = detect_protocol(reactor_->read_scratch(), size);
  // Where it is HTTP in any case, what can't become HTTP/2 is HTTP/1, whose timer its head has.
  const bool may_become_another = plan_.protocol != Protocol::kHttp || begins_as_http2(reactor_->read_scratch(), size);
  if (first == FirstBytes::kUndecided && may_become_another && !peer_finished_) return await_head(), false;
  if (plan_.protocol == Protocol::kDetectFirst) reactor_->counters().add(counter_of(first));
  if (first == FirstBytes::kTls && plan_.protocol == Protocol::kDetectFirst) {
    begin_stage(Stage::PassingHello);
    return true;
  }
  // HTTP that is malformed from its first bytes on is the HTTP/1 parser's to refuse.
  const Protocol other = plan_.protocol == Protocol::kHttp ? Protocol::kHttp1 : Protocol::kOpaque;
  start_protocol(first == FirstBytes::kHttp2 ? Protocol::kHttp2 : first == FirstBytes::kHttp1 ? Protocol::kHttp1 : other);
  return false;
}

void DownstreamOpening::start_protocol(Protocol protocol) {
  const DownstreamOrigin origin = origin_;
  if (protocol == Protocol::kOpaque) {
    OpaqueDownstream::take_over(reactor_, this, origin, false);
  } else if (protocol == Protocol::kDetect) {
    OpaqueDownstream::take_over(reactor_, this, origin, true);
  } else if (protocol == Protocol::kHttp2) {
    DownstreamHttp2::take_over(reactor_, this, origin);
  } else {
    DownstreamHttp1::take_over(reactor_, this, origin);
  }
}

void DownstreamOpening::on_timer() {
  switch (stage_) {
    case Stage::Detection:
    case Stage::TlsOrPlain:
      if (!is_http(plan_.protocol)) {
        if (plan_.protocol == Protocol::kDetectFirst) reactor_->counters().add(Counter::TimeoutsDetect);
        return start_protocol(Protocol::kOpaque);
      }
      if (awaits_head_ || !is_leaving()) reactor_->counters().add(awaits_head_ ? Counter::TimeoutsHeader : Counter::TimeoutsIdle);
      return refuse();
    case Stage::Handshake:
      if (tls_ != nullptr) tls_->set_failure(TlsFailure::TimedOut, "the handshake took too long");
      reactor_->note_tls_failure(*this);
      reactor_->counters().add(Counter::TimeoutsHeader);
      return refuse();
    case Stage::ProxyHeader:
      reactor_->note_refused_proxy_header(*this, "timed-out");
      [[fallthrough]];
    case Stage::PassingHello:
      reactor_->counters().add(Counter::TimeoutsHeader);
      return refuse();
  }
}

void DownstreamOpening::make_last_words() {
  shutdown(fd_, SHUT_WR);
  // Unread input would turn the close into a reset that may overtake the alert.
  for (int i = 0; i < 4 && recv(fd_, reactor_->read_scratch(), Reactor::kReadScratch, 0) > 0; i++) {
  }
  reactor_->close_downstream(this);
}

void DownstreamOpening::refuse() { reactor_->close_downstream(this); }

}  // namespace weft
