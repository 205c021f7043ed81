// Records of the access log's rings → JSON lines. On the reader's thread, for each request; knows no names of its own (its owner tells them
// by id when it says which one it misses), and writes no file.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/access_log.h"

namespace weft {

// What a record's token means is TypeScript's (agent/proxy/resilience/gate.ts).
struct AccessLogTokens {
  // Bits of the row in the worker's edges.
  uint32_t edge_mask = 0;
  // An answer of ours: its reason stands above so many bits.
  uint32_t reason_shift = 0;
};

class AccessLogLines {
 public:
  // `errors_only`: what went well has no line.
  AccessLogLines(AccessLogTokens tokens, bool errors_only) : tokens_(tokens), errors_only_(errors_only) {}

  enum class Missing : uint8_t { Nothing, Room, Label, Rule };
  struct Taken {
    // Bytes of whole lines.
    size_t written = 0;
    Missing missing = Missing::Nothing;
    uint32_t id = 0;
  };
  // Takes records out of the ring and writes their lines to `out`, until there are no more, or something is missing: call it again then,
  // with the name that `id` has, or with room for kMostOfLine bytes. `edges`: of the worker, rows of kEdgeWords labels.
  Taken take(uint8_t* ring, size_t ring_bytes, std::span<const int32_t> edges, std::span<char> out);

  static constexpr size_t kMostOfLine = 131'072;
  // JSON, "null" if it is longer than any name. A label's is for good, a rule's until forget_rules().
  void set_label(uint32_t id, std::string json) { set(&labels_, id, std::move(json)); }
  void set_rule(uint32_t id, std::string json) { set(&rules_, id, std::move(json)); }
  void forget_rules() { rules_.clear(); }

  // Source, service and workload; then what this has no use for.
  static constexpr size_t kEdgeWords = 4;
  // Ids from here on have no names.
  static constexpr uint32_t kMaxIds = 1 << 20;

 private:
  struct Names {
    std::string_view route, source, service, workload;
  };
  static void set(std::vector<std::string>* all, uint32_t id, std::string json);
  static bool find(const std::vector<std::string>& all, int32_t id, std::string_view* out);
  // False: `taken` says what is missing.
  bool find_names(const AccessLogRecord& record, std::span<const int32_t> edges, Names* names, Taken* taken) const;
  int32_t reason_of(const AccessLogRecord& record) const;
  bool is_wanted(const AccessLogRecord& record, int32_t reason) const;
  char* write(const AccessLogRecord& record, const uint8_t* texts, int32_t reason, const Names& names, char* out);
  char* write_time(double ms, char* out);

  const AccessLogTokens tokens_;
  const bool errors_only_;
  std::vector<std::string> labels_, rules_;
  // Of the second that `time_` begins with.
  int64_t second_ = -1;
  char time_[64] = {};
  size_t time_size_ = 0;
};

}  // namespace weft
