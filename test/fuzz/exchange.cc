// Whole exchanges: a reactor over loopback sockets, with clients and upstreams of HTTP/1 and HTTP/2 that say, hear and end what the input
// tells them, in the order the input tells them. Whatever they do: memory and undefined behaviour are clean, nothing hangs, every decision
// is accounted for once, and whatever was taken is given back. What the bytes on the wire mean is for transfer.cc,
// native/test/smuggling_test.cc and test/soak.
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <set>
#include <vector>

#include "http1_fuzz.h"
#include "http2_loopback.h"

using namespace weft;

namespace {

constexpr size_t kClients = 3;
constexpr size_t kUpstreams = 6;
constexpr size_t kSteps = 96;
/// At the end: within as many turns where the kernel delivers resets at once; on a busy machine it is late, and the turns after them wait.
constexpr int kQuickTurns = 200;
constexpr int kLastTurns = kQuickTurns + 5'000;

/// The engine's clock stands still at the end, so that no timeout can clear away what the ends of its peers did not. 0: it goes.
uint64_t stopped_ns = 0;
uint64_t clock_ns() { return stopped_ns != 0 ? stopped_ns : monotonic_ns(); }

/// What is left of the input; zero when it is used up.
class Script {
 public:
  Script(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool done() const { return at_ >= size_; }
  uint8_t byte() { return at_ < size_ ? data_[at_++] : 0; }
  std::string text(size_t count) {
    count = std::min(count, size_ - std::min(at_, size_));
    std::string taken(reinterpret_cast<const char*>(data_) + at_, count);
    at_ += count;
    return taken;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

/// Pieces of messages that make sense together, so that random orders of them get far.
const std::string& client_piece(uint8_t which, size_t client) {
  static const std::string large(40'000, 'L');
  static std::vector<std::vector<std::string>> pieces;
  if (pieces.empty()) {
    for (size_t i = 0; i < kClients; i++) {
      const std::string host = "Host: a.test\r\nX-Client: " + std::to_string(i) + "\r\n";
      pieces.push_back({
          "GET / HTTP/1.1\r\n" + host + "\r\n",
          "HEAD / HTTP/1.1\r\n" + host + "\r\n",
          "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello",
          "POST / HTTP/1.1\r\n" + host + "Content-Length: 40000\r\n\r\n",
          large,
          "PUT / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n",
          "5\r\nhello\r\n",
          "0\r\n\r\n",
          "0\r\nX-T: 1\r\n\r\n",
          "GET / HTTP/1.0\r\n\r\n",
          "GET / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
          "POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
          "hello",
          "GET / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n",
          "GET / HT",
          "TP/1.1\r\n" + host + "\r\n",
      });
    }
  }
  return pieces[client][which % pieces[client].size()];
}

const std::string& upstream_piece(uint8_t which) {
  static const std::vector<std::string> pieces = {
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
      "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
      std::string(50'000, 'U'),
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
      "3\r\nabc\r\n",
      "0\r\n\r\n",
      "HTTP/1.1 200 OK\r\n\r\nuntil close",
      "HTTP/1.1 100 Continue\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
      "HTTP/1.1 204 No Content\r\n\r\n",
      "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
      "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
      "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 2",
      "00 OK\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
  };
  return pieces[which % pieces.size()];
}

std::string headers(uint32_t stream, bool ends, std::string_view block) {
  const uint8_t flags = http2::kFlagEndHeaders | (ends ? http2::kFlagEndStream : 0);
  uint8_t head[http2::kFrameHeaderBytes];
  http2::write_frame_header(static_cast<uint32_t>(block.size()), http2::FrameType::kHeaders, flags, stream, head);
  return std::string(reinterpret_cast<char*>(head), sizeof(head)) + std::string(block);
}

// Blocks without the dynamic table, so that any order of them is right.
std::string client_frames(uint8_t which) {
  using test::Peer2;
  const uint32_t stream = 1 + 2 * (which / 16 % 4);
  const std::string end =
      "\x86\x84\x01\x06"
      "a.test";
  switch (which % 16) {
    case 0:
      return headers(stream, true, "\x82" + end);
    case 1:
      return headers(stream, false, "\x83" + end);
    case 2:
      return Peer2::data(stream, "hello", false);
    case 3:
      return Peer2::data(stream, "x", true);
    case 4:
      return Peer2::data(stream, std::string(16'000, 'L'), false);
    case 5:
      return Peer2::reset(stream, http2::ErrorCode::kCancel);
    case 6:
      return Peer2::window(0, 65'535) + Peer2::window(stream, 65'535);
    case 7:
      return Peer2::settings({{http2::SettingId::kInitialWindowSize, stream == 1 ? 0 : stream * 10'000}});
    case 8:
      return headers(stream, true,
                     std::string_view("\0\3x-t\1"
                                      "1",
                                      7));
    case 9:
      return headers(stream, false,
                     std::string("\x02\x07"
                                 "CONNECT\0\x09:protocol\x09websocket",
                                 29) +
                         end);
    case 10:
      return headers(stream, false,
                     "\x83" + end +
                         "\x0f\x10\x10"
                         "application/grpc");
    case 11:
      return headers(stream, false,
                     "\x83" + end +
                         "\x0f\x10\x19"
                         "application/grpc-web-text");
    case 12:
      return Peer2::data(stream, "AAAAAAA=", false);
    case 13:
      return headers(stream, false,
                     "\x83" + end +
                         "\x0f\x14\x0c"
                         "100-continue");
    case 14:
      return Peer2::goaway(0);
    default:
      return headers(stream, true,
                     "\x02\x04"
                     "HEAD" +
                         end);
  }
}

std::string upstream_frames(uint8_t which) {
  using test::Peer2;
  const uint32_t stream = 1 + 2 * (which / 16 % 4);
  switch (which % 16) {
    case 0:
      return headers(stream, false, "\x88");
    case 1:
      return headers(stream, true, "\x88");
    case 2:
      return Peer2::data(stream, "abc", false);
    case 3:
      return Peer2::data(stream, "end", true);
    case 4:
      return Peer2::data(stream, std::string(16'000, 'U'), false);
    case 5:
      return Peer2::reset(stream, http2::ErrorCode::kRefusedStream);
    case 6:
      return Peer2::reset(stream, http2::ErrorCode::kInternalError);
    case 7:
      return Peer2::settings({{http2::SettingId::kInitialWindowSize, (stream - 1) * 10'000}});
    case 8:
      return Peer2::window(0, 65'535) + Peer2::window(stream, 65'535);
    case 9:
      return Peer2::settings({{http2::SettingId::kMaxConcurrentStreams, stream / 2}, {http2::SettingId::kEnableConnectProtocol, 1}});
    case 10:
      return Peer2::goaway(stream - 1);
    case 11:
      return headers(stream, false,
                     "\x08\x03"
                     "100");
    case 12:
      return headers(stream, true,
                     std::string_view("\0\x0bgrpc-status\1"
                                      "0",
                                      15));
    case 13:
      return headers(stream, false,
                     "\x88\x0f\x10\x10"
                     "application/grpc");
    case 14:
      return headers(stream, true,
                     "\x08\x03"
                     "503");
    default:
      return Peer2::settings({{http2::SettingId::kHeaderTableSize, stream == 1 ? 0u : 4'096u}});
  }
}

struct Ledger {
  uint64_t completed = 0;
  /// Decisions for an endpoint, and their ends.
  uint64_t decided = 0;
  uint64_t ended = 0;
};

/// Sockets that don't linger in TIME_WAIT: millions of them are opened.
void end(int* fd) {
  if (*fd < 0) return;
  const linger option = {1, 0};
  setsockopt(*fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option));
  close(*fd);
  *fd = -1;
}

class World {
 public:
  explicit World(Script* script) : script_(script), bench_(limits(), clock_ns) {
    choice_ = script->byte();
    bench_.decide = [this](int32_t attempt) { return counted(decision(attempt)); };
    RetrySpec retry;
    retry.statuses = {200, 503};
    retry.connect_failure = retry.refused = retry.reset = retry.any_method = true;
    bench_.retries = {retry};
    bench_.has_http2_endpoint = true;
    bench_.reload(true);
    detect_port_ = bench_.listen(3, Protocol::kDetect);
    http2_port_ = bench_.listen(4, Protocol::kHttp2);
    bench_.on_completions = [this](int32_t count) {
      const auto* all = reinterpret_cast<const Completion*>(bench_.reactor->batch().memory() + Batch::layout().completions);
      for (int32_t i = 0; i < count; i++) {
        ledger_.completed += all[i].kind == CompletionKind::Ended ? 1 : 0;
        ledger_.ended += all[i].kind != CompletionKind::Settled && all[i].target >= 0 ? 1 : 0;
        if (all[i].target == kTargetDeferred) forget(all[i].token);
      }
    };
    fcntl(bench_.upstream_listener, F_SETFL, O_NONBLOCK);
  }

  void run() {
    for (size_t step = 0; step < kSteps && !script_->done(); step++) {
      act();
      turn();
    }
    // Everybody leaves; what is left must be accounted for without any timeout.
    stopped_ns = monotonic_ns();
    for (int& fd : clients_) end(&fd);
    for (int& fd : upstreams_) end(&fd);
    for (int i = 0; i < kLastTurns && bench_.reactor->open_downstream() != 0; i++) {
      turn(i < kQuickTurns ? 0 : 1);
      for (int& fd : upstreams_) end(&fd);
    }
    fuzz::require(bench_.reactor->open_downstream() == 0, "no client connection outlives its client");
    bench_.reactor->close();
    for (const int32_t left : bench_.outstanding) fuzz::require(left == 0, "outstanding is given back exactly once");
    fuzz::require(bench_.counter(Counter::DownstreamOpen) == 0, "downstream_open returns to 0");
    for (const Counter open : {Counter::OpaqueOpen, Counter::DeferredOpen, Counter::Http2ConnectionsOpen, Counter::Http2StreamsOpen})
      fuzz::require(bench_.counter(open) == 0, "what is open returns to 0");
    for (size_t i = 0; i + 2 < std::size(bench_.connection_counts); i++)
      fuzz::require(bench_.connection_counts[i] == 0, "limited connections, and who waits for them, return to 0");
    const auto exchanges = static_cast<uint64_t>(bench_.counter(Counter::Requests) + bench_.counter(Counter::OpaqueConnections));
    fuzz::require(ledger_.completed <= exchanges, "at most one completion an exchange");
    fuzz::require(ledger_.ended == ledger_.decided, "every decision for an endpoint ends once");
    fuzz::require(waiting_.empty(), "everything that was put off comes again, or its end is told");
    bench_.reactor.reset();
    for (size_t tenant = 0; tenant < kMaxTenants; tenant++)
      for (const TenantWord word : {TenantWord::Connections, TenantWord::Requests, TenantWord::BufferedBytes})
        fuzz::require(bench_.tenants[tenant * TenantAccounts::kWords + static_cast<size_t>(word)] == 0, "what a tenant has returns to 0");
  }

 private:
  static EngineLimits limits() {
    EngineLimits limits;
    limits.max_buffered_bytes = 4096;
    limits.max_head_bytes = 2048;
    limits.header_timeout_ms = 40;
    limits.idle_timeout_ms = limits.stream_idle_timeout_ms = 60;
    limits.connect_timeout_ms = 50;
    limits.tcp_idle_timeout_ms = 80;
    limits.detect_timeout_ms = 20;
    return limits;
  }

  Decision counted(const Decision& decision) {
    ledger_.decided += decision.target >= 0 ? 1 : 0;
    return decision;
  }

  /// Filters: of requests and answers, of heads and bodies. Whatever they are asked ends once.
  void forget(int32_t token) { fuzz::require(waiting_.erase(token) == 1, "nothing that was put off ends twice"); }

  Decision put_off() {
    Decision decision = test::Bench::to(kTargetDeferred, kExtended);
    int32_t place = 0;
    while (std::any_of(waiting_.begin(), waiting_.end(), [&](int32_t token) { return (token & 0xffff) == place; })) place++;
    decision.token = (uses_++ & 0x7fff) << Deferrals::kPlaceBits | place;
    if (choice_ % 32 == 7) decision.attempt_timeout_ms = 20;
    waiting_.insert(decision.token);
    return decision;
  }

  Decision of_answer(bool is_answered) {
    if (!is_answered && choice_ % 4 != 0) return put_off();
    return test::Bench::to(choice_ % 16 < 3 ? -403 : kTargetOriginal);
  }

  /// What a filter may do to what waits.
  void answer(uint8_t detail) {
    if (waiting_.empty()) return;
    const int32_t token = *std::next(waiting_.begin(), detail % static_cast<int>(waiting_.size()));
    std::string error, text;
    if (HttpExchange* exchange = bench_.reactor->deferred(token)) {
      if (exchange->body_bytes(&text) && detail % 3 == 0) exchange->set_body(text + "more", &error);
      if (detail % 5 == 0) exchange->change_head("=x-new: n\n:path: /b\n", detail % 2 == 0, &error);
      if (detail % 5 == 1) exchange->change_head("-x-client\n:status: 404\n", false, &error);
      if (detail % 7 == 0) exchange->set_reply("=x-a: b\n", "reply", -1, &error);
    }
    uint8_t* memory = bench_.reactor->batch().memory();
    int32_t& count = reinterpret_cast<int32_t*>(memory + Batch::layout().header)[static_cast<int32_t>(HeaderWord::AnsweredCount)];
    reinterpret_cast<int32_t*>(memory + Batch::layout().answered)[count++] = token;
  }

  Decision decision(int32_t attempt) {
    const int32_t flags = bench_.word(Descriptor::Flags);
    const bool is_answered = (flags & kDescriptorAnswered) != 0;
    // A stream of HTTP/2 may be reset while it stands in the batch: then it has ended already, and whatever is decided is for nobody.
    const bool may_have_ended = bench_.word(Descriptor::Kind) == static_cast<int32_t>(StreamKind::Http2);
    if (is_answered && (!may_have_ended || waiting_.contains(bench_.word(Descriptor::PreviousToken))))
      forget(bench_.word(Descriptor::PreviousToken));
    if ((flags & kDescriptorHeldAnswer) != 0) return of_answer(is_answered);
    const uint8_t kind = static_cast<uint8_t>(choice_ + attempt);
    // Nobody puts mirrors off.
    if (choice_ >= 128 && attempt == 0 && !is_answered && (flags & (kDescriptorTentative | kDescriptorMirror)) == 0) {
      const bool may_collect = (flags & kDescriptorHasBody) != 0 && (flags & (kDescriptorBodyHeld | kDescriptorBodyTooLong)) == 0;
      if (!may_collect || choice_ % 2 == 0) return put_off();
      Decision collect = test::Bench::to(kTargetCollect, kExtended);
      collect.body_bytes = 4 + (choice_ & 4) * 1000;
      return collect;
    }
    Decision decision = test::Bench::to(0, kRetry);
    if (kind % 16 == 1 || kind % 16 == 6 || kind % 16 == 12 || kind % 16 == 13) decision.target = 3;
    if (kind % 16 == 15 && (flags & kDescriptorMirror) == 0) {
      decision.flags |= kExtended;
      decision.mirrors = 0;
      decision.mirror_mask = 1;
    }
    if (kind % 32 == 14) {
      decision.flags |= kExtended;
      decision.delay_ms = 5;
    }
    if (kind % 16 == 3) decision.target = 1;
    if (kind % 16 == 7) decision.target = -404;
    if (kind % 16 == 9) decision.target = kTargetUndecided;
    if (kind % 16 == 11) decision.target = 2;
    if (kind % 32 == 5) decision.attempt_timeout_ms = 20;
    if (kind % 32 == 6) decision.timeout_ms = 30;
    if (kind % 4 >= 2) {
      decision.flags |= kExtended;
      decision.answer_filters = 1;
      decision.body_bytes = kind % 4 == 3 ? 8 : 0;
    }
    if (kind % 8 == 2 || kind % 8 == 4) {
      decision.flags |= kExtended;
      decision.hedge_ms = 1 + kind % 16;
      decision.retry = kind % 8 == 4 ? 0 : -1;
      if (kind % 32 == 20) decision.attempt_timeout_ms = 20;
    }
    return decision;
  }

  void set_policy(uint8_t detail) {
    ConnectionPolicy policy;
    if (detail % 4 < 2) policy.max_connections = 1 + detail % 4;
    policy.max_pending = detail / 4 % 4;
    policy.max_requests = detail / 16 % 4;
    policy.max_streams = detail / 8 % 3;
    policy.max_duration_ms = detail / 64 % 4 * 20;
    bench_.connection_policy = policy;
  }

  void turn(int wait_ms = 0) {
    bench_.reactor->run_once(wait_ms);
    for (int& fd : upstreams_) {
      if (fd >= 0 || (fd = accept4(bench_.upstream_listener, nullptr, nullptr, SOCK_NONBLOCK)) < 0) continue;
      test::send_at_once(fd);
    }
  }

  void say(int fd, const std::string& text) {
    if (fd >= 0) (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void say_near(size_t client, uint8_t detail) {
    int& near = clients_[client];
    if (near < 0) {
      near_http2_[client] = detail % 8 == 5 && detail >= 64;
      near = test::Peer1::dial(near_http2_[client] ? http2_port_
                               : detail % 8 == 7   ? bench_.opaque_port
                               : detail % 8 == 6   ? detect_port_
                                                   : bench_.port);
      test::send_at_once(near);
      if (near_http2_[client]) say(near, std::string(http2::kClientPreface) + test::Peer2::settings({}));
    }
    say(near, near_http2_[client] ? client_frames(detail) : client_piece(detail, client));
  }

  /// In the protocol that it was asked in.
  void say_far(int fd, uint8_t detail) {
    if (fd >= 0 && !far_http2_.contains(fd)) {
      char first[3] = {};
      if (recv(fd, first, sizeof(first), MSG_PEEK | MSG_DONTWAIT) == sizeof(first)) far_http2_[fd] = memcmp(first, "PRI", 3) == 0;
      if (far_http2_.contains(fd) && far_http2_[fd]) say(fd, test::Peer2::settings({}));
    }
    const bool is_http2 = far_http2_.contains(fd) && far_http2_[fd];
    say(fd, is_http2 ? upstream_frames(detail) : upstream_piece(detail));
  }

  void hear(int fd, size_t most) {
    static char bytes[65536];
    if (fd >= 0) (void)recv(fd, bytes, std::min(most, sizeof(bytes)), MSG_DONTWAIT);
  }

  void act() {
    const uint8_t verb = script_->byte();
    const uint8_t detail = script_->byte();
    const size_t client = (verb >> 4) % kClients;
    int& near = clients_[client];
    int& far = upstreams_[(verb >> 4) % kUpstreams];
    switch (verb & 15) {
      case 0:
      case 1:
        return say_near(client, detail);
      case 2:
      case 3:
        return say_far(far, detail);
      case 4:
        return say(near, script_->text(detail % 48));
      case 5:
        return say(far, script_->text(detail % 48));
      case 6:
        return hear(near, detail * 256u);
      case 7:
        return hear(far, detail * 256u);
      case 8:
        if (near >= 0) shutdown(near, SHUT_WR);
        return;
      case 9:
        if (far >= 0) shutdown(far, SHUT_WR);
        return;
      case 10:
        return end(&near);
      case 11:
        far_http2_.erase(far);
        return end(&far);
      case 12:
        choice_ = detail;
        return;
      case 13:
        if (detail < 16) usleep(20'000);
        if (detail >= 64) answer(detail);
        return;
      case 14:
        if (detail < 32) bench_.reactor->drain(0);
        if (detail >= 128) set_policy(detail);
        return bench_.reload((detail & 1) != 0);
      case 15:
        // Silent.
        if (detail >= 192 && near < 0) near = test::Peer1::dial(detect_port_);
        [[fallthrough]];
      default:
        for (int i = 0; i < detail % 8; i++) turn();
        return;
    }
  }

  Script* script_;
  test::Bench bench_;
  uint16_t detect_port_ = 0;
  uint16_t http2_port_ = 0;
  Ledger ledger_;
  uint8_t choice_ = 0;
  /// Tokens.
  std::set<int32_t> waiting_;
  int32_t uses_ = 0;
  int clients_[kClients] = {-1, -1, -1};
  bool near_http2_[kClients] = {};
  /// Of upstreams' sockets that were asked something.
  std::map<int, bool> far_http2_;
  int upstreams_[kUpstreams] = {-1, -1, -1, -1, -1, -1};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool once = signal(SIGPIPE, SIG_IGN) != SIG_ERR;
  (void)once;
  stopped_ns = 0;
  Script script(data, size);
  World(&script).run();
  return 0;
}
