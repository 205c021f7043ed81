// See workload_link.h.
#include "bpf/workload_link.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <sys/stat.h>

#include <cstring>

#include "bpf/links.h"
#include "bpf/namespaces.h"
#include "bpf/netlink.h"

namespace weft::bpf {
namespace {

struct InterfaceAddress {
  uint32_t ifindex;
  std::string text;
};

Outcome list_addresses(NetlinkSocket& netlink, std::vector<InterfaceAddress>& result) {
  NetlinkMessage message(RTM_GETADDR, NLM_F_DUMP);
  message.header(ifaddrmsg{});
  int error = netlink.exchange(message, [&](const nlmsghdr* answer) {
    if (answer->nlmsg_type != RTM_NEWADDR) return;
    const auto* info = static_cast<const ifaddrmsg*>(NLMSG_DATA(answer));
    if (info->ifa_scope != RT_SCOPE_UNIVERSE) return;
    auto attributes = NetlinkAttributes::of(answer, sizeof *info);
    // IFA_LOCAL is the interface's own; IFA_ADDRESS on a point-to-point link is the other side's.
    const rtattr* own = attributes.find(IFA_LOCAL);
    if (own == nullptr) own = attributes.find(IFA_ADDRESS);
    char text[INET6_ADDRSTRLEN];
    if (own != nullptr && inet_ntop(info->ifa_family, RTA_DATA(own), text, sizeof text)) result.push_back({info->ifa_index, text});
  });
  if (error != 0) return failure(error, "cannot list the workload's addresses");
  return {};
}

Outcome inspect_inside(int there, int host_fd, WorkloadNamespace& result) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(there));
  std::vector<Link> links;
  int error = list_links(netlink, links);
  if (error != 0) return failure(error, "cannot list the workload's interfaces");
  // After the dump: the kernel names the namespaces of peers while it dumps them.
  int32_t host_nsid = -1;
  find_nsid(netlink, host_fd, host_nsid);
  std::vector<InterfaceAddress> addresses;
  WEFT_TRY(list_addresses(netlink, addresses));
  for (const Link& link : links) {
    WorkloadLink found;
    found.name = link.name;
    if (link.kind == "veth" && link.peer_nsid >= 0 && link.peer_nsid == host_nsid) found.host_ifindex = link.peer_ifindex;
    for (const auto& address : addresses) {
      if (address.ifindex == link.ifindex) found.addresses.push_back(address.text);
    }
    if (found.host_ifindex != 0 || !found.addresses.empty()) result.links.push_back(std::move(found));
  }
  return {};
}

Outcome inspect_host_side(NetlinkSocket& netlink, WorkloadLink& link) {
  if (link.host_ifindex == 0) return {};
  Link host, bridge;
  int error = find_link(netlink, link.host_ifindex, host);
  if (error != 0) return failure(error, "the host side of " + link.name + " vanished");
  link.host_name = host.name;
  const Link& gateway = host.master != 0 && find_link(netlink, host.master, bridge) == 0 ? bridge : host;
  memcpy(link.gateway_mac, gateway.mac, sizeof link.gateway_mac);
  return {};
}

}  // namespace

Outcome inspect_workload(const std::string& path, const std::string& host, WorkloadNamespace& result) {
  Descriptor inside, outside;
  WEFT_TRY(open_namespace(path, inside));
  WEFT_TRY(open_namespace(host, outside));
  struct stat info;
  if (fstat(inside.get(), &info) == 0) result.inode = info.st_ino;
  WEFT_TRY(inspect_inside(inside.get(), outside.get(), result));
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(outside.get()));
  for (WorkloadLink& link : result.links) WEFT_TRY(inspect_host_side(netlink, link));
  return {};
}

}  // namespace weft::bpf
