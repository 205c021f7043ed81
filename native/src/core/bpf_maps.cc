// Raw bpf(2), so that the core and its tests need no libbpf.
#include "core/bpf_maps.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace weft {

namespace {

int bpf(int command, bpf_attr* attributes) { return static_cast<int>(syscall(SYS_bpf, command, attributes, sizeof(*attributes))); }

int open_pinned(const std::string& path) {
  bpf_attr attributes;
  memset(&attributes, 0, sizeof(attributes));
  attributes.pathname = reinterpret_cast<uint64_t>(path.c_str());
  const int fd = bpf(BPF_OBJ_GET, &attributes);
  return fd >= 0 ? fd : -errno;
}

int inform(int fd, bpf_map_info* info) {
  memset(info, 0, sizeof(*info));
  bpf_attr attributes;
  memset(&attributes, 0, sizeof(attributes));
  attributes.info.bpf_fd = static_cast<uint32_t>(fd);
  attributes.info.info_len = sizeof(*info);
  attributes.info.info = reinterpret_cast<uint64_t>(info);
  return bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) == 0 ? 0 : -errno;
}

}  // namespace

int register_listener(const std::string& map, uint32_t key, int fd) {
  const int map_fd = open_pinned(map);
  if (map_fd < 0) return map_fd;
  const uint64_t value = static_cast<uint64_t>(fd);
  bpf_attr attributes;
  memset(&attributes, 0, sizeof(attributes));
  attributes.map_fd = static_cast<uint32_t>(map_fd);
  attributes.key = reinterpret_cast<uint64_t>(&key);
  attributes.value = reinterpret_cast<uint64_t>(&value);
  const int result = bpf(BPF_MAP_UPDATE_ELEM, &attributes) == 0 ? 0 : -errno;
  ::close(map_fd);
  return result;
}

namespace {

// struct weft_host_end and struct weft_host_flow of bpf/weft_capture.h.
struct FlowKey {
  std::array<uint8_t, 16> address;
  uint32_t port;
};
struct FlowValue {
  std::array<uint8_t, 16> destination;
  std::array<uint8_t, 16> source;
  uint16_t port;
  uint16_t bound;
  uint32_t workload;
};
static_assert(sizeof(FlowKey) == 20 && sizeof(FlowValue) == 40);

}  // namespace

HostFlows::~HostFlows() {
  if (fd_ >= 0) ::close(fd_);
}

int HostFlows::open(const std::string& map) {
  if (fd_ >= 0) return 0;
  const int fd = open_pinned(map);
  if (fd < 0) return fd;
  bpf_map_info info;
  int result = inform(fd, &info);
  // Of another version: the kernel would write values of its size.
  if (result == 0 && (info.key_size != sizeof(FlowKey) || info.value_size != sizeof(FlowValue))) result = -EINVAL;
  if (result != 0) {
    ::close(fd);
    return result;
  }
  fd_ = fd;
  return 0;
}

bool HostFlows::find(const Peer& client, HostFlow* out) const {
  if (fd_ < 0) return false;
  const FlowKey key = {client.address.bytes, client.port};
  FlowValue value;
  bpf_attr attributes;
  memset(&attributes, 0, sizeof(attributes));
  attributes.map_fd = static_cast<uint32_t>(fd_);
  attributes.key = reinterpret_cast<uint64_t>(&key);
  attributes.value = reinterpret_cast<uint64_t>(&value);
  if (bpf(BPF_MAP_LOOKUP_ELEM, &attributes) != 0) return false;
  out->destination.address.bytes = value.destination;
  out->destination.port = ntohs(value.port);
  out->source.bytes = value.source;
  out->bound = value.bound != 0;
  return true;
}

Heartbeat::~Heartbeat() { close(); }

int Heartbeat::open(const std::string& map, uint32_t slot, uint32_t slots) {
  const int fd = open_pinned(map);
  if (fd < 0) return fd;
  bpf_map_info info;
  int result = inform(fd, &info);
  if (result == 0 && (info.value_size != sizeof(WorkerBeat) || slot >= info.max_entries || (info.map_flags & BPF_F_MMAPABLE) == 0)) {
    result = -EINVAL;
  }
  if (result == 0) {
    mapping_bytes_ = (size_t{info.max_entries} * sizeof(WorkerBeat) + 4095) & ~size_t{4095};
    mapping_ = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapping_ == MAP_FAILED) {
      result = -errno;
      mapping_ = nullptr;
    }
  }
  // The mapping holds the map.
  ::close(fd);
  if (result != 0) return result;
  beat_ = static_cast<WorkerBeat*>(mapping_) + slot;
  slots_ = slots;
  beat();
  return 0;
}

void Heartbeat::beat() {
  if (beat_ == nullptr) return;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  __atomic_store_n(&beat_->workers, slots_, __ATOMIC_RELAXED);
  __atomic_store_n(&beat_->beat_ns, static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec),
                   __ATOMIC_RELEASE);
}

void Heartbeat::close() {
  if (beat_ == nullptr) return;
  munmap(mapping_, mapping_bytes_);
  mapping_ = nullptr;
  beat_ = nullptr;
}

}  // namespace weft
