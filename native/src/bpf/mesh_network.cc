// See mesh_network.h. Why each piece is there: research on redirection, summed up in bpf/README.md.
#include "bpf/mesh_network.h"

#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <sys/socket.h>

#include <cerrno>

#include "bpf/links.h"
#include "bpf/netlink.h"

namespace weft::bpf {
namespace {

constexpr const char* MESH0 = "weft-mesh0";
constexpr const char* MESH1 = "weft-mesh1";

Outcome done(int error, const char* what) {
  if (error == 0 || error == EEXIST) return {};
  return failure(error, std::string("cannot set up the mesh network: ") + what + (error == EPERM ? ": the agent needs CAP_NET_ADMIN" : ""));
}

Outcome ensure_nsid(NetlinkSocket& netlink, int fd, int32_t& nsid) {
  if (find_nsid(netlink, fd, nsid) == 0 && nsid >= 0) return {};
  NetlinkMessage message(RTM_NEWNSID, 0);
  uint32_t family = 0;
  message.header(family);
  message.number(NETNSA_FD, static_cast<uint32_t>(fd));
  message.number(NETNSA_NSID, static_cast<uint32_t>(-1));
  WEFT_TRY(done(netlink.exchange(message), "give the mesh namespace an id"));
  return done(find_nsid(netlink, fd, nsid), "read the mesh namespace's id");
}

// No IPv6 link-local address: neither end speaks for itself.
void without_own_addresses(NetlinkMessage& message) {
  size_t families = message.open(IFLA_AF_SPEC);
  size_t inet6 = message.open(AF_INET6);
  message.byte(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  message.close(inet6);
  message.close(families);
}

Outcome set_up(NetlinkSocket& netlink, uint32_t ifindex, uint32_t flags, bool addressless) {
  NetlinkMessage message(RTM_NEWLINK, 0);
  ifinfomsg info{};
  info.ifi_index = static_cast<int>(ifindex);
  info.ifi_flags = flags;
  info.ifi_change = flags;
  message.header(info);
  if (addressless) without_own_addresses(message);
  return done(netlink.exchange(message), "bring its interfaces up");
}

Outcome add_route(NetlinkSocket& netlink, uint8_t family, uint8_t table, uint8_t type, uint8_t scope, uint32_t ifindex) {
  NetlinkMessage message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
  rtmsg route{};
  route.rtm_family = family;
  route.rtm_table = table;
  route.rtm_protocol = RTPROT_STATIC;
  route.rtm_scope = scope;
  route.rtm_type = type;
  message.header(route);
  message.number(RTA_OIF, ifindex);
  return done(netlink.exchange(message), "add its routes");
}

Outcome add_rule(NetlinkSocket& netlink, uint8_t family, uint32_t priority, uint8_t table, const char* from_interface) {
  NetlinkMessage message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
  fib_rule_hdr rule{};
  rule.family = family;
  rule.table = table;
  rule.action = FR_ACT_TO_TBL;
  message.header(rule);
  message.number(FRA_PRIORITY, priority);
  if (from_interface != nullptr) message.attribute(FRA_IIFNAME, std::string(from_interface));
  return done(netlink.exchange(message), "add its rules");
}

Outcome remove_first_rule(NetlinkSocket& netlink, uint8_t family) {
  NetlinkMessage message(RTM_DELRULE, 0);
  fib_rule_hdr rule{};
  rule.family = family;
  rule.table = RT_TABLE_LOCAL;
  message.header(rule);
  message.number(FRA_PRIORITY, 0);
  int error = netlink.exchange(message);
  return done(error == ENOENT ? 0 : error, "remove rule 0");
}

// Everything that comes in is local, whatever its address; everything that is sent goes out by mesh1, even to such an address.
Outcome route_everything(NetlinkSocket& netlink, uint8_t family, uint32_t lo, uint32_t mesh1) {
  WEFT_TRY(add_route(netlink, family, RT_TABLE_MAIN, RTN_UNICAST, family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE, mesh1));
  // In table local and not another: RST for IPv4 without a socket needs it there.
  WEFT_TRY(add_route(netlink, family, RT_TABLE_LOCAL, RTN_LOCAL, RT_SCOPE_HOST, lo));
  WEFT_TRY(add_rule(netlink, family, 5, RT_TABLE_MAIN, "lo"));
  WEFT_TRY(add_rule(netlink, family, 10, RT_TABLE_LOCAL, nullptr));
  return remove_first_rule(netlink, family);
}

Outcome set_up_inside(MeshNetwork& mesh) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(mesh.namespace_fd.get()));
  Link lo, mesh1;
  WEFT_TRY(done(find_link(netlink, "lo", lo), "find lo"));
  WEFT_TRY(done(find_link(netlink, MESH1, mesh1), "find weft-mesh1"));
  WEFT_TRY(set_up(netlink, lo.ifindex, IFF_UP, false));
  WEFT_TRY(write_mesh_sysctls(mesh.namespace_fd.get()));
  WEFT_TRY(set_up(netlink, mesh1.ifindex, IFF_NOARP, true));
  WEFT_TRY(set_up(netlink, mesh1.ifindex, IFF_UP, false));
  for (uint8_t family : {AF_INET, AF_INET6}) WEFT_TRY(route_everything(netlink, family, lo.ifindex, mesh1.ifindex));
  mesh.mesh1_ifindex = mesh1.ifindex;
  memcpy(mesh.mesh1_mac, mesh1.mac, sizeof mesh.mesh1_mac);
  return {};
}

}  // namespace

Outcome ensure_mesh_network(const std::string& path, int host, MeshNetwork& result) {
  WEFT_TRY(ensure_namespace(path, result.namespace_fd));
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(host));
  WEFT_TRY(ensure_nsid(netlink, result.namespace_fd.get(), result.nsid));
  Link mesh0;
  if (find_link(netlink, MESH0, mesh0) != 0) {
    if (const int error = create_veth(netlink, MESH0, MESH1, result.namespace_fd.get()); error != 0)
      return failure(error, std::string("cannot create the veth ") + MESH0 + ": the agent needs CAP_NET_ADMIN");
    WEFT_TRY(done(find_link(netlink, MESH0, mesh0), "find weft-mesh0"));
  } else if (mesh0.peer_nsid != result.nsid) {
    return failure(EEXIST, std::string("the interface ") + MESH0 + " exists but does not lead to " + path +
                               ": another agent runs in this network namespace, or remove it with `ip link del " + MESH0 + "`");
  }
  WEFT_TRY(set_up(netlink, mesh0.ifindex, IFF_UP, true));
  result.mesh0_ifindex = mesh0.ifindex;
  return set_up_inside(result);
}

Outcome remove_mesh_network(const std::string& path, int host) {
  Descriptor mesh_namespace;
  if (open_namespace(path, mesh_namespace)) return remove_namespace(path);
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(host));
  int32_t nsid = -1;
  Link mesh0;
  if (find_nsid(netlink, mesh_namespace.get(), nsid) == 0 && find_link(netlink, MESH0, mesh0) == 0 && mesh0.peer_nsid == nsid) {
    NetlinkMessage message(RTM_DELLINK, 0);
    ifinfomsg info{};
    info.ifi_index = static_cast<int>(mesh0.ifindex);
    message.header(info);
    WEFT_TRY(done(netlink.exchange(message), "remove weft-mesh0"));
  }
  return remove_namespace(path);
}

}  // namespace weft::bpf
