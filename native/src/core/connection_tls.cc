// Input and output of connections that carry TLS: one recv and one send an event, records whole in memory. See connection.h.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "core/connection.h"
#include "core/reactor.h"
#include "core/sniff/proxy_protocol.h"
#include "core/socket.h"
#include "core/upstream_target.h"

namespace weft {

namespace {

// Of one read while the handshake goes on: the largest flight with certificates is far below.
constexpr size_t kHandshakeRead = 32 * 1024;
// What records add to `capacity` bytes of content: a little more than one record's worth lies over otherwise.
constexpr size_t kRecordSlack = 1024;

}  // namespace

// Empties the wire's output into the socket, behind what waits in `unsent`, and what was held back.
bool Connection::send_wire(ByteQueue* unsent) {
  TlsWire& wire = reactor_->tls_wire();
  if (ByteQueue& held = tls_->output_left; &held != unsent && !held.empty()) {
    memmove(wire.output.get() + held.size(), wire.output.get(), wire.output_size);
    memcpy(wire.output.get(), held.data(), held.size());
    wire.output_size += held.size();
    held.consume(held.size());
  }
  const size_t size = wire.output_size;
  wire.output_size = 0;
  size_t taken = 0;
  if (size != 0 && unsent->empty()) {
    const ssize_t sent = send_bytes(fd_, wire.output.get(), size);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
    taken = sent < 0 ? 0 : static_cast<size_t>(sent);
  }
  unsent->append(wire.output.get() + taken, size - taken);
  return true;
}

bool Connection::write_tls(const void* first, size_t first_count, const void* second, size_t second_count) {
  TlsWire& wire = reactor_->tls_wire();
  wire.output_size = 0;
  if (first_count + second_count <= TlsSession::kMaxWrite) {
    if (!tls_->write(&wire, first, first_count, second, second_count)) return false;
    if (ends_with_write_) tls_->close_notify(&wire);
    return send_wire(&output_);
  }
  for (const auto& [bytes, count] : {std::pair{first, first_count}, std::pair{second, second_count}}) {
    for (size_t done = 0; done < count;) {
      const size_t part = std::min(count - done, TlsSession::kMaxWrite);
      if (!tls_->write(&wire, static_cast<const uint8_t*>(bytes) + done, part, nullptr, 0) || !send_wire(&output_)) return false;
      done += part;
    }
  }
  return true;
}

int64_t Connection::receive_tls(uint8_t* out, size_t capacity) {
  TlsWire& wire = reactor_->tls_wire();
  tls_->load_left_input(&wire);
  size_t got = 0;
  int64_t result = -1;
  bool may_have_more = readable_;
  bool fetched = false;
  bool is_cut_short = false;
  while (got < capacity && !is_cut_short) {
    // Asked in vain OpenSSL takes a record's buffer and gives it back.
    const int64_t count = tls_->is_dry(wire) ? TlsSession::kWantsInput : tls_->read(&wire, out + got, capacity - got);
    if (count > 0) {
      got += static_cast<size_t>(count);
      // A record costs a microsecond even if it holds a byte: 11,000 of these come with one read.
      is_cut_short = reactor_->turn_is_long();
      continue;
    }
    result = count;
    if (count != TlsSession::kWantsInput || !may_have_more || (fetched && got != 0)) break;
    const size_t room = std::min(capacity + kRecordSlack, TlsWire::kBytes);
    const ssize_t size = receive_bytes(fd_, wire.input_memory.get(), room);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) {
      may_have_more = false;
      break;
    }
    if (size <= 0) {
      if (size == 0) tls_->mark_truncated();
      result = -2;
      break;
    }
    fetched = true;
    // A short read has emptied the socket; the end that follows gives its own event, unless it has come already.
    if (static_cast<size_t>(size) < room && !peer_finished_) may_have_more = false;
    wire.input = wire.input_memory.get();
    wire.input_size = static_cast<size_t>(size);
  }
  tls_->input_left.append(wire.input, wire.input_size);
  // Alerts and key updates. A broken socket shows itself with the next write.
  if (wire.output_size != 0 && !send_wire(&output_)) result = -2;
  const bool at_end = result == 0 || result == -2;
  // An end or a failure is reported again by the next call.
  readable_ = may_have_more || at_end || is_cut_short || got == capacity;
  if (got != 0) return static_cast<int64_t>(got);
  if (result == -2) reactor_->note_tls_failure(*this);
  return result;
}

Opening Connection::continue_opening(uint32_t events) {
  if (handshake_at_ == HandshakeAt::Loop && (tls_ == nullptr || !tls_->handshake_begun)) {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) return Opening::Waiting;
    if ((events & (EPOLLERR | EPOLLHUP)) != 0 && pending_error(fd_) != 0) return Opening::Failed;
    if (tls_ == nullptr) {
      is_connecting_ = false;
      return Opening::Done;
    }
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) peer_finished_ = true;
  return continue_handshake();
}

void Connection::open_as(const UpstreamTarget& target) {
  if (target.tls != nullptr) begin_tls(*target.tls, target.connect.to);
  // To where the handshake's output goes, if there is one.
  if (target.proxied.as != ProxyAnnouncement::kNone) announce(target.proxied);
}

void Connection::announce(const ProxiedClient& client) {
  uint8_t header[kProxyHeaderCapacity];
  const ProxyVersion version = client.as == ProxyAnnouncement::kV1 ? ProxyVersion::kV1 : ProxyVersion::kV2;
  const size_t size = write_proxy_header(version, client.source, client.destination, header);
  (tls_ != nullptr ? tls_->output_left : output_).append(header, size);
}

Opening Connection::continue_handshake() {
  if (handshake_at_ != HandshakeAt::Loop) return Opening::Waiting;
  TlsWire& wire = reactor_->tls_wire();
  tls_->handshake_begun = true;
  while (!tls_->output_left.empty()) {
    const ssize_t sent = send_bytes(fd_, tls_->output_left.data(), tls_->output_left.size());
    if (sent < 0) {
      if (errno == EAGAIN || errno == EINTR) return Opening::Waiting;
      return Opening::Failed;
    }
    tls_->output_left.consume(static_cast<size_t>(sent));
  }
  tls_->load_left_input(&wire);
  auto step = TlsSession::Step::WantsInput;
  bool holds_tickets = false;
  for (;;) {
    if (wire.input_size != 0 || !tls_->awaits_input()) {
      if (!tls_->is_handshake_over() && reactor_->shakes_aside()) {
        tls_->input_left.append(wire.input, wire.input_size);
        reactor_->shake_aside(this);
        return Opening::Waiting;
      }
      // By the clock that the turn is charged by: the thread's own costs a system call a look.
      const uint64_t before_ns = reactor_->options().clock_ns();
      step = tls_->handshake(&wire);
      reactor_->counters().add(Counter::TlsHandshakeCpuUs, static_cast<double>(reactor_->options().clock_ns() - before_ns) / 1e3);
      // Tickets need not come before the answer to what the client has asked already: one send less.
      holds_tickets = step == TlsSession::Step::Done && wire.input_size != 0 && tls_->may_hold_output(wire);
      if (holds_tickets) {
        tls_->output_left.append(wire.output.get(), wire.output_size);
      } else if (!send_wire(&tls_->output_left)) {
        return Opening::Failed;
      }
    }
    if (step != TlsSession::Step::WantsInput || !readable_) break;
    const ssize_t size = receive_bytes(fd_, wire.input_memory.get(), kHandshakeRead);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == EAGAIN) {
      readable_ = false;
      break;
    }
    if (size <= 0) {
      tls_->mark_truncated();
      step = TlsSession::Step::Failed;
      break;
    }
    if (static_cast<size_t>(size) < kHandshakeRead && !peer_finished_) readable_ = false;
    wire.input = wire.input_memory.get();
    wire.input_size = static_cast<size_t>(size);
  }
  if (step == TlsSession::Step::Failed) {
    reactor_->note_tls_failure(*this);
    return Opening::Failed;
  }
  if (step == TlsSession::Step::WantsInput) return Opening::Waiting;
  tls_->input_left.append(wire.input, wire.input_size);
  if (!tls_->input_left.empty() || tls_->has_pending()) readable_ = true;
  reactor_->counters().add(tls_->is_resumed() ? Counter::TlsHandshakesResumed : Counter::TlsHandshakesFull);
  // From here output_ is ciphertext: first what the handshake still owes, then what was written meanwhile.
  is_connecting_ = false;
  const ByteQueue plain = std::move(output_);
  if (!holds_tickets) output_ = std::move(tls_->output_left);
  if (!plain.empty() && !write_tls(plain.data(), plain.size(), nullptr, 0)) return Opening::Failed;
  return Opening::Done;
}

void Connection::begin_tls(const EndpointTls& tls, const Peer& peer) {
  char key[sizeof(peer.address.bytes) + sizeof(peer.port)];
  memcpy(key, peer.address.bytes.data(), sizeof(peer.address.bytes));
  memcpy(key + sizeof(peer.address.bytes), &peer.port, sizeof(peer.port));
  tls_ = TlsSession::connect(tls, {key, sizeof(key)});
}

void Connection::say_goodbye() {
  if (tls_ == nullptr || closes_abortively_ || !tls_->is_established() || !output_.empty()) return;
  TlsWire& wire = reactor_->tls_wire();
  wire.output_size = 0;
  tls_->close_notify(&wire);
  send_wire(&output_);
}

void Connection::finish_output() {
  say_goodbye();
  // The socket may have had no room for that either: behind a FIN it would be an error.
  finishes_output_ = !output_.empty();
  if (!finishes_output_) shutdown(fd_, SHUT_WR);
}

void Connection::make_close_abortive() {
  closes_abortively_ = true;
  set_abortive_close(fd_);
}

}  // namespace weft
