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

// What the kernel does not take of it (its bounds are 32,767 s and 127 probes) is its own.
static void set_keepalive(int fd, const KeepaliveOptions& keepalive) {
  if ((keepalive.time_s | keepalive.interval_s | keepalive.probes) == 0) return;
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (keepalive.time_s != 0) set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, static_cast<int>(keepalive.time_s));
  if (keepalive.interval_s != 0) set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, static_cast<int>(keepalive.interval_s));
  if (keepalive.probes != 0) set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, static_cast<int>(keepalive.probes));
}

int connect_from(int fd, const ConnectOptions& options) {
  sockaddr_storage name;
  const socklen_t length = to_sockaddr(options.to.address, options.to.port, &name);
  if (!set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) || !set_mark(fd, options.mark)) return fail(fd);
  set_keepalive(fd, options.keepalive);
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

namespace {

// A datagram's own destination, or source.
union PacketInfo {
  cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(in6_pktinfo))];
};

template <typename Info>
Info* add_info(msghdr* header, PacketInfo* control, int level, int type) {
  header->msg_control = control->bytes;
  header->msg_controllen = CMSG_SPACE(sizeof(Info));
  cmsghdr* item = CMSG_FIRSTHDR(header);
  item->cmsg_level = level;
  item->cmsg_type = type;
  item->cmsg_len = CMSG_LEN(sizeof(Info));
  return reinterpret_cast<Info*>(CMSG_DATA(item));
}

constexpr size_t kMappedPrefix = 12;

}  // namespace

int open_datagram_listener(const Peer& at, uint32_t mark) {
  sockaddr_storage name;
  const socklen_t length = to_sockaddr(at.address, at.port, &name);
  const bool v6 = name.ss_family == AF_INET6;
  const int fd = socket(name.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (v6 && !set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) return fail(fd);
  if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) || !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return fail(fd);
  if (!(v6 ? set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) : set_option(fd, IPPROTO_IP, IP_PKTINFO, 1))) return fail(fd);
  if (!set_transparent(fd, name.ss_family) || !set_mark(fd, mark)) return fail(fd);
  return bind(fd, reinterpret_cast<sockaddr*>(&name), length) == 0 ? fd : fail(fd);
}

ssize_t receive_datagram(int fd, uint8_t* out, size_t capacity, Peer* from, Peer* to) {
  iovec range = {out, capacity};
  sockaddr_storage name;
  PacketInfo control;
  msghdr header = {};
  header.msg_name = &name;
  header.msg_namelen = sizeof(name);
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof(control.bytes);
  const ssize_t size = recvmsg(fd, &header, MSG_TRUNC);
  if (size < 0) return size;
  const cmsghdr* item = CMSG_FIRSTHDR(&header);
  if (!address_of(reinterpret_cast<sockaddr*>(&name), &from->address, &from->port) || item == nullptr || !local_peer(fd, to)) {
    errno = EPROTO;
    return -1;
  }
  if (item->cmsg_level == IPPROTO_IPV6) {
    memcpy(to->address.bytes.data(), &reinterpret_cast<const in6_pktinfo*>(CMSG_DATA(item))->ipi6_addr, sizeof(in6_addr));
  } else {
    memcpy(to->address.bytes.data() + kMappedPrefix, &reinterpret_cast<const in_pktinfo*>(CMSG_DATA(item))->ipi_addr, sizeof(in_addr));
  }
  return size;
}

bool send_datagram(int fd, const uint8_t* bytes, size_t size, const Peer& to, const Address& from) {
  iovec range = {const_cast<uint8_t*>(bytes), size};
  sockaddr_storage name;
  PacketInfo control = {};
  msghdr header = {};
  header.msg_name = &name;
  header.msg_namelen = to_sockaddr(to.address, to.port, &name);
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  if (is_mapped(from)) {
    memcpy(&add_info<in_pktinfo>(&header, &control, IPPROTO_IP, IP_PKTINFO)->ipi_spec_dst, from.bytes.data() + kMappedPrefix,
           sizeof(in_addr));
  } else {
    memcpy(&add_info<in6_pktinfo>(&header, &control, IPPROTO_IPV6, IPV6_PKTINFO)->ipi6_addr, from.bytes.data(), sizeof(in6_addr));
  }
  return sendmsg(fd, &header, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

bool forward_datagram(const uint8_t* bytes, size_t size, const Peer& from, const Peer& to, uint32_t mark) {
  sockaddr_storage source, destination;
  const socklen_t source_length = to_sockaddr(from.address, from.port, &source);
  const socklen_t length = to_sockaddr(to.address, to.port, &destination);
  const int fd = socket(source.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  // Shared: another worker may be passing on a query of the same client's socket.
  const bool is_sent =
      set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) && set_transparent(fd, source.ss_family) && set_mark(fd, mark) &&
      bind(fd, reinterpret_cast<sockaddr*>(&source), source_length) == 0 &&
      sendto(fd, bytes, size, MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&destination), length) == static_cast<ssize_t>(size);
  const int error = errno;
  close(fd);
  errno = error;
  return is_sent;
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
