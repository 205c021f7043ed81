// Whole exchanges: a reactor over loopback sockets, with clients and upstreams that say, hear and end what the input tells them, in the
// order the input tells them. Whatever they do: memory and undefined behaviour are clean, nothing hangs, and every decision is accounted
// for once. What the bytes on the wire mean is for transfer.cc, native/test/smuggling_test.cc and test/soak.
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <set>
#include <vector>

#include "http1_fuzz.h"
#include "loopback.h"

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
    bench_.reload(true);
    detect_port_ = bench_.listen(3, Protocol::kDetect);
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
    fuzz::require(bench_.counter(Counter::OpaqueOpen) == 0, "opaque_open returns to 0");
    const auto exchanges = static_cast<uint64_t>(bench_.counter(Counter::Requests) + bench_.counter(Counter::OpaqueConnections));
    fuzz::require(ledger_.completed <= exchanges, "at most one completion an exchange");
    fuzz::require(ledger_.ended == ledger_.decided, "every decision for an endpoint ends once");
    fuzz::require(waiting_.empty(), "everything that was put off comes again, or its end is told");
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
    if (is_answered) forget(bench_.word(Descriptor::PreviousToken));
    if ((flags & kDescriptorHeldAnswer) != 0) return of_answer(is_answered);
    const uint8_t kind = static_cast<uint8_t>(choice_ + attempt);
    if (choice_ >= 128 && attempt == 0 && !is_answered && (flags & kDescriptorTentative) == 0) {
      const bool may_collect = (flags & kDescriptorHasBody) != 0 && (flags & (kDescriptorBodyHeld | kDescriptorBodyTooLong)) == 0;
      if (!may_collect || choice_ % 2 == 0) return put_off();
      Decision collect = test::Bench::to(kTargetCollect, kExtended);
      collect.body_bytes = 4 + (choice_ & 4) * 1000;
      return collect;
    }
    Decision decision = test::Bench::to(0, kRetry);
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

  void turn(int wait_ms = 0) {
    bench_.reactor->run_once(wait_ms);
    for (int& fd : upstreams_) {
      if (fd < 0) fd = accept4(bench_.upstream_listener, nullptr, nullptr, SOCK_NONBLOCK);
    }
  }

  void say(int fd, const std::string& text) {
    if (fd >= 0) (void)::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
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
        if (near < 0) near = test::Peer1::dial((detail & 7) == 7 ? bench_.opaque_port : (detail & 7) == 6 ? detect_port_ : bench_.port);
        return say(near, client_piece(detail, client));
      case 2:
      case 3:
        return say(far, upstream_piece(detail));
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
  Ledger ledger_;
  uint8_t choice_ = 0;
  /// Tokens.
  std::set<int32_t> waiting_;
  int32_t uses_ = 0;
  int clients_[kClients] = {-1, -1, -1};
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
