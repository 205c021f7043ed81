// See capture.h.
#include "bpf/capture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "bpf/former_maps.h"
#include "bpf/links.h"
#include "bpf/netlink.h"
#include "bpf/skeleton.h"

namespace weft::bpf {
namespace {

namespace fs = std::filesystem;

constexpr const char* BPFFS = "/sys/fs/bpf";

// What libbpf says while it loads: the verifier's words are in it. Bounded: the end is what matters.
thread_local std::string libbpf_log;

int keep_log(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  char* line = nullptr;
  if (vasprintf(&line, format, arguments) < 0) return 0;
  libbpf_log += line;
  free(line);
  if (libbpf_log.size() > 4096) libbpf_log.erase(0, libbpf_log.size() - 4096);
  return 0;
}

bool is_bpffs(const std::string& path) {
  struct statfs info;
  return statfs(path.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

// bpffs stays mounted after an uninstall: it is the system's place (systemd and iproute2 mount it there too), others may use it by then.
Outcome ensure_folder(const std::string& path) {
  if (path.rfind(BPFFS, 0) == 0 && !is_bpffs(BPFFS)) WEFT_TRY(mount_bpffs());
  std::error_code error;
  fs::create_directories(path + "/maps", error);
  if (!error) fs::create_directories(path + "/links", error);
  if (error) return failure(error.value(), "cannot create " + path + " (names on bpffs must not contain dots): " + error.message());
  if (!is_bpffs(path)) return failure(EINVAL, path + " is not on a bpffs: choose a --bpf-dir below " + BPFFS);
  return {};
}

void remove_pins(const std::string& folder) {
  std::error_code ignored;
  std::vector<fs::path> pins;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) pins.push_back(entry.path());
  for (const fs::path& pin : pins) fs::remove(pin, ignored);
  fs::remove(folder, ignored);
}

bool is_host_process(const weft_workload& workload) { return (workload.ifindex & WEFT_HOST_KEY) != 0; }

std::string workload_pin(const char* program, uint32_t ifindex) { return std::string(program) + "-" + std::to_string(ifindex); }

Outcome detach_filters(int host, const weft_workload& workload) {
  WEFT_TRY(detach_clsact({host, workload.ifindex, TcDirection::Ingress}));
  WEFT_TRY(detach_clsact({host, workload.ifindex, TcDirection::Egress}));
  return workload.flags & WEFT_OWNS_QDISC ? remove_qdisc(host, workload.ifindex) : Outcome{};
}

}  // namespace

Capture::~Capture() {
  if (skeleton_ != nullptr) weft_capture__destroy(skeleton_);
}

Outcome Capture::open(const CaptureOptions& options, std::unique_ptr<Capture>& result) {
  result.reset(new Capture());
  result->location_ = options.location;
  WEFT_TRY(open_namespace(options.location.host_netns, result->host_));
  return result->start(options);
}

Outcome Capture::start(const CaptureOptions& options) {
  WEFT_TRY(ensure_folder(location_.bpf_dir));
  WEFT_TRY(ensure_mesh_network(location_.mesh_netns, host_.get(), mesh_));
  WEFT_TRY(load());
  maps_ = std::make_unique<WorkloadMaps>(*skeleton_);
  host_links_ = std::make_unique<HostLinks>(*skeleton_, location_.bpf_dir + "/links");
  host_netns_cookie_ = network_namespace_cookie(host_.get());

  int config_map = bpf_map__fd(skeleton_->maps.config);
  uint32_t zero = 0;
  weft_config config{};
  bpf_map_lookup_elem(config_map, &zero, &config);
  WEFT_TRY(choose_mode(options, config.mode));
  if (config.mode != 0 && config.mode != mode_) WEFT_TRY(detach_all(config.mode));

  config.mode = mode_;
  config.heartbeat_timeout_ns = options.heartbeat_timeout_ns;
  config.host_mark = options.host_mark;
  config.mesh0_ifindex = mesh_.mesh0_ifindex;
  config.mesh_nsid = mesh_.nsid;
  config.host_netns_cookie = host_netns_cookie_;
  memcpy(config.mesh1_mac, mesh_.mesh1_mac, sizeof config.mesh1_mac);
  if (bpf_map_update_elem(config_map, &zero, &config, BPF_ANY) != 0) return failure(errno, "cannot write the redirection's configuration");
  WEFT_TRY(attach_mesh());

  // What former programs know of their workloads is not all in the maps: they go on with their own until each workload is written again.
  if (!is_whole_) return {};
  // Workloads of an earlier process go on, on these programs; the ones that vanished meanwhile are forgotten.
  for (const weft_workload& workload : maps_->list()) {
    if (adopt(workload)) {
      detach_workload(workload, mode_);
      WEFT_TRY(maps_->remove(workload.ifindex));
    }
  }
  return attach_or_detach_host_lookup();
}

Outcome Capture::adopt(const weft_workload& workload) {
  if (is_host_process(workload)) return host_links_->adopt(workload.ifindex);
  NetlinkSocket netlink;
  Link link;
  WEFT_TRY(netlink.open(host_.get()));
  if (find_link(netlink, workload.ifindex, link) != 0) return failure(ENODEV, "the interface is gone");
  return attach_workload(workload.ifindex);
}

Outcome Capture::attach_or_detach_host_lookup() {
  return maps_->has_host_ports() ? host_links_->attach_lookup(host_.get()) : host_links_->detach_lookup();
}

Outcome Capture::load() {
  libbpf_set_print(keep_log);
  libbpf_log.clear();
  skeleton_ = weft_capture__open();
  if (skeleton_ == nullptr) return failure(errno, "the embedded BPF object cannot be read: " + libbpf_log);
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton_->obj) bpf_map__set_pin_path(map, (location_.bpf_dir + "/maps/" + bpf_map__name(map)).c_str());
  FormerMaps former;
  former.set_aside(skeleton_->obj);
  const int error = weft_capture__load(skeleton_);
  if (error != 0) {
    former.put_back();
    return failure(error, "cannot load the BPF programs (CAP_BPF, CAP_NET_ADMIN, kernel ≥ 5.10): " + libbpf_log);
  }
  replaced_maps_ = former.names();
  is_whole_ = former.carry_over(skeleton_->obj);
  return {};
}

Outcome Capture::choose_mode(const CaptureOptions& options, uint32_t previous) {
  mode_ = options.mode;
  if (mode_ == WEFT_MODE_CLSACT) {
    reason_ += "clsact was asked for";
    return {};
  }
  // The probe is the attachment that is needed anyway.
  int program = bpf_program__fd(skeleton_->progs.mesh0_in);
  Outcome tcx = attach_tcx(program, {host_.get(), mesh_.mesh0_ifindex, TcDirection::Ingress}, pin("mesh0_in"));
  if (!tcx) {
    reason_ += mode_ == WEFT_MODE_TCX ? "tcx was asked for" : "the kernel has tcx";
    mode_ = WEFT_MODE_TCX;
    return {};
  }
  if (mode_ == WEFT_MODE_TCX)
    return failure(tcx->code, "tcx was asked for, but this kernel does not attach it (it needs 6.6): " + tcx->text);
  mode_ = WEFT_MODE_CLSACT;
  reason_ += "the kernel has no tcx (it needs 6.6)";
  return {};
}

Outcome Capture::attach_hook(int program, TcHook hook, const std::string& name, bool& created_qdisc) {
  return mode_ == WEFT_MODE_TCX ? attach_tcx(program, hook, pin(name)) : attach_clsact(program, hook, created_qdisc);
}

Outcome Capture::attach_mesh() {
  bool qdisc_of_our_own_link;
  auto& programs = skeleton_->progs;
  const int host = host_.get(), mesh = mesh_.namespace_fd.get();
  TcHook outside{host, mesh_.mesh0_ifindex, TcDirection::Ingress};
  TcHook in{mesh, mesh_.mesh1_ifindex, TcDirection::Ingress}, out{mesh, mesh_.mesh1_ifindex, TcDirection::Egress};
  WEFT_TRY(attach_hook(bpf_program__fd(programs.mesh0_in), outside, "mesh0_in", qdisc_of_our_own_link));
  WEFT_TRY(attach_hook(bpf_program__fd(programs.mesh1_in), in, "mesh1_in", qdisc_of_our_own_link));
  WEFT_TRY(attach_hook(bpf_program__fd(programs.mesh1_out), out, "mesh1_out", qdisc_of_our_own_link));
  return attach_lookup(bpf_program__fd(programs.mesh_lookup), mesh, pin("mesh_lookup"));
}

Outcome Capture::attach_workload(uint32_t ifindex) {
  bool created_qdisc = false;
  int from = bpf_program__fd(skeleton_->progs.from_pod), to = bpf_program__fd(skeleton_->progs.to_pod);
  WEFT_TRY(attach_hook(from, {host_.get(), ifindex, TcDirection::Ingress}, workload_pin("from_pod", ifindex), created_qdisc));
  WEFT_TRY(attach_hook(to, {host_.get(), ifindex, TcDirection::Egress}, workload_pin("to_pod", ifindex), created_qdisc));
  return created_qdisc ? maps_->own_qdisc(ifindex) : Outcome{};
}

Outcome Capture::detach_workload(const weft_workload& workload, uint32_t mode) {
  if (is_host_process(workload)) return host_links_->detach(workload.ifindex);
  if (mode == WEFT_MODE_TCX) {
    WEFT_TRY(unpin(pin(workload_pin("from_pod", workload.ifindex))));
    return unpin(pin(workload_pin("to_pod", workload.ifindex)));
  }
  return detach_filters(host_.get(), workload);
}

Outcome Capture::detach_all(uint32_t mode) {
  for (const weft_workload& workload : maps_->list()) {
    // Cgroup links know no mode.
    if (!is_host_process(workload)) WEFT_TRY(detach_workload(workload, mode));
  }
  if (mode == WEFT_MODE_TCX) {
    for (const char* link : {"mesh0_in", "mesh1_in", "mesh1_out"}) WEFT_TRY(unpin(pin(link)));
    return {};
  }
  const int host = host_.get(), mesh = mesh_.namespace_fd.get();
  WEFT_TRY(detach_clsact({host, mesh_.mesh0_ifindex, TcDirection::Ingress}));
  WEFT_TRY(remove_qdisc(host, mesh_.mesh0_ifindex));
  WEFT_TRY(detach_clsact({mesh, mesh_.mesh1_ifindex, TcDirection::Ingress}));
  WEFT_TRY(detach_clsact({mesh, mesh_.mesh1_ifindex, TcDirection::Egress}));
  return remove_qdisc(mesh, mesh_.mesh1_ifindex);
}

Outcome Capture::attach(const WorkloadSpec& spec) {
  if (spec.is_host_process() && host_netns_cookie_ == 0) {
    return failure(EOPNOTSUPP, "the kernel (before 5.14) has no namespace cookies: host processes cannot be captured");
  }
  Outcome outcome = maps_->write(spec);
  if (!outcome) outcome = spec.is_host_process() ? host_links_->attach(spec.cgroup, spec.ifindex) : attach_workload(spec.ifindex);
  if (!outcome && spec.is_host_process()) outcome = attach_or_detach_host_lookup();
  if (outcome) detach(spec.ifindex);
  return outcome;
}

Outcome Capture::detach(uint32_t ifindex) {
  weft_workload workload{};
  if (maps_->find(ifindex, workload)) WEFT_TRY(detach_workload(workload, mode_));
  WEFT_TRY(maps_->remove(ifindex));
  return attach_or_detach_host_lookup();
}

Outcome Capture::exempt(const std::vector<uint64_t>& cgroups) {
  int map = bpf_map__fd(skeleton_->maps.config);
  uint32_t zero = 0;
  weft_config config{};
  bpf_map_lookup_elem(map, &zero, &config);
  for (size_t i = 0; i < 2; i++) config.exempt_cgroup[i] = i < cgroups.size() ? cgroups[i] : 0;
  if (bpf_map_update_elem(map, &zero, &config, BPF_ANY) != 0) return failure(errno, "cannot write the redirection's configuration");
  return {};
}

std::vector<uint32_t> Capture::attached() const {
  std::vector<uint32_t> result;
  for (const weft_workload& workload : maps_->list()) result.push_back(workload.ifindex);
  return result;
}

std::vector<uint64_t> Capture::counters() const {
  std::vector<uint64_t> result, per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t key = 0; key < WEFT_COUNTERS; key++) {
    uint64_t sum = 0;
    if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.counters), &key, per_cpu.data()) == 0) {
      for (uint64_t cpu : per_cpu) sum += cpu;
    }
    result.push_back(sum);
  }
  return result;
}

ReasonCounts Capture::workload_counters(uint32_t ifindex) const { return maps_->counts(ifindex); }

// Works from the pins alone, and with programs of any version: nothing is loaded.
Outcome Capture::uninstall(const CaptureLocation& location) {
  Descriptor host;
  WEFT_TRY(open_namespace(location.host_netns, host));
  std::error_code ignored;
  std::string maps = location.bpf_dir + "/maps";
  Descriptor workloads(bpf_obj_get((maps + "/workloads").c_str()));
  uint32_t key = 0, next = 0;
  for (uint32_t* from = nullptr; workloads && bpf_map_get_next_key(workloads.get(), from, &next) == 0; from = &key) {
    weft_workload workload{};
    if (lookup_beginning(workloads.get(), &next, &workload, sizeof workload) && !is_host_process(workload)) {
      WEFT_TRY(detach_filters(host.get(), workload));
    }
    key = next;
  }
  remove_pins(location.bpf_dir + "/links");
  remove_pins(maps);
  fs::remove(location.bpf_dir, ignored);
  return location.mesh_netns.empty() ? Outcome{} : remove_mesh_network(location.mesh_netns, host.get());
}

}  // namespace weft::bpf
