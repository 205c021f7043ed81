// Fills descriptors and reads decisions; the words are those of agent/native/engine-records.ts.
#include "core/batch.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "core/exchange.h"
#include "core/http2/match.h"

namespace weft {

namespace {

uint8_t* map_region(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  return static_cast<uint8_t*>(memory);
}

constexpr size_t page(size_t bytes) { return (bytes + 4095) & ~size_t{4095}; }

template <typename Word>
void set(int32_t* words, Word word, int64_t value) {
  words[static_cast<int32_t>(word)] = static_cast<int32_t>(value);
}

int32_t clipped_length(const http1::RequestHead& head) {
  if (head.chunked) return -1;
  if (!head.has_content_length) return 0;
  return head.content_length > INT32_MAX ? INT32_MAX : static_cast<int32_t>(head.content_length);
}

int32_t clipped_length(const http2::RequestSummary& summary) {
  if (!summary.has_content_length) return -1;
  return summary.content_length > INT32_MAX ? INT32_MAX : static_cast<int32_t>(summary.content_length);
}

// As tables keep addresses.
void add_client(const DescriptorContext& context, const Tables& tables, MatchedValues* values) {
  if (tables.client_value() < 0 || context.client == nullptr) return;
  const auto& bytes = context.client->bytes;
  values->add(tables.client_value(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

Batch::Layout Batch::layout() {
  Layout at = {};
  at.header = 0;
  at.clock = kHeaderWords * sizeof(int32_t);
  at.descriptors = 4096;
  at.decisions = at.descriptors + page(size_t{kMaxBatch} * kDescriptorWords * sizeof(int32_t));
  at.completions = at.decisions + page(size_t{kMaxBatch} * kDecisionWords * sizeof(int32_t));
  at.predicates = at.completions + page(size_t{kMaxCompletions} * sizeof(Completion));
  at.answered = at.predicates + page(kPredicateWords * sizeof(uint32_t));
  at.tried = at.answered + page(size_t{kMaxDeferred} * sizeof(int32_t));
  at.texts = at.tried + page(size_t{kMaxBatch} * kMaxTried * sizeof(int32_t));
  at.arena = at.texts + page(kTextBytes);
  at.total = at.arena + kArenaBytes;
  return at;
}

Batch::Batch() : memory_(map_region(layout().total)), arena_(memory_ + layout().arena, kArenaBytes), pending_(new Pending[kMaxBatch]) {
  const Layout at = layout();
  header_ = reinterpret_cast<int32_t*>(memory_ + at.header);
  clock_ = reinterpret_cast<double*>(memory_ + at.clock);
  descriptors_ = reinterpret_cast<int32_t*>(memory_ + at.descriptors);
  decisions_ = reinterpret_cast<int32_t*>(memory_ + at.decisions);
  completions_ = reinterpret_cast<Completion*>(memory_ + at.completions);
  predicates_ = reinterpret_cast<uint32_t*>(memory_ + at.predicates);
  answered_ = reinterpret_cast<int32_t*>(memory_ + at.answered);
  tried_ = reinterpret_cast<int32_t*>(memory_ + at.tried);
  texts_ = reinterpret_cast<const char*>(memory_ + at.texts);
}

Batch::~Batch() { munmap(memory_, layout().total); }

int32_t* Batch::begin_descriptor(const DescriptorContext& context, StreamKind kind) {
  int32_t* words = descriptors_ + size_t{kDescriptorWords} * static_cast<size_t>(size_);
  memset(words, 0, kDescriptorWords * sizeof(int32_t));
  set(words, Descriptor::Slot, context.handle.slot);
  set(words, Descriptor::SlotGeneration, context.handle.generation);
  set(words, Descriptor::Kind, static_cast<int32_t>(kind));
  set(words, Descriptor::Method, 255);
  set(words, Descriptor::ListenerId, context.listener_id);
  set(words, Descriptor::DestinationId, context.destination_id);
  set(words, Descriptor::SourceId, context.source_id);
  set(words, Descriptor::ServerNameId, context.server_name_id);
  set(words, Descriptor::PeerIdentityId, context.peer_identity_id);
  set(words, Descriptor::Flags, context.flags);
  set(words, Descriptor::HostId, -1);
  set(words, Descriptor::PathId, -1);
  set(words, Descriptor::PredicateOffset, -1);
  set(words, Descriptor::Attempt, context.attempt);
  set(words, Descriptor::PreviousTarget, context.previous_target);
  set(words, Descriptor::PreviousToken, context.previous_token);
  set(words, Descriptor::Random, context.random);
  if (context.attempt != 0) list_tried(context.tried);
  pending_[size_].handle = context.handle;
  pending_[size_].kind = kind;
  return words;
}

// Up to the first -1.
void Batch::list_tried(const TriedEndpoints* tried) {
  int32_t* row = tried_ + size_t{kMaxTried} * static_cast<size_t>(size_);
  const int32_t count = tried != nullptr ? tried->count : 0;
  if (count != 0) memcpy(row, tried->ids.data(), static_cast<size_t>(count) * sizeof(int32_t));
  if (count < kMaxTried) row[count] = -1;
}

void Batch::add_request(const DescriptorContext& context, const Tables& tables, const uint8_t* base, size_t size) {
  Pending& pending = pending_[size_];
  pending.base = base;
  pending.size = size;
  const http1::RequestHead& head = pending.head;
  int32_t* words = begin_descriptor(context, StreamKind::Http1);
  const int32_t offset = arena_.offset(base);
  const PathMatch path = tables.path(head.path.in(base));
  int32_t flags = context.flags;
  if (path.exact) flags |= kDescriptorPathExact;
  if (head.has_body) flags |= kDescriptorHasBody;
  if (head.wants_upgrade) flags |= kDescriptorUpgrade;
  if (head.path_is_ambiguous) flags |= kDescriptorPathAmbiguous;
  set(words, Descriptor::HeadOffset, offset);
  set(words, Descriptor::HeadLength, head.size);
  set(words, Descriptor::Method, static_cast<int32_t>(head.method));
  set(words, Descriptor::HostId, tables.host(head.authority.in(base)));
  set(words, Descriptor::PathId, path.id);
  set(words, Descriptor::Flags, flags);
  set(words, Descriptor::BodyLength, clipped_length(head));
  set(words, Descriptor::PathOffset, offset + static_cast<int64_t>(head.path.offset));
  set(words, Descriptor::PathLength, head.path.size);
  set(words, Descriptor::AuthorityOffset, offset + static_cast<int64_t>(head.authority.offset));
  set(words, Descriptor::AuthorityLength, head.authority.size);
  if (tables.match_words() != 0) {
    MatchedValues values;
    const bool any = tables.match_predicates(head, base, predicates_ + predicates_used_, &values);
    add_client(context, tables, &values);
    add_matches(any, values, tables, words);
  }
  size_++;
}

bool Batch::add_request(const DescriptorContext& context, const Tables& tables, const Http2Request& request, bool ends, uint32_t stream) {
  const http2::RequestSummary& summary = request.summary;
  const size_t path_size = summary.path.size(), authority_size = summary.authority.size();
  // And for the values that patterns look at: of one that found no room nothing would be known.
  const size_t values_size = tables.looks_at_values() ? request.block.list_size() + MatchedValues::kMax * 2 * kScanPadding : 0;
  uint8_t* base = arena_.peek(path_size + authority_size + values_size);
  if (base == nullptr) return false;
  if (path_size != 0) memcpy(base, summary.path.data(), path_size);
  if (authority_size != 0) memcpy(base + path_size, summary.authority.data(), authority_size);
  arena_.commit(path_size + authority_size);
  Pending& pending = pending_[size_];
  pending.base = nullptr;
  pending.size = 0;
  pending.stream = stream;
  int32_t* words = begin_descriptor(context, StreamKind::Http2);
  const int32_t offset = arena_.offset(base);
  const PathMatch path = http2::match_path(tables, summary);
  int32_t flags = context.flags;
  if (path.exact) flags |= kDescriptorPathExact;
  if (!ends) flags |= kDescriptorHasBody;
  if (summary.is_extended_connect) flags |= kDescriptorUpgrade;
  if (summary.path_is_ambiguous) flags |= kDescriptorPathAmbiguous;
  set(words, Descriptor::Method, static_cast<int32_t>(summary.method));
  set(words, Descriptor::HostId, http2::match_host(tables, summary));
  set(words, Descriptor::PathId, path.id);
  set(words, Descriptor::Flags, flags);
  set(words, Descriptor::BodyLength, ends ? 0 : clipped_length(summary));
  set(words, Descriptor::PathOffset, offset);
  set(words, Descriptor::PathLength, static_cast<int64_t>(path_size));
  set(words, Descriptor::AuthorityOffset, offset + static_cast<int64_t>(path_size));
  set(words, Descriptor::AuthorityLength, static_cast<int64_t>(authority_size));
  if (tables.match_words() != 0) {
    MatchedValues values;
    const bool any = http2::match_predicates(tables, request.block, summary, predicates_ + predicates_used_, &values);
    add_client(context, tables, &values);
    add_matches(any, values, tables, words);
  }
  size_++;
  return true;
}

// Behind the bits, if the tables look at values: how many there are, then of each its index, and where it lies in the arena.
void Batch::add_matches(bool any, const MatchedValues& values, const Tables& tables, int32_t* words) {
  if (!any && values.size() == 0) return;
  set(words, Descriptor::PredicateOffset, static_cast<int64_t>(predicates_used_));
  auto* at = reinterpret_cast<int32_t*>(predicates_ + predicates_used_ + tables.predicate_words());
  predicates_used_ += tables.match_words();
  if (!tables.looks_at_values()) return;
  *at++ = static_cast<int32_t>(values.size());
  for (const MatchedValues::Value& value : values) {
    *at++ = value.index;
    *at++ = place_of({value.data, value.size});
    *at++ = static_cast<int32_t>(value.size);
  }
}

// Copied into the arena unless it lies there; without room it is a value that no pattern matches and none differs from.
int32_t Batch::place_of(std::string_view bytes) {
  const auto* from = reinterpret_cast<const uint8_t*>(bytes.data());
  if (arena_.holds(from)) return arena_.offset(from);
  uint8_t* copy = arena_.peek(bytes.size());
  if (copy == nullptr) return -1;
  if (!bytes.empty()) memcpy(copy, bytes.data(), bytes.size());
  arena_.commit(bytes.size());
  return arena_.offset(copy);
}

void Batch::add_opaque(const DescriptorContext& context, const Tables& tables) {
  pending_[size_].base = nullptr;
  pending_[size_].size = 0;
  int32_t* words = begin_descriptor(context, StreamKind::Opaque);
  if (tables.client_value() >= 0) {
    MatchedValues values;
    add_client(context, tables, &values);
    memset(predicates_ + predicates_used_, 0, tables.predicate_words() * sizeof(uint32_t));
    add_matches(false, values, tables, words);
  }
  size_++;
}

void Batch::add_held_answer(const DescriptorContext& context, StreamKind kind, const Decision& decided) {
  pending_[size_].base = nullptr;
  pending_[size_].size = 0;
  int32_t* words = begin_descriptor(context, kind);
  set(words, Descriptor::HostId, decided.answer_service);
  set(words, Descriptor::PathId, decided.answer_filters);
  size_++;
}

void Batch::prepare(int32_t generation, uint64_t now_us, size_t ended_calls) {
  set(header_, HeaderWord::RequestCount, size_);
  set(header_, HeaderWord::CompletionCount, completion_count_);
  set(header_, HeaderWord::Generation, generation);
  set(header_, HeaderWord::TextBytes, 0);
  set(header_, HeaderWord::EndedCalls, static_cast<int64_t>(ended_calls));
  clock_[0] = static_cast<double>(now_us);
  for (int32_t i = 0; i < size_; i++) decisions_[i * kDecisionWords] = kTargetUndecided;
}

Decision Batch::decision(int32_t index) const {
  Decision decision;
  const int32_t* words = decisions_ + size_t{kDecisionWords} * static_cast<size_t>(index);
  constexpr size_t kUsual = static_cast<size_t>(DecisionWord::Rewrite) * sizeof(int32_t);
  memcpy(static_cast<void*>(&decision), words, kUsual);
  if (decision.has(kExtended)) memcpy(static_cast<void*>(&decision), words, sizeof(decision));
  return decision;
}

std::string_view Batch::text(uint32_t place) const {
  const size_t offset = place >> 16, size = place & 0xffff;
  return offset + size <= kTextBytes ? std::string_view(texts_ + offset, size) : std::string_view();
}

void Batch::clear() {
  drop_requests();
  completion_count_ = 0;
}

void Batch::drop_requests() {
  size_ = 0;
  predicates_used_ = 0;
}

}  // namespace weft
