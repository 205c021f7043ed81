// See attachments.h.
#include "bpf/attachments.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "bpf/namespaces.h"
#include "bpf/netlink.h"

namespace weft::bpf {
namespace {

// Ours among the filters of a clsact qdisc.
constexpr uint32_t FILTER_HANDLE = 1;
constexpr uint32_t FILTER_PRIORITY = 4990;

// The first word of the link's own part of bpf_link_info: tcx has the ifindex there, 0 once the interface is gone.
bool leads_to(int link, uint32_t ifindex) {
  bpf_link_info info{};
  uint32_t length = sizeof info;
  return bpf_obj_get_info_by_fd(link, &info, &length) == 0 && info.netns.netns_ino == ifindex;
}

uint32_t parent_of(TcDirection direction) {
  return TC_H_MAKE(TC_H_CLSACT, TC_H_MIN(direction == TcDirection::Ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS));
}

std::string name_of(int program) {
  bpf_prog_info info{};
  uint32_t length = sizeof info;
  return bpf_obj_get_info_by_fd(program, &info, &length) == 0 ? info.name : "";
}

tcmsg qdisc_of(uint32_t ifindex) {
  tcmsg header{};
  header.tcm_ifindex = static_cast<int>(ifindex);
  header.tcm_parent = TC_H_CLSACT;
  header.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
  return header;
}

tcmsg filter_of(TcHook hook) {
  tcmsg header{};
  header.tcm_ifindex = static_cast<int>(hook.ifindex);
  header.tcm_parent = parent_of(hook.direction);
  header.tcm_handle = FILTER_HANDLE;
  header.tcm_info = TC_H_MAKE(FILTER_PRIORITY << 16, htons(ETH_P_ALL));
  return header;
}

// What there is to remove may have gone, with its interface too.
bool is_gone(int error) { return error == ENOENT || error == ENODEV || error == EINVAL; }

Outcome keep_link(const Descriptor& link, const std::string& pin) {
  if (bpf_obj_pin(link.get(), pin.c_str()) != 0) return failure(errno, "cannot pin a BPF link at " + pin);
  return {};
}

bool has_filters(NetlinkSocket& netlink, uint32_t ifindex, uint32_t parent) {
  NetlinkMessage message(RTM_GETTFILTER, NLM_F_DUMP);
  tcmsg header{};
  header.tcm_ifindex = static_cast<int>(ifindex);
  header.tcm_parent = parent;
  message.header(header);
  bool found = false;
  netlink.exchange(message, [&](const nlmsghdr*) { found = true; });
  return found;
}

}  // namespace

Outcome attach_tcx(int program, TcHook hook, const std::string& pin) {
  Descriptor pinned(bpf_obj_get(pin.c_str()));
  if (pinned && leads_to(pinned.get(), hook.ifindex)) {
    if (bpf_link_update(pinned.get(), program, nullptr) != 0) return failure(errno, "cannot update the BPF link " + pin);
    return {};
  }
  if (pinned) WEFT_TRY(unpin(pin));
  Descriptor link;
  WEFT_TRY(create_tcx_link(hook.there, program, hook.ifindex, hook.direction == TcDirection::Ingress, link));
  return keep_link(link, pin);
}

Outcome attach_clsact(int program, TcHook hook, bool& created_qdisc) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(hook.there));
  NetlinkMessage qdisc(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
  qdisc.header(qdisc_of(hook.ifindex));
  qdisc.attribute(TCA_KIND, std::string("clsact"));
  int error = netlink.exchange(qdisc);
  if (error != 0 && error != EEXIST) return failure(error, "cannot add a clsact qdisc");
  if (error == 0) created_qdisc = true;
  // Without NLM_F_EXCL: in the place of the one that is there.
  NetlinkMessage filter(RTM_NEWTFILTER, NLM_F_CREATE);
  filter.header(filter_of(hook));
  filter.attribute(TCA_KIND, std::string("bpf"));
  const size_t options = filter.open(TCA_OPTIONS);
  filter.number(TCA_BPF_FD, static_cast<uint32_t>(program));
  filter.attribute(TCA_BPF_NAME, name_of(program));
  filter.number(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
  filter.close(options);
  error = netlink.exchange(filter);
  return error == 0 ? Outcome{} : failure(error, "cannot attach a BPF filter to clsact");
}

Outcome detach_clsact(TcHook hook) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(hook.there));
  NetlinkMessage message(RTM_DELTFILTER, 0);
  message.header(filter_of(hook));
  message.attribute(TCA_KIND, std::string("bpf"));
  const int error = netlink.exchange(message);
  return error == 0 || is_gone(error) ? Outcome{} : failure(error, "cannot detach a BPF filter from clsact");
}

Outcome remove_qdisc(int there, uint32_t ifindex) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(there));
  if (has_filters(netlink, ifindex, parent_of(TcDirection::Ingress)) || has_filters(netlink, ifindex, parent_of(TcDirection::Egress)))
    return {};
  NetlinkMessage message(RTM_DELQDISC, 0);
  message.header(qdisc_of(ifindex));
  message.attribute(TCA_KIND, std::string("clsact"));
  const int error = netlink.exchange(message);
  return error == 0 || is_gone(error) ? Outcome{} : failure(error, "cannot remove our clsact qdisc");
}

Outcome attach_lookup(int program, int namespace_fd, const std::string& pin) {
  Descriptor pinned(bpf_obj_get(pin.c_str()));
  // A link of a namespace that is gone can't be updated: ENOLINK.
  if (pinned && bpf_link_update(pinned.get(), program, nullptr) == 0) return {};
  if (pinned) WEFT_TRY(unpin(pin));
  return attach_link(program, namespace_fd, BPF_SK_LOOKUP, pin);
}

Outcome attach_link(int program, int target, bpf_attach_type type, const std::string& pin) {
  Descriptor link(bpf_link_create(program, target, type, nullptr));
  if (!link) return failure(errno, "cannot attach a BPF program (" + pin + ")");
  return keep_link(link, pin);
}

Outcome unpin(const std::string& pin) {
  // The kernel puts off the end of a link that is only unlinked, and its program can't be attached there again meanwhile (EEXIST).
  if (const Descriptor link(bpf_obj_get(pin.c_str())); link) bpf_link_detach(link.get());
  if (unlink(pin.c_str()) != 0 && errno != ENOENT) return failure(errno, "cannot remove " + pin);
  return {};
}

}  // namespace weft::bpf
