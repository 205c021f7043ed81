// See links.h.
#include "bpf/links.h"

#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/veth.h>

#include <algorithm>
#include <cerrno>

namespace weft::bpf {
namespace {

Link read_link(const nlmsghdr* message) {
  const auto* info = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
  auto attributes = NetlinkAttributes::of(message, sizeof *info);
  Link link;
  link.ifindex = static_cast<uint32_t>(info->ifi_index);
  link.name = attributes.text(IFLA_IFNAME);
  link.master = static_cast<uint32_t>(attributes.number(IFLA_MASTER, 0));
  link.peer_ifindex = static_cast<uint32_t>(attributes.number(IFLA_LINK, 0));
  link.peer_nsid = static_cast<int32_t>(attributes.number(IFLA_LINK_NETNSID, -1));
  if (const rtattr* mac = attributes.find(IFLA_ADDRESS))
    memcpy(link.mac, RTA_DATA(mac), std::min<size_t>(RTA_PAYLOAD(mac), sizeof link.mac));
  if (const rtattr* nest = attributes.find(IFLA_LINKINFO)) {
    link.kind = NetlinkAttributes(static_cast<const rtattr*>(RTA_DATA(nest)), static_cast<int>(RTA_PAYLOAD(nest))).text(IFLA_INFO_KIND);
  }
  return link;
}

int find(NetlinkSocket& netlink, NetlinkMessage& message, Link& result) {
  return netlink.exchange(message, [&](const nlmsghdr* answer) {
    if (answer->nlmsg_type == RTM_NEWLINK) result = read_link(answer);
  });
}

}  // namespace

int find_link(NetlinkSocket& netlink, const std::string& name, Link& result) {
  NetlinkMessage message(RTM_GETLINK, 0);
  message.header(ifinfomsg{});
  message.attribute(IFLA_IFNAME, name);
  return find(netlink, message, result);
}

int find_link(NetlinkSocket& netlink, uint32_t ifindex, Link& result) {
  NetlinkMessage message(RTM_GETLINK, 0);
  ifinfomsg info{};
  info.ifi_index = static_cast<int>(ifindex);
  message.header(info);
  return find(netlink, message, result);
}

int list_links(NetlinkSocket& netlink, std::vector<Link>& result) {
  NetlinkMessage message(RTM_GETLINK, NLM_F_DUMP);
  message.header(ifinfomsg{});
  return netlink.exchange(message, [&](const nlmsghdr* answer) {
    if (answer->nlmsg_type == RTM_NEWLINK) result.push_back(read_link(answer));
  });
}

int create_veth(NetlinkSocket& netlink, const std::string& name, const std::string& peer, int there) {
  NetlinkMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  message.header(ifinfomsg{});
  message.attribute(IFLA_IFNAME, name);
  size_t info = message.open(IFLA_LINKINFO);
  message.attribute(IFLA_INFO_KIND, std::string("veth"));
  size_t data = message.open(IFLA_INFO_DATA);
  size_t end = message.open(VETH_INFO_PEER);
  ifinfomsg header{};
  message.append(&header, sizeof header);
  message.attribute(IFLA_IFNAME, peer);
  message.number(IFLA_NET_NS_FD, static_cast<uint32_t>(there));
  message.close(end);
  message.close(data);
  message.close(info);
  return netlink.exchange(message);
}

int find_nsid(NetlinkSocket& netlink, int fd, int32_t& result) {
  NetlinkMessage message(RTM_GETNSID, 0);
  // The family header is rtgenmsg, padded.
  uint32_t family = 0;
  message.header(family);
  message.number(NETNSA_FD, static_cast<uint32_t>(fd));
  return netlink.exchange(message, [&](const nlmsghdr* answer) {
    if (answer->nlmsg_type == RTM_NEWNSID) {
      result = static_cast<int32_t>(NetlinkAttributes::of(answer, sizeof(rtgenmsg)).number(NETNSA_NSID, -1));
    }
  });
}

}  // namespace weft::bpf
