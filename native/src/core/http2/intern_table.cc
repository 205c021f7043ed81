// The intern table: chained hash buckets over nodes with their bytes behind them, and a list of those that nobody refers to.
#include "core/http2/intern_table.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "core/http2/hpack_static.h"
#include "core/tables/byte_index.h"

namespace weft::http2 {
namespace {

constexpr size_t kFirstBuckets = 256;

uint64_t line_hash(std::string_view name, std::string_view value) {
  return hash_bytes(value.data(), value.size(), hash_bytes(name.data(), name.size(), hash_seed()));
}

void copy(std::string_view text, char* out) {
  if (!text.empty()) memcpy(out, text.data(), text.size());
}

size_t footprint(const InternedField& field) {
  return sizeof(field) + field.name().size() + field.value().size() + field.encoded_value().size();
}

}  // namespace

InternTable::InternTable(const InternLimits& limits) : limits_(limits), buckets_(kFirstBuckets) {
  for (uint32_t i = 1; i <= kStaticFields; i++) {
    const StaticEntry& entry = kStaticTable[i - 1];
    // Its reference is the table's own, so that it is never unreferenced.
    static_[i] = intern(entry.name, entry.value).field;
    static_[i]->static_index_ = static_cast<uint8_t>(i);
  }
  count_ = bytes_ = 0;
}

InternTable::~InternTable() {
  for (InternedField* field : buckets_) {
    while (field != nullptr) {
      InternedField* next = field->next_in_bucket_;
      free(field);
      field = next;
    }
  }
}

Interned InternTable::intern(std::string_view name, std::string_view value, std::string_view encoded_value) {
  const uint64_t hash = line_hash(name, value);
  for (InternedField* field = buckets_[hash & (buckets_.size() - 1)]; field != nullptr; field = field->next_in_bucket_) {
    if (field->hash_ != hash || field->name() != name || field->value() != value) continue;
    retain(field);
    return {field, false};
  }
  return {create(name, value, encoded_value, hash), true};
}

InternedField* InternTable::create(std::string_view name, std::string_view value, std::string_view encoded_value, uint64_t hash) {
  if (encoded_value.size() >= value.size()) encoded_value = {};
  if (count_ >= buckets_.size()) grow();
  void* memory = malloc(sizeof(InternedField) + name.size() + value.size() + encoded_value.size());
  if (memory == nullptr) abort();
  auto* field = new (memory) InternedField();
  char* bytes = reinterpret_cast<char*>(field + 1);
  copy(name, bytes);
  copy(value, bytes + name.size());
  copy(encoded_value, bytes + name.size() + value.size());
  field->hash_ = hash;
  field->references_ = 1;
  field->name_size_ = static_cast<uint32_t>(name.size());
  field->value_size_ = static_cast<uint32_t>(value.size());
  field->encoded_size_ = static_cast<uint32_t>(encoded_value.size());
  field->traits_ = with_value(name_traits(name), value);
  InternedField** bucket = &buckets_[hash & (buckets_.size() - 1)];
  field->next_in_bucket_ = *bucket;
  *bucket = field;
  count_++;
  bytes_ += footprint(*field);
  return field;
}

void InternTable::unlink(InternedField* field) {
  (field->older_ != nullptr ? field->older_->newer_ : oldest_) = field->newer_;
  (field->newer_ != nullptr ? field->newer_->older_ : newest_) = field->older_;
  field->older_ = field->newer_ = nullptr;
  unreferenced_--;
  unreferenced_bytes_ -= footprint(*field);
}

void InternTable::keep_unreferenced(InternedField* field) {
  field->older_ = newest_;
  (newest_ != nullptr ? newest_->newer_ : oldest_) = field;
  newest_ = field;
  unreferenced_++;
  unreferenced_bytes_ += footprint(*field);
  while (unreferenced_ > limits_.max_unreferenced || unreferenced_bytes_ > limits_.max_unreferenced_bytes) forget(oldest_);
}

void InternTable::forget(InternedField* field) {
  unlink(field);
  InternedField** at = &buckets_[field->hash_ & (buckets_.size() - 1)];
  while (*at != field) at = &(*at)->next_in_bucket_;
  *at = field->next_in_bucket_;
  count_--;
  bytes_ -= footprint(*field);
  evictions_++;
  free(field);
}

/// Doubling keeps the chains short; it never shrinks: the most lines there ever were is a bound by itself.
void InternTable::grow() {
  std::vector<InternedField*> old(buckets_.size() * 2);
  old.swap(buckets_);
  for (InternedField* field : old) {
    while (field != nullptr) {
      InternedField* next = field->next_in_bucket_;
      InternedField** bucket = &buckets_[field->hash_ & (buckets_.size() - 1)];
      field->next_in_bucket_ = *bucket;
      *bucket = field;
      field = next;
    }
  }
}

}  // namespace weft::http2
