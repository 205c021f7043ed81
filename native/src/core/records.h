// The words of the records that engine and TypeScript share, in the order of agent/native/engine-records.ts. Nothing else knows a layout.
#pragma once
#include <cstdint>

#include "core/load_report.h"

namespace weft {

inline constexpr int32_t kMaxBatch = 256;
inline constexpr int32_t kMaxCompletions = 4096;
inline constexpr int32_t kMaxDeferred = 16384;
// Endpoints of one request that failed, which its next decision is told of.
inline constexpr int32_t kMaxTried = 16;

inline constexpr int32_t kDescriptorWords = 24;
enum class Descriptor : int32_t {
  Slot = 0,
  SlotGeneration = 1,
  HeadOffset = 2,
  HeadLength = 3,
  Kind = 4,
  Method = 5,
  ListenerId = 6,
  DestinationId = 7,
  HostId = 8,
  PathId = 9,
  Flags = 10,
  PredicateOffset = 11,
  SourceId = 12,
  BodyLength = 13,
  PathOffset = 14,
  PathLength = 15,
  AuthorityOffset = 16,
  AuthorityLength = 17,
  Attempt = 18,
  Random = 19,
  PreviousTarget = 20,
  PreviousToken = 21,
  ServerNameId = 22,
  PeerIdentityId = 23,
};
static_assert(static_cast<int32_t>(Descriptor::PeerIdentityId) < kDescriptorWords);

enum class StreamKind : int32_t { Http1 = 0, Http2 = 1, Opaque = 2 };

inline constexpr int32_t kDescriptorPathExact = 1;
inline constexpr int32_t kDescriptorHasBody = 2;
inline constexpr int32_t kDescriptorUpgrade = 4;
inline constexpr int32_t kDescriptorPathAmbiguous = 8;
inline constexpr int32_t kDescriptorTls = 16;
inline constexpr int32_t kDescriptorTlsPassthrough = 32;
inline constexpr int32_t kDescriptorAnswered = 64;
inline constexpr int32_t kDescriptorTentative = 128;
inline constexpr int32_t kDescriptorDialled = 256;
inline constexpr int32_t kDescriptorMirror = 512;
inline constexpr int32_t kDescriptorHedge = 1024;
inline constexpr int32_t kDescriptorFiltered = 2048;
inline constexpr int32_t kDescriptorHeldAnswer = 4096;
inline constexpr int32_t kDescriptorCall = 8192;
inline constexpr int32_t kDescriptorBodyHeld = 16384;
inline constexpr int32_t kDescriptorBodyTooLong = 32768;

inline constexpr int32_t kDecisionWords = 22;
enum class DecisionWord : int32_t {
  Target = 0,
  Flags = 1,
  Token = 2,
  RequestMutation = 3,
  ResponseMutation = 4,
  TimeoutMs = 5,
  AttemptTimeoutMs = 6,
  LocalReply = 7,
  RouteId = 8,
  Rewrite = 9,
  Text = 10,
  Cors = 11,
  Mirrors = 12,
  MirrorMask = 13,
  Retry = 14,
  DelayMs = 15,
  AnswerLines = 16,
  HedgeMs = 17,
  IdleTimeoutMs = 18,
  AnswerFilters = 19,
  AnswerService = 20,
  BodyBytes = 21,
};

inline constexpr int32_t kBindClient = 1;
inline constexpr int32_t kMarkDeliver = 2;
inline constexpr int32_t kMarkInject = 4;
inline constexpr int32_t kLog = 8;
inline constexpr int32_t kRetry = 16;
// The words from Rewrite on were written; without it they are none.
inline constexpr int32_t kExtended = 32;
// Its completion is told in the tick in which it ends.
inline constexpr int32_t kPrompt = 64;
// Said again in the request's later descriptors.
inline constexpr int32_t kFiltered = 128;
// What the answer says of its endpoint's load is read, and stands in the completion.
inline constexpr int32_t kReadLoad = 256;

// Target: the connection's original destination; at or below kTargetLocal: answered here.
inline constexpr int32_t kTargetOriginal = -1;
// Not decided yet: the token will stand among the answered ones.
inline constexpr int32_t kTargetDeferred = -2;
// Not decided yet: the request comes again with its body, held whole, or with what there was when it was too long.
inline constexpr int32_t kTargetCollect = -3;
inline constexpr int32_t kTargetLocal = -100;
// What the engine writes before decide(), so that a decision that was not made is seen.
inline constexpr int32_t kTargetUndecided = INT32_MIN;

// One row of the decisions array, as C++ reads it.
struct Decision {
  int32_t target = kTargetUndecided;
  int32_t flags = 0;
  int32_t token = 0;
  int32_t request_mutation = -1;
  int32_t response_mutation = -1;
  int32_t timeout_ms = 0;
  int32_t attempt_timeout_ms = 0;
  int32_t local_reply = -1;
  int32_t route_id = -1;
  int32_t rewrite = -1;
  // Path to send, in Batch's texts: offset in the high half, length in the low; 0: none.
  uint32_t text = 0;
  int32_t cors = -1;
  int32_t mirrors = -1;
  // Bit i: a copy goes to mirror `mirrors` + i.
  int32_t mirror_mask = 0;
  int32_t retry = -1;
  int32_t delay_ms = 0;
  // Lines for whatever answer there will be, in Batch's texts: as `text`.
  uint32_t answer_lines = 0;
  int32_t hedge_ms = 0;
  int32_t idle_timeout_ms = 0;
  // Both said again in the descriptor of the answer, which is held; -1: it is not.
  int32_t answer_filters = -1;
  int32_t answer_service = 0;
  // Of the body to hold at most: the request's (kTargetCollect), or with the answer its; 0: none.
  int32_t body_bytes = 0;

  bool has(int32_t flag) const { return (flags & flag) != 0; }
  bool is_local() const { return target <= kTargetLocal; }
};
static_assert(sizeof(Decision) == kDecisionWords * sizeof(int32_t));

inline constexpr int32_t kCompletionWords = 16;
enum class CompletionKind : int32_t { Ended = 0, Settled = 1, Abandoned = 2, Failed = 3 };
struct Completion {
  int32_t target;
  int32_t token;
  int32_t status;
  int32_t reason;
  int32_t latency_us;
  int32_t first_byte_us;
  uint32_t received_low;
  uint32_t received_high;
  uint32_t sent_low;
  uint32_t sent_high;
  int32_t attempts;
  CompletionKind kind;
  int32_t grpc_status;
  LoadReport load;
};
static_assert(sizeof(Completion) == kCompletionWords * sizeof(int32_t));

inline constexpr int32_t kHeaderWords = 16;
enum class HeaderWord : int32_t { RequestCount = 0, CompletionCount = 1, Generation = 2, AnsweredCount = 3, TextBytes = 4, EndedCalls = 5 };

}  // namespace weft
