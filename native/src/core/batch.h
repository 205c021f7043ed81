// The memory shared with TypeScript for one tick: descriptors, decisions, completions, predicates, tried endpoints and the arena, in one
// mapping.
// Collects what waits for a decision; makes none.
#pragma once
#include <cstdint>
#include <memory>

#include "core/arena.h"
#include "core/http1/head.h"
#include "core/records.h"
#include "core/slab.h"
#include "core/tables/tables.h"

namespace weft {

// What stands in a descriptor besides the head.
struct DescriptorContext {
  Handle handle;
  int32_t listener_id = 0;
  int32_t destination_id = -1;
  int32_t source_id = -1;
  int32_t server_name_id = -1;
  int32_t peer_identity_id = -1;
  // Of the connection, beside those of the request.
  int32_t flags = 0;
  int32_t attempt = 0;
  int32_t previous_target = -1;
  int32_t previous_token = 0;
  int32_t random = 0;
  // Null: none.
  const struct TriedEndpoints* tried = nullptr;
  // Whom the request comes from.
  const Address* client = nullptr;
};

class Batch {
 public:
  static constexpr size_t kArenaBytes = 8u << 20;
  static constexpr size_t kPredicateWords = 64 * 1024;
  // What decisions say in text; offsets and lengths take 16 bits.
  static constexpr size_t kTextBytes = 64 * 1024;

  // What waits for the decision at the same position.
  struct Pending {
    Handle handle;
    StreamKind kind = StreamKind::Opaque;
    // Head and what followed it, in the arena.
    const uint8_t* base = nullptr;
    size_t size = 0;
    http1::RequestHead head;
    // Of HTTP/2, on the connection.
    uint32_t stream = 0;
  };

  Batch();
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  Arena& arena() { return arena_; }
  int32_t size() const { return size_; }
  // At most so many until it is said anew, kMaxBatch or less.
  void bound(int32_t most) { most_ = most; }
  bool is_full() const { return size_ >= most_; }
  // Whether one more fits, with what Tables::match_words() says.
  bool has_room(size_t match_words) const { return !is_full() && predicates_used_ + match_words <= kPredicateWords; }
  // The next position: parse the head into it, then add_request(). Needs room.
  Pending* next() { return &pending_[size_]; }
  void add_request(const DescriptorContext& context, const Tables& tables, const uint8_t* base, size_t size);
  // False: no room in the arena. `stream` is the id on its connection.
  bool add_request(const DescriptorContext& context, const Tables& tables, const struct Http2Request& request, bool ends, uint32_t stream);
  void add_opaque(const DescriptorContext& context, const Tables& tables);
  // Of the request that was `decided` so.
  void add_held_answer(const DescriptorContext& context, StreamKind kind, const Decision& decided);

  // Marks every decision as not made and publishes the counts.
  void prepare(int32_t generation, uint64_t now_us, size_t ended_calls);
  const Pending& pending(int32_t index) const { return pending_[index]; }
  Decision decision(int32_t index) const;
  // Of Decision::text; valid until the next decide().
  std::string_view text(uint32_t place) const;
  // Empties requests and completions; the arena is the caller's to reset.
  void clear();
  // Nobody waits for their decisions any more.
  void drop_requests();

  int32_t completions() const { return completion_count_; }
  bool completions_full() const { return completion_count_ == kMaxCompletions; }
  void add_completion(const Completion& completion) { completions_[completion_count_++] = completion; }

  // Tokens of deferred decisions that TypeScript can make now.
  bool has_answered() const { return header_[static_cast<int32_t>(HeaderWord::AnsweredCount)] != 0; }
  template <typename Visit>
  void take_answered(Visit visit);

  // Byte offsets of the views in memory().
  struct Layout {
    size_t header, clock, descriptors, decisions, completions, predicates, answered, tried, texts, arena, total;
  };
  static Layout layout();
  uint8_t* memory() { return memory_; }

 private:
  int32_t* begin_descriptor(const DescriptorContext& context, StreamKind kind);
  void list_tried(const struct TriedEndpoints* tried);
  // Bits and values at the next free words, if the request has any.
  int32_t place_of(std::string_view bytes);
  void add_matches(bool any, const MatchedValues& values, const Tables& tables, int32_t* words);

  uint8_t* memory_;
  int32_t* header_;
  double* clock_;
  int32_t* descriptors_;
  int32_t* decisions_;
  Completion* completions_;
  uint32_t* predicates_;
  const int32_t* answered_;
  int32_t* tried_;
  const char* texts_;
  Arena arena_;
  std::unique_ptr<Pending[]> pending_;
  int32_t size_ = 0;
  int32_t most_ = kMaxBatch;
  int32_t completion_count_ = 0;
  size_t predicates_used_ = 0;
};

template <typename Visit>
void Batch::take_answered(Visit visit) {
  int32_t& count = header_[static_cast<int32_t>(HeaderWord::AnsweredCount)];
  for (int32_t i = 0; i < count && i < kMaxDeferred; i++) visit(answered_[i]);
  count = 0;
}

}  // namespace weft
