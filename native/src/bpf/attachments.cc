// See attachments.h.
#include "bpf/attachments.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "bpf/namespaces.h"
#include "bpf/netlink.h"

namespace weft::bpf {
namespace {

// enum bpf_attach_type of kernel 6.6; the headers of Debian 12 are older, the system call is not.
constexpr bpf_attach_type TCX_INGRESS = static_cast<bpf_attach_type>(46);
constexpr bpf_attach_type TCX_EGRESS = static_cast<bpf_attach_type>(47);

// Ours among the filters of a clsact qdisc.
constexpr uint32_t FILTER_HANDLE = 1;
constexpr uint32_t FILTER_PRIORITY = 4990;

// The first word of the link's own part of bpf_link_info: tcx has the ifindex there, 0 once the interface is gone.
bool leads_to(int link, uint32_t ifindex) {
  bpf_link_info info{};
  uint32_t length = sizeof info;
  return bpf_obj_get_info_by_fd(link, &info, &length) == 0 && info.netns.netns_ino == ifindex;
}

bpf_tc_hook to_libbpf(TcHook hook) {
  bpf_tc_hook result{};
  result.sz = sizeof result;
  result.ifindex = static_cast<int>(hook.ifindex);
  result.attach_point = hook.direction == TcDirection::Ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return result;
}

bpf_tc_opts filter_options() {
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = FILTER_HANDLE;
  options.priority = FILTER_PRIORITY;
  return options;
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
  return attach_link(program, static_cast<int>(hook.ifindex), hook.direction == TcDirection::Ingress ? TCX_INGRESS : TCX_EGRESS, pin);
}

Outcome attach_clsact(int program, TcHook hook, bool& created_qdisc) {
  bpf_tc_hook target = to_libbpf(hook);
  int error = bpf_tc_hook_create(&target);
  if (error != 0 && error != -EEXIST) return failure(error, "cannot add a clsact qdisc");
  if (error == 0) created_qdisc = true;
  bpf_tc_opts options = filter_options();
  options.prog_fd = program;
  options.flags = BPF_TC_F_REPLACE;
  error = bpf_tc_attach(&target, &options);
  if (error != 0) return failure(error, "cannot attach a BPF filter to clsact");
  return {};
}

Outcome detach_clsact(TcHook hook) {
  bpf_tc_hook target = to_libbpf(hook);
  bpf_tc_opts options = filter_options();
  int error = bpf_tc_detach(&target, &options);
  if (error == 0 || error == -ENOENT || error == -ENODEV || error == -EINVAL) return {};
  return failure(error, "cannot detach a BPF filter from clsact");
}

Outcome remove_qdisc(uint32_t ifindex) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open());
  if (has_filters(netlink, ifindex, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)) ||
      has_filters(netlink, ifindex, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS))) {
    return {};
  }
  bpf_tc_hook target = to_libbpf({ifindex, TcDirection::Ingress});
  target.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  int error = bpf_tc_hook_destroy(&target);
  if (error == 0 || error == -ENOENT || error == -ENODEV || error == -EINVAL) return {};
  return failure(error, "cannot remove our clsact qdisc");
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
  if (bpf_obj_pin(link.get(), pin.c_str()) != 0) return failure(errno, "cannot pin a BPF link at " + pin);
  return {};
}

Outcome unpin(const std::string& pin) {
  if (unlink(pin.c_str()) != 0 && errno != ENOENT) return failure(errno, "cannot remove " + pin);
  return {};
}

}  // namespace weft::bpf
