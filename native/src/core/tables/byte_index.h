// A map from byte strings to int32 ids: open addressing, keyed 64-bit hash, every hit verified by its bytes. Grows while it is built,
// then is only read. Neither deletes nor iterates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

/// Random, once per process: what clients send cannot be chosen to collide.
uint64_t hash_seed();

/// wyhash-like (folded 64×64→128 multiply), 16 bytes a step; portable, no special instructions. Hashes can be chained through `seed`.
uint64_t hash_bytes(const void* bytes, size_t size, uint64_t seed);

class ByteIndex {
 public:
  static constexpr int32_t kNone = -1;

  /// The id already there for these bytes (nothing changes), else kNone.
  int32_t insert(std::string_view key, int32_t id) { return insert_hashed(key, hash_of(key), id); }
  int32_t find(std::string_view key) const { return entries_ == 0 ? kNone : find_hashed(key, hash_of(key)); }

  /// With a hash that the caller made (incrementally, over a path's elements). Every use of one index must hash alike.
  int32_t insert_hashed(std::string_view key, uint64_t hash, int32_t id);
  int32_t find_hashed(std::string_view key, uint64_t hash) const;

  bool empty() const { return entries_ == 0; }
  size_t size() const { return entries_; }

 private:
  struct Slot {
    uint64_t hash;
    uint32_t offset;
    uint32_t size;
    int32_t id;
  };
  static uint64_t hash_of(std::string_view key) { return hash_bytes(key.data(), key.size(), hash_seed()); }
  void grow();

  std::vector<Slot> slots_;
  std::string bytes_;
  size_t entries_ = 0;
};

}  // namespace weft
