// See former_maps.h.
#include "bpf/former_maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace weft::bpf {
namespace {

bool inform(int map, bpf_map_info& info) {
  uint32_t length = sizeof info;
  return bpf_obj_get_info_by_fd(map, &info, &length) == 0;
}

bool is_alike(int pinned, const bpf_map* map) {
  bpf_map_info info{};
  return inform(pinned, info) && info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
         info.value_size == bpf_map__value_size(map) && info.max_entries == bpf_map__max_entries(map) &&
         info.map_flags == bpf_map__map_flags(map);
}

bool is_table(uint32_t type) {
  return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH || type == BPF_MAP_TYPE_LPM_TRIE || type == BPF_MAP_TYPE_ARRAY;
}

bool copy(int from, const bpf_map_info& former, int to, const bpf_map_info& info) {
  if (former.key_size != info.key_size) return false;
  bool is_whole = true;
  std::vector<uint8_t> key(info.key_size), next(info.key_size), value(std::max(former.value_size, info.value_size));
  const uint8_t* after = nullptr;
  // Programs write meanwhile: an entry that goes would begin the walk anew, for ever.
  for (uint32_t i = 0; i < 2 * former.max_entries && bpf_map_get_next_key(from, after, next.data()) == 0; i++) {
    std::fill(value.begin(), value.end(), 0);
    if (bpf_map_lookup_elem(from, next.data(), value.data()) == 0 && bpf_map_update_elem(to, next.data(), value.data(), BPF_ANY) != 0)
      is_whole = false;
    key = next;
    after = key.data();
  }
  return is_whole;
}

}  // namespace

bool lookup_beginning(int map, const void* key, void* value, size_t size) {
  bpf_map_info info{};
  if (!inform(map, info)) return false;
  std::vector<uint8_t> whole(std::max<size_t>(info.value_size, size));
  if (bpf_map_lookup_elem(map, key, whole.data()) != 0) return false;
  memcpy(value, whole.data(), size);
  return true;
}

void FormerMaps::set_aside(bpf_object* object) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const std::string pin = bpf_map__pin_path(map);
    Descriptor pinned(bpf_obj_get(pin.c_str()));
    if (!pinned || is_alike(pinned.get(), map)) continue;
    unlink(pin.c_str());
    maps_.push_back({bpf_map__name(map), pin, std::move(pinned)});
  }
}

void FormerMaps::put_back() const {
  for (const Former& former : maps_) bpf_obj_pin(former.map.get(), former.pin.c_str());
}

bool FormerMaps::carry_over(const bpf_object* object) const {
  bool is_whole = true;
  for (const Former& former : maps_) {
    const int to = bpf_object__find_map_fd_by_name(object, former.name.c_str());
    bpf_map_info before{}, info{};
    if (!inform(to, info) || !is_table(info.type)) continue;
    if (!inform(former.map.get(), before) || !is_table(before.type) || !copy(former.map.get(), before, to, info)) is_whole = false;
  }
  return is_whole;
}

std::vector<std::string> FormerMaps::names() const {
  std::vector<std::string> result;
  for (const Former& former : maps_) result.push_back(former.name);
  return result;
}

}  // namespace weft::bpf
