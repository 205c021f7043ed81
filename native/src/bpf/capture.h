// The redirection of one host: mesh network, loaded programs, pinned maps and links. Everything outlives this object in its pins;
// opening again adopts it. Not thread-safe: one owner thread.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "bpf/attachments.h"
#include "bpf/host_process.h"
#include "bpf/mesh_network.h"
#include "bpf/namespaces.h"
#include "bpf/outcome.h"
#include "bpf/workload_maps.h"

struct weft_capture;

namespace weft::bpf {

struct CaptureLocation {
  // On a bpffs; maps/ and links/ below it.
  std::string bpf_dir;
  // Of uninstall() alone, empty: it goes by itself.
  std::string mesh_netns;
  // Empty: the namespace of the thread that opens.
  std::string host_netns;
};

struct CaptureOptions {
  CaptureLocation location;
  // 0: tcx where the kernel has it, else clsact. Otherwise a weft_attach_mode, which must work.
  uint32_t mode = 0;
  uint64_t heartbeat_timeout_ns = 0;
  uint32_t host_mark = 0;
};

class Capture {
 public:
  static Outcome open(const CaptureOptions& options, std::unique_ptr<Capture>& result);
  // Removes programs, maps, pins, namespace. Missing parts are well.
  static Outcome uninstall(const CaptureLocation& location);
  ~Capture();

  uint32_t mode() const { return mode_; }
  const std::string& reason() const { return reason_; }
  // Pinned maps that had the layout of another version.
  const std::vector<std::string>& replaced_maps() const { return replaced_maps_; }
  Outcome attach(const WorkloadSpec& spec);
  Outcome detach(uint32_t ifindex);
  // cgroup v2 ids, at most two: connections of their processes into workloads stay direct.
  Outcome exempt(const std::vector<uint64_t>& cgroups);
  // Workloads in the maps, those of an earlier process included.
  std::vector<uint32_t> attached() const;
  // By program, then by reason.
  std::vector<uint64_t> counters() const;
  ReasonCounts workload_counters(uint32_t ifindex) const;

 private:
  Capture() = default;
  Outcome start(const CaptureOptions& options);
  Outcome load();
  Outcome choose_mode(const CaptureOptions& options, uint32_t previous);
  Outcome attach_mesh();
  Outcome attach_hook(int program, TcHook hook, const std::string& name, bool& created_qdisc);
  Outcome attach_workload(uint32_t ifindex);
  Outcome detach_workload(const weft_workload& workload, uint32_t mode);
  Outcome detach_all(uint32_t mode);
  // Links of a workload of an earlier process, brought to this one's programs.
  Outcome adopt(const weft_workload& workload);
  // The host's sk_lookup link is there exactly while a host process has ports.
  Outcome attach_or_detach_host_lookup();
  std::string pin(const std::string& link) const { return location_.bpf_dir + "/links/" + link; }

  CaptureLocation location_;
  Descriptor host_;
  MeshNetwork mesh_;
  weft_capture* skeleton_ = nullptr;
  std::unique_ptr<WorkloadMaps> maps_;
  std::unique_ptr<HostLinks> host_links_;
  uint64_t host_netns_cookie_ = 0;
  uint32_t mode_ = 0;
  std::string reason_;
  std::vector<std::string> replaced_maps_;
  // The maps say of every workload what they said before this opened them.
  bool is_whole_ = true;
};

}  // namespace weft::bpf
