// The hash and the open-addressing index.
#include "core/tables/byte_index.h"

#include <sys/random.h>

#include <cstdlib>
#include <cstring>

namespace weft {
namespace {

/// Multipliers too are random: with fixed ones an input can be chosen that zeroes a product whatever the seed is.
struct HashKeys {
  uint64_t seed;
  uint64_t mix[3];

  HashKeys() {
    if (getrandom(this, sizeof(*this), 0) != static_cast<ssize_t>(sizeof(*this))) abort();
    for (uint64_t& key : mix) key |= 1;
  }
};
const HashKeys kKeys;

uint64_t fold(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

template <typename Word>
uint64_t load(const uint8_t* bytes) {
  Word word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

}  // namespace

uint64_t hash_seed() { return kKeys.seed; }

uint64_t hash_bytes(const void* bytes, size_t size, uint64_t seed) {
  const uint8_t* p = static_cast<const uint8_t*>(bytes);
  uint64_t a = 0, b = 0;
  size_t rest = size;
  for (; rest > 16; rest -= 16, p += 16) seed = fold(load<uint64_t>(p) ^ kKeys.mix[0], load<uint64_t>(p + 8) ^ seed);
  if (rest >= 8) {
    a = load<uint64_t>(p);
    b = load<uint64_t>(p + rest - 8);
  } else if (rest >= 4) {
    a = load<uint32_t>(p);
    b = load<uint32_t>(p + rest - 4);
  } else if (rest > 0) {
    a = static_cast<uint64_t>(p[0]) << 16 | static_cast<uint64_t>(p[rest / 2]) << 8 | p[rest - 1];
  }
  return fold(kKeys.mix[1] ^ size, fold(a ^ kKeys.mix[2], b ^ seed));
}

int32_t ByteIndex::insert_hashed(std::string_view key, uint64_t hash, int32_t id) {
  const int32_t existing = find_hashed(key, hash);
  if (existing != kNone) return existing;
  if ((entries_ + 1) * 2 > slots_.size()) grow();
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].id != kNone) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {hash, static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(key.size()), id};
  bytes_.append(key);
  entries_++;
  return kNone;
}

int32_t ByteIndex::find_hashed(std::string_view key, uint64_t hash) const {
  if (entries_ == 0) return kNone;
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask; slots_[at].id != kNone; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.hash == hash && slot.size == key.size() && memcmp(bytes_.data() + slot.offset, key.data(), key.size()) == 0) return slot.id;
  }
  return kNone;
}

void ByteIndex::grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.empty() ? 8 : old.size() * 2, Slot{0, 0, 0, kNone});
  for (const Slot& slot : old) {
    if (slot.id == kNone) continue;
    size_t at = slot.hash & (slots_.size() - 1);
    while (slots_[at].id != kNone) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }
}

}  // namespace weft
