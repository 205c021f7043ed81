// Sockets as the engine wants them: non-blocking, close-on-exec, TCP_NODELAY, with the marks and transparency of research "redirection".
// Thin over the system calls: returns descriptors or errno, keeps no state.
#pragma once
#include <cstdint>
#include <memory>

#include "core/tables/tables.h"

namespace weft {

// SO_MARK values inside the mesh network namespace; bpf/ gives them their meaning.
inline constexpr uint32_t kMarkValueDeliver = 1;
inline constexpr uint32_t kMarkValueInject = 2;

// See namespace_sockets.h.
class SocketScope;
using SharedScope = std::shared_ptr<SocketScope>;

struct Peer {
  Address address;
  uint16_t port = 0;
  bool operator==(const Peer&) const = default;
};

// Whether the address is ::ffff:a.b.c.d.
bool is_mapped(const Address& address);

struct ListenOptions {
  Peer at;
  // Captured traffic: accepts connections to any address.
  bool transparent = false;
  // 0: none. Accepted sockets and SYN-ACKs inherit it.
  uint32_t mark = 0;
};
// A new TCP socket in the thread's own namespace, or -errno.
int open_stream_socket(int family);
// The descriptor, or -errno.
int open_listener(const ListenOptions& options);
// The same with a socket of another namespace, which is closed when it fails.
int listen_on(int fd, const ListenOptions& options);
// Whether `fd`, which another process opened, is what listen_on() would make of `sibling`, a socket of the namespace where it should be: 0,
// or -errno (EINVAL: it does not listen; EADDRNOTAVAIL: on another address; EXDEV: in another network namespace).
int check_listener(int fd, const Peer& at, int sibling);

// Seconds and a count; 0: the kernel's own. All 0: no probes.
struct KeepaliveOptions {
  uint32_t time_s = 0;
  uint32_t interval_s = 0;
  uint32_t probes = 0;
};
struct ConnectOptions {
  Peer to;
  // Source address to borrow (IP_TRANSPARENT); used when `bind_source`.
  Address source;
  bool bind_source = false;
  uint32_t mark = 0;
  KeepaliveOptions keepalive;
  // Null: the thread's own namespace.
  SharedScope scope;
};
// Starts connecting, in the thread's own namespace; the descriptor, or -errno.
int open_connection(const ConnectOptions& options);
// The same with a socket of `options.scope`, which is closed when it fails.
int connect_from(int fd, const ConnectOptions& options);

// A transparent UDP socket that takes what is sent to that port of any address, or -errno.
int open_datagram_listener(const Peer& at, uint32_t mark);
// `to`: whom it was sent to. The whole size, larger than `capacity` where it did not fit; -1 with errno.
ssize_t receive_datagram(int fd, uint8_t* out, size_t capacity, Peer* from, Peer* to);
// From that address and the socket's port; false with errno.
bool send_datagram(int fd, const uint8_t* bytes, size_t size, const Peer& to, const Address& from);
// As if `from` had sent it; false with errno.
bool forward_datagram(const uint8_t* bytes, size_t size, const Peer& from, const Peer& to, uint32_t mark);

// For a connection that the redirection programs captured this is the original destination.
bool local_peer(int fd, Peer* out);
// Of a connection that address translation captured (SO_ORIGINAL_DST). False where nothing was translated.
bool translated_peer(int fd, Peer* out);
bool remote_peer(int fd, Peer* out);
// SO_ERROR; 0 if connected.
int pending_error(int fd);
// Bytes, the peer's end or an error wait to be read.
bool has_input_or_end(int fd);
// Sent or to be sent, and not acknowledged by the peer; 0 where that is not known.
int unacknowledged_bytes(int fd);
// Its peer has reset it: nothing more arrives there, and its event may have come long ago.
bool is_torn_down(int fd);
// close() then sends RST and drops what is unsent.
void set_abortive_close(int fd);

// send(2), sendmsg(2) and recv(2) past glibc's cancellation points, which cost 2 % of a request and serve pthread_cancel(): none of our
// threads is cancelled. Never SIGPIPE.
ssize_t send_bytes(int fd, const void* bytes, size_t count);
ssize_t send_ranges(int fd, const struct msghdr& message);
ssize_t receive_bytes(int fd, void* out, size_t capacity);

}  // namespace weft
