// The pinned BPF maps the data plane touches itself: its heartbeat, its listeners' entries, and where host processes wanted to go. Loading
// programs is src/bpf's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/socket.h"

namespace weft {

// Puts the listener's socket into the pinned SOCKMAP at `key`; it leaves by itself when the socket is closed. 0 or -errno.
int register_listener(const std::string& map, uint32_t key, int fd);

// A connection that a host process made and the redirection sent here: `host_flows` of bpf/.
struct HostFlow {
  Peer destination;
  // What the client is called: its workload's address, or the one it had bound itself.
  Address source;
  bool bound = false;
};

class HostFlows {
 public:
  HostFlows() = default;
  HostFlows(const HostFlows&) = delete;
  HostFlows& operator=(const HostFlows&) = delete;
  ~HostFlows();
  // 0 or -errno; once open does nothing.
  int open(const std::string& map);
  // By the connection's client as accept() names it. False: none of ours.
  bool find(const Peer& client, HostFlow* out) const;

 private:
  int fd_ = -1;
};

// One value of the pinned, BPF_F_MMAPABLE `workers` array: bpf/ reads it.
struct WorkerBeat {
  uint64_t beat_ns;
  uint32_t workers;
  uint32_t reserved;
};
static_assert(sizeof(WorkerBeat) == 16);

class Heartbeat {
 public:
  Heartbeat() = default;
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  ~Heartbeat();
  // 0 or -errno. `slots` is how many workers there are.
  int open(const std::string& map, uint32_t slot, uint32_t slots);
  bool is_open() const { return beat_ != nullptr; }
  // CLOCK_MONOTONIC now, what bpf_ktime_get_ns() reads.
  void beat();
  // The slot keeps its last beat: a successor may beat there already, and without one the listeners' sockets are gone from the SOCKMAP.
  void close();

 private:
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  WorkerBeat* beat_ = nullptr;
  uint32_t slots_ = 0;
};

}  // namespace weft
