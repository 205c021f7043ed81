// See host_process.h.
#include "bpf/host_process.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "bpf/attachments.h"
#include "bpf/netlink.h"
#include "bpf/skeleton.h"
#include "weft_capture.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace weft::bpf {
namespace {

struct Hook {
  const char* name;
  bpf_program* program;
  bpf_attach_type type;
};

std::array<Hook, 5> hooks(const weft_capture& skeleton) {
  const auto& programs = skeleton.progs;
  return {{{"host_connect4", programs.host_connect4, BPF_CGROUP_INET4_CONNECT},
           {"host_connect6", programs.host_connect6, BPF_CGROUP_INET6_CONNECT},
           {"host_getpeername4", programs.host_getpeername4, BPF_CGROUP_INET4_GETPEERNAME},
           {"host_getpeername6", programs.host_getpeername6, BPF_CGROUP_INET6_GETPEERNAME},
           {"host_sockops", programs.host_sockops, BPF_CGROUP_SOCK_OPS}}};
}

Outcome open_cgroup(const std::string& path, Descriptor& result) {
  result = Descriptor(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!result) return failure(errno, "cannot open the cgroup " + path);
  struct statfs info;
  if (fstatfs(result.get(), &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC) return {};
  return failure(EINVAL, path + " is not a cgroup of version 2, the only one that has BPF hooks");
}

// The address that a packet to anywhere would carry. Empty: no route.
std::string outward_address(NetlinkSocket& netlink, uint8_t family, const char* anywhere) {
  NetlinkMessage message(RTM_GETROUTE, 0);
  rtmsg route{};
  uint8_t address[16];
  const size_t length = family == AF_INET ? 4 : 16;
  route.rtm_family = family;
  route.rtm_dst_len = static_cast<uint8_t>(length * 8);
  message.header(route);
  inet_pton(family, anywhere, address);
  message.attribute(RTA_DST, address, length);
  std::string result;
  netlink.exchange(message, [&](const nlmsghdr* answer) {
    const rtattr* source = NetlinkAttributes::of(answer, sizeof(rtmsg)).find(RTA_PREFSRC);
    char text[INET6_ADDRSTRLEN];
    if (source == nullptr || RTA_PAYLOAD(source) != length) return;
    const bool is_local = family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(static_cast<const in6_addr*>(RTA_DATA(source)));
    if (!is_local && inet_ntop(family, RTA_DATA(source), text, sizeof text) != nullptr) result = text;
  });
  return result;
}

}  // namespace

Outcome inspect_cgroup(const std::string& path, const std::string& host, HostProcess& result) {
  Descriptor cgroup, outside;
  WEFT_TRY(open_cgroup(path, cgroup));
  WEFT_TRY(open_namespace(host, outside));
  struct stat info;
  if (fstat(cgroup.get(), &info) != 0) return failure(errno, "cannot look at the cgroup " + path);
  // kernfs: the inode's number is the cgroup's id.
  result.cgroup_id = info.st_ino;
  result.key = WEFT_HOST_KEY | static_cast<uint32_t>(info.st_ino);
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(outside.get()));
  // Documentation prefixes (RFC 5737, RFC 3849): routed as the rest of the world is.
  for (const std::string& address : {outward_address(netlink, AF_INET, "192.0.2.1"), outward_address(netlink, AF_INET6, "2001:db8::1")}) {
    if (!address.empty()) result.addresses.push_back(address);
  }
  return {};
}

uint64_t network_namespace_cookie(int there) {
  Descriptor socket_fd;
  uint64_t cookie = 0;
  if (open_stream_socket(there, AF_INET, socket_fd)) return 0;
  socklen_t length = sizeof cookie;
  return getsockopt(socket_fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) == 0 ? cookie : 0;
}

Outcome HostLinks::attach(const std::string& cgroup, uint32_t key) const {
  Descriptor target;
  WEFT_TRY(open_cgroup(cgroup, target));
  if (!adopt(key)) return {};
  WEFT_TRY(detach(key));
  for (const Hook& hook : hooks(skeleton_)) {
    Outcome outcome = attach_link(bpf_program__fd(hook.program), target.get(), hook.type, pin(hook.name, key));
    if (outcome) {
      detach(key);
      return outcome;
    }
  }
  return {};
}

Outcome HostLinks::adopt(uint32_t key) const {
  for (const Hook& hook : hooks(skeleton_)) {
    std::string path = pin(hook.name, key);
    Descriptor link(bpf_obj_get(path.c_str()));
    // ENOLINK: the cgroup is gone.
    if (!link || bpf_link_update(link.get(), bpf_program__fd(hook.program), nullptr) != 0) {
      return failure(errno, "cannot update the BPF link " + path);
    }
  }
  return {};
}

Outcome HostLinks::detach(uint32_t key) const {
  for (const Hook& hook : hooks(skeleton_)) WEFT_TRY(unpin(pin(hook.name, key)));
  return {};
}

Outcome HostLinks::attach_lookup(int host_fd) const {
  return bpf::attach_lookup(bpf_program__fd(skeleton_.progs.host_lookup), host_fd, folder_ + "/host_lookup");
}

Outcome HostLinks::detach_lookup() const { return unpin(folder_ + "/host_lookup"); }

}  // namespace weft::bpf
