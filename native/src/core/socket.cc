// See socket.h. Only this file calls setsockopt.
#include "core/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

namespace weft {

namespace {

// SO_NETNS_COOKIE, which older headers lack.
constexpr int kNetnsCookie = 71;

bool set_option(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof(value)) == 0; }

int fail(int fd) {
  const int error = errno;
  close(fd);
  return -error;
}

bool set_transparent(int fd, int family) {
  return family == AF_INET6 ? set_option(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1) : set_option(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
}

// A killed or hung proxy leaves sockets behind, and connections then go direct: one that another host's proxy opened in a client's name
// must not have the ports of one that this proxy opened in the same client's name. So ports depend on the way; without the option (kernel
// before 6.3) they come from the namespace's whole range, as they do outside of a mesh namespace.
void set_port_range(int fd, uint32_t mark) {
  constexpr int kLocalPortRange = 51;  // IP_LOCAL_PORT_RANGE, which older headers lack
  constexpr int kInject = 25'999 << 16 | 20'000, kDeliver = 31'999 << 16 | 26'000;
  if (mark == kMarkValueInject || mark == kMarkValueDeliver) {
    set_option(fd, IPPROTO_IP, kLocalPortRange, mark == kMarkValueInject ? kInject : kDeliver);
  }
}

bool set_mark(int fd, uint32_t mark) { return mark == 0 || set_option(fd, SOL_SOCKET, SO_MARK, static_cast<int>(mark)); }

// -1: there is none.
int get_option(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof(value);
  return getsockopt(fd, level, name, &value, &length) == 0 ? value : -1;
}

// 0 for all where the kernel does not tell (before 5.14).
uint64_t network_namespace_of(int fd) {
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  return getsockopt(fd, SOL_SOCKET, kNetnsCookie, &cookie, &length) == 0 ? cookie : 0;
}

}  // namespace

bool is_mapped(const Address& address) {
  static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return memcmp(address.bytes.data(), kPrefix, sizeof(kPrefix)) == 0;
}

int open_stream_socket(int family) {
  const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd >= 0 ? fd : -errno;
}

int open_listener(const ListenOptions& options) {
  const int fd = open_stream_socket(is_mapped(options.at.address) ? AF_INET : AF_INET6);
  return fd < 0 ? fd : listen_on(fd, options);
}

int listen_on(int fd, const ListenOptions& options) {
  sockaddr_storage name;
  const socklen_t length = to_sockaddr(options.at.address, options.at.port, &name);
  // One port may then have an IPv4 and an IPv6 listener.
  if (name.ss_family == AF_INET6 && !set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) return fail(fd);
  if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) || !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return fail(fd);
  // Inherited by accepted sockets.
  if (!set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1)) return fail(fd);
  if (options.transparent && !set_transparent(fd, name.ss_family)) return fail(fd);
  if (!set_mark(fd, options.mark)) return fail(fd);
  if (bind(fd, reinterpret_cast<sockaddr*>(&name), length) != 0) return fail(fd);
  if (listen(fd, 4096) != 0) return fail(fd);
  return fd;
}

int check_listener(int fd, const Peer& at, int sibling) {
  if (get_option(fd, SOL_SOCKET, SO_ACCEPTCONN) != 1 || get_option(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP) return -EINVAL;
  Peer local;
  if (!local_peer(fd, &local) || !(local == at)) return -EADDRNOTAVAIL;
  if (network_namespace_of(fd) != network_namespace_of(sibling)) return -EXDEV;
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 ? 0 : -errno;
}

int open_connection(const ConnectOptions& options) {
  const int fd = open_stream_socket(is_mapped(options.to.address) ? AF_INET : AF_INET6);
  return fd < 0 ? fd : connect_from(fd, options);
}

int connect_from(int fd, const ConnectOptions& options) {
  sockaddr_storage name;
  const socklen_t length = to_sockaddr(options.to.address, options.to.port, &name);
  if (!set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) || !set_mark(fd, options.mark)) return fail(fd);
  if (options.bind_source) {
    if (is_mapped(options.source) != (name.ss_family == AF_INET)) {
      errno = EAFNOSUPPORT;
      return fail(fd);
    }
    sockaddr_storage source;
    const socklen_t source_length = to_sockaddr(options.source, 0, &source);
    // The port is chosen by connect(), which knows the whole tuple: so many per destination rather than per address.
    if (options.scope == nullptr) set_port_range(fd, options.mark);
    if (!set_transparent(fd, name.ss_family) || !set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)) return fail(fd);
    if (bind(fd, reinterpret_cast<sockaddr*>(&source), source_length) != 0) return fail(fd);
  }
  if (connect(fd, reinterpret_cast<sockaddr*>(&name), length) != 0 && errno != EINPROGRESS) return fail(fd);
  return fd;
}

bool local_peer(int fd, Peer* out) {
  sockaddr_storage name;
  socklen_t length = sizeof(name);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) return false;
  return address_of(reinterpret_cast<sockaddr*>(&name), &out->address, &out->port);
}

bool translated_peer(int fd, Peer* out) {
  Peer local;
  if (!local_peer(fd, &local)) return false;
  sockaddr_storage name;
  socklen_t length = sizeof(name);
  const bool v4 = is_mapped(local.address);
  if (getsockopt(fd, v4 ? SOL_IP : SOL_IPV6, v4 ? SO_ORIGINAL_DST : IP6T_SO_ORIGINAL_DST, &name, &length) != 0) return false;
  return address_of(reinterpret_cast<sockaddr*>(&name), &out->address, &out->port) && !(*out == local);
}

bool remote_peer(int fd, Peer* out) {
  sockaddr_storage name;
  socklen_t length = sizeof(name);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0) return false;
  return address_of(reinterpret_cast<sockaddr*>(&name), &out->address, &out->port);
}

int pending_error(int fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

bool has_input_or_end(int fd) {
  uint8_t byte;
  const ssize_t count = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return count >= 0 || (errno != EAGAIN && errno != EINTR);
}

int unacknowledged_bytes(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

bool is_torn_down(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof(info);
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_CLOSE;
}

void set_abortive_close(int fd) {
  const linger option = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option));
}

ssize_t send_bytes(int fd, const void* bytes, size_t count) { return syscall(SYS_sendto, fd, bytes, count, MSG_NOSIGNAL, nullptr, 0); }

ssize_t send_ranges(int fd, const msghdr& message) { return syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL); }

ssize_t receive_bytes(int fd, void* out, size_t capacity) { return syscall(SYS_recvfrom, fd, out, capacity, 0, nullptr, nullptr); }

}  // namespace weft
