// See workload_maps.h.
#include "bpf/workload_maps.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "bpf/skeleton.h"

namespace weft::bpf {
namespace {

// `bits`: length of its prefix when mapped, 128 for an address.
bool parse_address(const std::string& text, weft_address& result, bool& is_v4) {
  memset(&result, 0, sizeof result);
  is_v4 = inet_pton(AF_INET, text.c_str(), &result.word[3]) == 1;
  if (is_v4) {
    result.word[2] = htonl(0xffff);
    return true;
  }
  return inet_pton(AF_INET6, text.c_str(), &result) == 1;
}

bool parse_cidr(const std::string& text, weft_cidr_key& key) {
  size_t slash = text.find('/');
  bool is_v4 = false;
  if (slash == std::string::npos || !parse_address(text.substr(0, slash), key.address, is_v4)) return false;
  char* end = nullptr;
  unsigned long length = strtoul(text.c_str() + slash + 1, &end, 10);
  if (end == text.c_str() + slash + 1 || *end != 0 || length > (is_v4 ? 32u : 128u)) return false;
  key.prefix_length = static_cast<uint32_t>(64 + length + (is_v4 ? 96 : 0));
  return true;
}

// The value keys of a map for which `belongs` holds.
template <typename Key, typename Predicate>
std::vector<Key> keys_where(int map, Predicate belongs) {
  std::vector<Key> result;
  Key key{}, next{};
  for (Key* from = nullptr; bpf_map_get_next_key(map, from, &next) == 0; from = &key) {
    if (belongs(next)) result.push_back(next);
    key = next;
  }
  return result;
}

template <typename Key>
bool contains(const std::vector<Key>& keys, const Key& wanted) {
  for (const Key& key : keys) {
    if (memcmp(&key, &wanted, sizeof key) == 0) return true;
  }
  return false;
}

// Removes what belongs to the workload and is not wanted any more.
template <typename Key, typename Predicate>
void remove_others(int map, const std::vector<Key>& wanted, Predicate belongs) {
  for (const Key& key : keys_where<Key>(map, belongs)) {
    if (!contains(wanted, key)) bpf_map_delete_elem(map, &key);
  }
}

// The flows of a host process that is not captured any more: nothing would end them, and their ports will be another's.
template <typename Key>
void forget_flows(int map, uint32_t workload) {
  remove_others(map, std::vector<Key>(), [&](const Key& key) {
    weft_host_flow flow{};
    return bpf_map_lookup_elem(map, &key, &flow) == 0 && flow.workload == workload;
  });
}

Outcome update(int map, const void* key, const void* value, const char* what) {
  if (bpf_map_update_elem(map, key, value, BPF_ANY) == 0) return {};
  return failure(errno, std::string("cannot write ") + what + (errno == E2BIG || errno == ENOSPC ? ": the map is full" : ""));
}

uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

int fd_of(const bpf_map* map) { return bpf_map__fd(map); }

}  // namespace

bool WorkloadMaps::find(uint32_t ifindex, weft_workload& result) const {
  return bpf_map_lookup_elem(fd_of(skeleton_.maps.workloads), &ifindex, &result) == 0;
}

Outcome WorkloadMaps::write(const WorkloadSpec& spec) {
  weft_workload value{}, previous{};
  value.ifindex = spec.ifindex;
  if (spec.outbound) value.flags |= WEFT_CAPTURE_OUTBOUND;
  if (spec.inbound) value.flags |= WEFT_CAPTURE_INBOUND;
  if (spec.fail_closed) value.flags |= WEFT_FAIL_CLOSED;
  if (spec.dns) value.flags |= WEFT_CAPTURE_DNS;
  const bool was_captured = find(spec.ifindex, previous);
  if (was_captured) value.flags |= previous.flags & WEFT_OWNS_QDISC;
  if (spec.hold_ms > 0) value.held_until_ns = was_captured ? previous.held_until_ns : monotonic_ns() + spec.hold_ms * 1'000'000ull;
  memcpy(value.gateway_mac, spec.gateway_mac, sizeof value.gateway_mac);
  // The workload last: its entry is what makes the programs look at its packets.
  WEFT_TRY(write_cidrs(spec));
  WEFT_TRY(write_ports(spec));
  WEFT_TRY(spec.is_host_process() ? write_host_process(spec) : write_addresses(spec, value));
  std::vector<weft_workload_counters> zeroes(static_cast<size_t>(libbpf_num_possible_cpus()));
  int counters = fd_of(skeleton_.maps.workload_counters);
  if (bpf_map_update_elem(counters, &spec.ifindex, zeroes.data(), BPF_NOEXIST) != 0 && errno != EEXIST) {
    return failure(errno, "cannot write the workload's counters");
  }
  return update(fd_of(skeleton_.maps.workloads), &spec.ifindex, &value, "the workload");
}

Outcome WorkloadMaps::write_addresses(const WorkloadSpec& spec, const weft_workload& value) {
  int map = fd_of(skeleton_.maps.addresses);
  std::vector<weft_address> wanted;
  for (const std::string& text : spec.addresses) {
    weft_address address;
    bool is_v4;
    if (!parse_address(text, address, is_v4)) return failure(EINVAL, "\"" + text + "\" is not an IP address");
    weft_workload owner{};
    if (bpf_map_lookup_elem(map, &address, &owner) == 0 && owner.ifindex != spec.ifindex) {
      return failure(EADDRINUSE,
                     "the address " + text + " belongs to another captured workload (interface " + std::to_string(owner.ifindex) + ")");
    }
    wanted.push_back(address);
  }
  for (const weft_address& address : wanted) WEFT_TRY(update(map, &address, &value, "an address"));
  remove_others(map, wanted, [&](const weft_address& key) {
    weft_workload owner{};
    return bpf_map_lookup_elem(map, &key, &owner) == 0 && owner.ifindex == spec.ifindex;
  });
  return {};
}

Outcome WorkloadMaps::write_host_process(const WorkloadSpec& spec) {
  int map = fd_of(skeleton_.maps.cgroups);
  weft_host_process value{}, owner{};
  value.workload = spec.ifindex;
  for (const std::string& text : spec.addresses) {
    weft_address address;
    bool is_v4;
    if (!parse_address(text, address, is_v4)) return failure(EINVAL, "\"" + text + "\" is not an IP address");
    weft_address& own = is_v4 ? value.address4 : value.address6;
    if ((own.word[2] | own.word[3]) == 0) own = address;
  }
  for (uint64_t cgroup : keys_where<uint64_t>(map, [](uint64_t) { return true; })) {
    if (cgroup == spec.cgroup_id || bpf_map_lookup_elem(map, &cgroup, &owner) != 0 || owner.workload != spec.ifindex) continue;
    // The key holds 31 bits of the id.
    return failure(EADDRINUSE, "the cgroup " + spec.cgroup + " cannot be told from another captured one: restart its unit");
  }
  WEFT_TRY(update(map, &spec.cgroup_id, &value, "the cgroup"));
  return write_host_ports(spec);
}

Outcome WorkloadMaps::write_host_ports(const WorkloadSpec& spec) {
  int map = fd_of(skeleton_.maps.host_ports);
  std::vector<uint32_t> wanted;
  if (spec.inbound) wanted = spec.ports;
  for (uint32_t port : wanted) {
    uint32_t owner = 0;
    if (bpf_map_lookup_elem(map, &port, &owner) == 0 && owner != spec.ifindex) {
      return failure(EADDRINUSE, "port " + std::to_string(port) + " belongs to another captured process of this host");
    }
  }
  for (uint32_t port : wanted) WEFT_TRY(update(map, &port, &spec.ifindex, "a port"));
  remove_others(map, wanted, [&](uint32_t port) {
    uint32_t owner = 0;
    return bpf_map_lookup_elem(map, &port, &owner) == 0 && owner == spec.ifindex;
  });
  return {};
}

Outcome WorkloadMaps::write_ports(const WorkloadSpec& spec) {
  int map = fd_of(skeleton_.maps.excluded_ports);
  std::vector<weft_port_key> wanted;
  auto add = [&](const std::vector<uint32_t>& ports, weft_direction direction) {
    for (uint32_t port : ports) wanted.push_back({spec.ifindex, static_cast<uint16_t>(port), static_cast<uint8_t>(direction), 0});
  };
  add(spec.exclude_outbound_ports, WEFT_OUTBOUND);
  add(spec.exclude_inbound_ports, WEFT_INBOUND);
  uint8_t excluded = 1;
  for (const weft_port_key& key : wanted) WEFT_TRY(update(map, &key, &excluded, "an excluded port"));
  remove_others(map, wanted, [&](const weft_port_key& key) { return key.ifindex == spec.ifindex; });
  return {};
}

Outcome WorkloadMaps::write_cidrs(const WorkloadSpec& spec) {
  int map = fd_of(skeleton_.maps.excluded_cidrs);
  std::vector<weft_cidr_key> wanted;
  auto add = [&](const std::vector<std::string>& cidrs, weft_direction direction, uint32_t excluded) -> Outcome {
    for (const std::string& text : cidrs) {
      weft_cidr_key key{};
      key.ifindex = spec.ifindex;
      key.direction = direction;
      if (!parse_cidr(text, key)) return failure(EINVAL, "\"" + text + "\" is not a CIDR: expected \"10.0.0.0/8\" or \"fd00::/8\"");
      WEFT_TRY(update(map, &key, &excluded, "an excluded network"));
      wanted.push_back(key);
    }
    return {};
  };
  WEFT_TRY(add(spec.exclude_outbound_cidrs, WEFT_OUTBOUND, 1));
  WEFT_TRY(add(spec.include_outbound_cidrs, WEFT_OUTBOUND, 0));
  WEFT_TRY(add(spec.exclude_inbound_cidrs, WEFT_INBOUND, 1));
  WEFT_TRY(add(spec.include_inbound_cidrs, WEFT_INBOUND, 0));
  remove_others(map, wanted, [&](const weft_cidr_key& key) { return key.ifindex == spec.ifindex; });
  return {};
}

Outcome WorkloadMaps::remove(uint32_t ifindex) {
  bpf_map_delete_elem(fd_of(skeleton_.maps.workloads), &ifindex);
  WorkloadSpec nothing;
  nothing.ifindex = ifindex;
  WEFT_TRY(write_addresses(nothing, {}));
  WEFT_TRY(write_host_ports(nothing));
  int cgroups = fd_of(skeleton_.maps.cgroups);
  remove_others(cgroups, std::vector<uint64_t>(), [&](uint64_t id) {
    weft_host_process process{};
    return bpf_map_lookup_elem(cgroups, &id, &process) == 0 && process.workload == ifindex;
  });
  WEFT_TRY(write_ports(nothing));
  WEFT_TRY(write_cidrs(nothing));
  if (ifindex & WEFT_HOST_KEY) {
    forget_flows<weft_host_end>(fd_of(skeleton_.maps.host_flows), ifindex);
    forget_flows<uint64_t>(fd_of(skeleton_.maps.host_cookies), ifindex);
  }
  bpf_map_delete_elem(fd_of(skeleton_.maps.workload_counters), &ifindex);
  return {};
}

std::vector<weft_workload> WorkloadMaps::list() const {
  std::vector<weft_workload> result;
  int map = fd_of(skeleton_.maps.workloads);
  for (uint32_t ifindex : keys_where<uint32_t>(map, [](uint32_t) { return true; })) {
    weft_workload value{};
    if (bpf_map_lookup_elem(map, &ifindex, &value) == 0) result.push_back(value);
  }
  return result;
}

bool WorkloadMaps::has_host_ports() const {
  uint32_t port;
  return bpf_map_get_next_key(fd_of(skeleton_.maps.host_ports), nullptr, &port) == 0;
}

Outcome WorkloadMaps::own_qdisc(uint32_t ifindex) {
  weft_workload value{};
  if (!find(ifindex, value)) return {};
  value.flags |= WEFT_OWNS_QDISC;
  return update(fd_of(skeleton_.maps.workloads), &ifindex, &value, "the workload");
}

ReasonCounts WorkloadMaps::counts(uint32_t ifindex) const {
  ReasonCounts result{};
  std::vector<weft_workload_counters> perCpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  if (bpf_map_lookup_elem(fd_of(skeleton_.maps.workload_counters), &ifindex, perCpu.data()) != 0) return result;
  for (const auto& cpu : perCpu) {
    for (size_t i = 0; i < result.size(); i++) result[i] += cpu.reason[i];
  }
  return result;
}

}  // namespace weft::bpf
