// After which ends of an attempt a route wants another one, and how long that waits. Pure; who makes attempts is the exchange.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

// The same as in agent/native/engine-tables.ts, field by field.
struct RetrySpec {
  /// Of answers that are not taken while another attempt may be made.
  std::vector<int32_t> statuses;
  /// The same for gRPC, where the answer's head says it (trailers-only).
  std::vector<int32_t> grpc_statuses;
  /// No connection was made.
  bool connect_failure = false;
  /// The upstream says that it did nothing with the request.
  bool refused = false;
  /// It ended without an answer, or its time was over.
  bool reset = false;
  /// 429 with x-envoy-ratelimited; without it such an answer is always taken.
  bool rate_limited = false;
  /// Methods that are not idempotent, too.
  bool any_method = false;
  /// A Retry-After in seconds is waited for.
  bool heeds_retry_after = false;
  /// Lower case: an answer that has one is not taken, whatever its status.
  std::vector<std::string> headers;
  /// Nor one that has a field which the request names (kRetriableHeaderNames).
  bool request_names_headers = false;
  /// Before the next attempt, doubled each time up to ten times as much, and a part of that by chance.
  uint32_t backoff_ms = 0;
};

/// What conditions look at in an answer's head; a text that it lacks is empty.
struct AnswerSigns {
  int status = 0;
  /// gRPC's of a trailers-only answer; -1: none.
  int grpc_status = -1;
  bool rate_limited = false;
  bool overloaded = false;
  /// It has a field by which answers are not taken.
  bool retriable_header = false;
  std::string_view retry_after;
  /// grpc-retry-pushback-ms.
  std::string_view pushback;
};

/// Of requests: names of fields, separated by commas.
inline constexpr std::string_view kRetriableHeaderNames = "x-envoy-retriable-header-names";

class RetryConditions {
 public:
  explicit RetryConditions(const RetrySpec& spec);

  /// Whether an answer of that status can be one that is not taken: only then its other signs are looked for.
  bool may_decline(int status, bool is_grpc) const {
    return looks_at_headers() || has_status(status) || (is_grpc && status == 200 && grpc_statuses_ != 0);
  }
  bool looks_at_headers() const { return spec_.request_names_headers || !spec_.headers.empty(); }
  bool request_names_headers() const { return spec_.request_names_headers; }
  const std::vector<std::string>& headers() const { return spec_.headers; }
  bool declines(const AnswerSigns& signs) const;
  bool connect_failure() const { return spec_.connect_failure; }
  bool refused() const { return spec_.refused; }
  bool reset() const { return spec_.reset; }
  bool any_method() const { return spec_.any_method; }

  /// Before attempt `attempt` (1: the second); `random` spreads it.
  uint64_t backoff_ms(int32_t attempt, uint64_t random) const;
  static constexpr int64_t kNoDelay = -1;
  static constexpr int64_t kNever = -2;
  /// What the answer itself wants: kNoDelay: nothing; kNever: no other attempt (gRFC A6).
  int64_t delay_ms(const AnswerSigns& signs) const;

 private:
  bool has_status(int status) const {
    const auto at = static_cast<size_t>(status);
    return at < 600 && (statuses_[at / 64] >> (at % 64) & 1) != 0;
  }

  RetrySpec spec_;
  std::array<uint64_t, 10> statuses_{};
  /// Bit i: status i.
  uint32_t grpc_statuses_ = 0;
};

}  // namespace weft
