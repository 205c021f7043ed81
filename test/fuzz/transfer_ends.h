// The two ends of the transfer fuzz target: HTTP/1 and HTTP/2 clients and servers that keep the rules and check every byte. A body is
// named by its exchange, so that each end knows at any moment what must come next. Decides nothing about the schedule.
#pragma once

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/http2/frame.h"
#include "core/http2/hpack_decoder.h"
#include "core/http2/hpack_encoder.h"
#include "core/tls/tls_context.h"
#include "core/tls/tls_session.h"
#include "http1_fuzz.h"

namespace weft::fuzz {

/// What is asked and answered, and how it went.
struct Transfer {
  uint32_t id = 0;
  uint32_t up_size = 0;
  uint32_t down_size = 0;
  /// Choices of form: of the request (up) and of the answer (down).
  uint8_t up = 0;
  uint8_t down = 0;
  bool is_head = false;
  /// Somebody did something that may cost this exchange its answer.
  bool spoiled = false;
  bool over = false;
};

inline std::string body_of(const Transfer& exchange, bool down, size_t at, size_t count) {
  std::string bytes(count, 0);
  for (size_t i = 0; i < count; i++, at++)
    bytes[i] = static_cast<char>(exchange.id * 31 + (down ? 101 : 0) + at * 7 + (at >> 8) * 13 + (at >> 16));
  return bytes;
}

/// Compares one body as it comes.
struct Checked {
  size_t at = 0;
  void add(const Transfer& exchange, bool down, std::string_view bytes) {
    require(at + bytes.size() <= (down ? exchange.down_size : exchange.up_size), "no body is longer than what was sent");
    require(body_of(exchange, down, at, bytes.size()) == bytes, "a body's bytes arrive as they were sent");
    at += bytes.size();
  }
};

/// A socket, with TLS or without, that sends and hears as little at a time as it is told to.
class Wire {
 public:
  explicit Wire(int fd, const EndpointTls* tls = nullptr) : fd_(fd), tls_(tls == nullptr ? nullptr : TlsSession::connect(*tls, "")) {
    // What is said is heard in the next turn: Nagle's algorithm would keep it while anything before it is not acknowledged, which takes 40
    // ms.
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (tls_ != nullptr) around([&] { tls_->handshake(&crypto()); });
  }
  Wire(const Wire&) = delete;
  ~Wire() { close(); }

  std::string out;
  /// Ends our side once `out` is sent.
  bool finishes = false;
  /// The peer ended in order; the peer is gone otherwise.
  bool ended = false;
  bool broken = false;

  bool is_idle() const { return out.empty() && sealed_.empty() && (!finishes || finished_); }
  bool finished() const { return finished_; }

  void push(size_t most) {
    if (tls_ != nullptr && tls_->is_established() && !out.empty() && sealed_.size() < 65536) {
      const size_t count = std::min(most, std::min<size_t>(out.size(), 16384));
      around([&] { tls_->write(&crypto(), out.data(), count, nullptr, 0); });
      out.erase(0, count);
    }
    std::string& from = tls_ != nullptr ? sealed_ : out;
    if (!from.empty()) {
      const ssize_t count = ::send(fd_, from.data(), std::min(most, from.size()), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count > 0) from.erase(0, static_cast<size_t>(count));
      if (count < 0 && errno != EAGAIN) from.clear(), out.clear(), broken = true;
    }
    if (!finishes || finished_ || !out.empty() || !sealed_.empty()) return;
    finished_ = true;
    if (tls_ != nullptr) around([&] { tls_->close_notify(&crypto()); });
    if (!sealed_.empty()) (void)!::send(fd_, sealed_.data(), sealed_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    sealed_.clear();
    shutdown(fd_, SHUT_WR);
  }

  std::string pull(size_t most) {
    static char bytes[65536];
    const ssize_t count = recv(fd_, bytes, std::min(most, sizeof(bytes)), MSG_DONTWAIT);
    if (count < 0 && errno != EAGAIN) broken = true;
    const bool end = count == 0;
    std::string got;
    if (tls_ == nullptr) {
      if (count > 0) got.assign(bytes, static_cast<size_t>(count));
      ended = ended || end;
      return got;
    }
    if (count > 0) opaque_.append(bytes, static_cast<size_t>(count));
    if (!tls_->is_established()) {
      around([&] { require(tls_->handshake(&crypto()) != TlsSession::Step::Failed, "the handshake succeeds"); });
    }
    while (tls_->is_established()) {
      int64_t read = 0;
      around([&] { read = tls_->read(&crypto(), reinterpret_cast<uint8_t*>(bytes), sizeof(bytes)); });
      if (read > 0) got.append(bytes, static_cast<size_t>(read));
      if (read == TlsSession::kEnd) ended = true;
      if (read == TlsSession::kFailed) broken = true;
      if (read <= 0) break;
    }
    // An end without close_notify is a truncation.
    if (end && !ended) broken = true;
    return got;
  }

  void reset() {
    const linger option = {1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &option, sizeof(option));
    close();
  }

 private:
  // Sockets that don't linger in TIME_WAIT: millions of them are opened.
  void close() {
    if (fd_ < 0) return;
    const linger option = {1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &option, sizeof(option));
    ::close(fd_);
    fd_ = -1;
    broken = true;
  }
  static TlsWire& crypto() {
    static TlsWire wire;
    return wire;
  }
  template <typename Do>
  void around(Do act) {
    const std::string taken = std::move(opaque_);
    crypto().input = reinterpret_cast<const uint8_t*>(taken.data());
    crypto().input_size = taken.size();
    crypto().output_size = 0;
    act();
    opaque_ = taken.substr(taken.size() - crypto().input_size);
    sealed_.append(reinterpret_cast<const char*>(crypto().output.get()), crypto().output_size);
  }

  int fd_;
  std::unique_ptr<TlsSession> tls_;
  std::string sealed_;
  std::string opaque_;
  bool finished_ = false;
};

/// What an end tells the world.
struct EndEvents {
  /// By the id that stands in a request or an answer; null: nobody asked it.
  std::function<Transfer*(uint32_t)> find;
  /// The client has its answer: status, and bytes of the body; `status` 0: it was told that none comes.
  std::function<void(Transfer*, int status, size_t bytes)> on_outcome;
};

/// One end of a connection. After turns of its Wire: take() what came.
class End {
 public:
  End(int fd, const EndEvents& events, const EndpointTls* tls = nullptr) : wire(fd, tls), events_(events) {}
  virtual ~End() = default;

  Wire wire;
  /// Its exchanges are spoiled, now and later: the connection was treated badly.
  bool tainted = false;

  virtual void ask(Transfer* exchange) { (void)exchange; }
  virtual bool may_ask() const { return false; }
  /// HTTP/2: our windows grow for what came, and by `more`.
  virtual void open_windows(uint32_t more) { (void)more; }
  /// HTTP/2: those of our windows that are used up to the last byte grow.
  virtual void refill(uint32_t by) { (void)by; }
  /// HTTP/2: resets one stream, if it has one.
  virtual bool reset_one(uint8_t which) { return (void)which, false; }
  virtual void refuse_more() {}
  /// Exchanges that are under way on it.
  virtual std::vector<Transfer*> open() const = 0;

  void push(size_t most) {
    fill();
    wire.push(most);
  }
  void pull(size_t most) {
    if (told_end_) return;
    const std::string bytes = wire.pull(most);
    if (!bytes.empty()) on_bytes(bytes);
    if (!wire.ended && !wire.broken) return;
    told_end_ = true;
    on_end(!wire.broken);
  }
  bool is_over() const { return told_end_; }

 protected:
  virtual void fill() {}
  virtual void on_bytes(std::string_view bytes) = 0;
  virtual void on_end(bool in_order) = 0;

  const EndEvents& events_;
  bool told_end_ = false;
};

}  // namespace weft::fuzz
