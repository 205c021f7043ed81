// What the loader asks and makes of network interfaces, by rtnetlink, in the calling thread's namespace.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "bpf/netlink.h"
#include "bpf/outcome.h"

namespace weft::bpf {

struct Link {
  uint32_t ifindex = 0;
  std::string name;
  std::string kind;
  uint8_t mac[6] = {};
  // ifindex of its bridge or bond; 0: none.
  uint32_t master = 0;
  // Of a veth: its peer's ifindex, in the namespace that this one calls `peer_nsid`; -1: in this one.
  uint32_t peer_ifindex = 0;
  int32_t peer_nsid = -1;
};

// 0 or a positive errno; ENODEV where there is none.
int find_link(NetlinkSocket& netlink, const std::string& name, Link& result);
int find_link(NetlinkSocket& netlink, uint32_t ifindex, Link& result);
int list_links(NetlinkSocket& netlink, std::vector<Link>& result);
// A veth, one end here and its peer in the namespace `there`. 0 or a positive errno.
int create_veth(NetlinkSocket& netlink, const std::string& name, const std::string& peer, int there);
// What the calling thread's namespace calls the namespace `fd`; -1: it has no name for it yet.
int find_nsid(NetlinkSocket& netlink, int fd, int32_t& result);

}  // namespace weft::bpf
