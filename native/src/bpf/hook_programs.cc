// See hook_programs.h.
#include "bpf/hook_programs.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <sched.h>

#include <cerrno>
#include <thread>

#include "bpf/links.h"
#include "bpf/namespaces.h"
#include "bpf/netlink.h"

namespace weft::bpf {
namespace {

// More on one hook than anybody has; the kernel allows 64 on tcx and cgroups.
constexpr uint32_t MAX_PROGRAMS = 64;

struct Hook {
  const char* name;
  bpf_attach_type type;
};

// enum bpf_attach_type of kernel 6.6; the headers of Debian 12 are older.
constexpr Hook TCX_HOOKS[] = {{"tcx-ingress", static_cast<bpf_attach_type>(46)}, {"tcx-egress", static_cast<bpf_attach_type>(47)}};
constexpr Hook CGROUP_HOOKS[] = {{"cgroup-connect4", BPF_CGROUP_INET4_CONNECT},
                                 {"cgroup-connect6", BPF_CGROUP_INET6_CONNECT},
                                 {"cgroup-getpeername4", BPF_CGROUP_INET4_GETPEERNAME},
                                 {"cgroup-getpeername6", BPF_CGROUP_INET6_GETPEERNAME},
                                 {"cgroup-sockops", BPF_CGROUP_SOCK_OPS}};

struct Parent {
  const char* name;
  uint32_t handle;
};
constexpr Parent CLSACT_HOOKS[] = {{"clsact-ingress", TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)},
                                   {"clsact-egress", TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)}};

std::string name_of(uint32_t id) {
  Descriptor program(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  uint32_t length = sizeof info;
  return program && bpf_obj_get_info_by_fd(program.get(), &info, &length) == 0 ? info.name : "";
}

// `target`: descriptor of a cgroup; for tcx the ifindex, which the kernel takes in the same place.
Outcome query(const Hook& hook, int target, const std::string& place, std::vector<HookProgram>& result) {
  uint32_t ids[MAX_PROGRAMS], count = MAX_PROGRAMS;
  if (bpf_prog_query(target, hook.type, 0, nullptr, ids, &count) != 0) {
    if (errno == EPERM) return failure(EPERM, "cannot ask for the BPF programs on " + place);
    return {};
  }
  for (uint32_t i = 0; i < count; i++) result.push_back({hook.name, place, name_of(ids[i])});
  return {};
}

void list_filters(NetlinkSocket& netlink, const Link& link, const Parent& parent, std::vector<HookProgram>& result) {
  NetlinkMessage message(RTM_GETTFILTER, NLM_F_DUMP);
  tcmsg header{};
  header.tcm_ifindex = static_cast<int>(link.ifindex);
  header.tcm_parent = parent.handle;
  message.header(header);
  // An interface without the qdisc has no filters: the error says nothing else.
  netlink.exchange(message, [&](const nlmsghdr* answer) {
    auto attributes = NetlinkAttributes::of(answer, sizeof(tcmsg));
    const rtattr* nest = attributes.find(TCA_OPTIONS);
    if (attributes.text(TCA_KIND) != "bpf" || nest == nullptr) return;
    NetlinkAttributes options(static_cast<const rtattr*>(RTA_DATA(nest)), static_cast<int>(RTA_PAYLOAD(nest)));
    const int64_t id = options.number(TCA_BPF_ID, 0);
    // A filter of another kernel object (the chain's head) has none.
    if (id != 0) result.push_back({parent.name, link.name, name_of(static_cast<uint32_t>(id))});
  });
}

Outcome list_interfaces(int there, std::vector<HookProgram>& result) {
  NetlinkSocket netlink;
  WEFT_TRY(netlink.open(there));
  std::vector<Link> links;
  const int error = list_links(netlink, links);
  if (error != 0) return failure(error, "cannot list the host's interfaces");
  for (const Link& link : links) {
    for (const Hook& hook : TCX_HOOKS) WEFT_TRY(query(hook, static_cast<int>(link.ifindex), link.name, result));
    for (const Parent& parent : CLSACT_HOOKS) list_filters(netlink, link, parent, result);
  }
  return {};
}

}  // namespace

Outcome list_hook_programs(const std::string& host, const std::string& cgroup, std::vector<HookProgram>& result) {
  Descriptor outside;
  WEFT_TRY(open_namespace(host, outside));
  // tcx is asked for in the interface's own namespace.
  Outcome outcome;
  const auto list = [&] { outcome = list_interfaces(outside.get(), result); };
  if (host.empty()) {
    list();
  } else {
    std::thread([&] {
      if (setns(outside.get(), CLONE_NEWNET) == 0) {
        list();
      } else {
        outcome = failure(errno, "cannot enter the network namespace " + host);
      }
    }).join();
  }
  if (outcome) return outcome;
  if (cgroup.empty()) return {};
  Descriptor folder(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return failure(errno, "cannot open the cgroup " + cgroup);
  for (const Hook& hook : CGROUP_HOOKS) WEFT_TRY(query(hook, folder.get(), cgroup, result));
  return {};
}

}  // namespace weft::bpf
