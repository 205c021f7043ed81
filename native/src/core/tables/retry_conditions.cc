// See retry_conditions.h.
#include "core/tables/retry_conditions.h"

#include <algorithm>
#include <charconv>

namespace weft {
namespace {

constexpr int kTooManyRequests = 429;

/// -1: it is no number, or one that nobody waits for.
int64_t whole_number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? int64_t{value} : -1;
}

}  // namespace

RetryConditions::RetryConditions(const RetrySpec& spec) : spec_(spec) {
  for (const int32_t status : spec.statuses)
    if (status >= 0 && status < 600) statuses_[static_cast<size_t>(status) / 64] |= 1ull << (status % 64);
  if (spec.rate_limited) statuses_[kTooManyRequests / 64] |= 1ull << (kTooManyRequests % 64);
  for (const int32_t status : spec.grpc_statuses)
    if (status > 0 && status <= 16) grpc_statuses_ |= 1u << status;
}

// Envoy's order: who is overloaded or limits rates says so to be left alone.
bool RetryConditions::declines(const AnswerSigns& signs) const {
  if (signs.overloaded) return false;
  if (signs.rate_limited) return spec_.rate_limited;
  if (signs.retriable_header) return true;
  if (signs.grpc_status >= 0 && (grpc_statuses_ >> signs.grpc_status & 1) != 0) return true;
  return std::find(spec_.statuses.begin(), spec_.statuses.end(), signs.status) != spec_.statuses.end();
}

uint64_t RetryConditions::backoff_ms(int32_t attempt, uint64_t random) const {
  const uint64_t base = spec_.backoff_ms;
  if (base == 0) return 0;
  const uint64_t most = std::min<uint64_t>(base << std::min(std::max(attempt - 1, 0), 4), base * 10);
  return most + random % (most / 4 + 1);
}

int64_t RetryConditions::delay_ms(const AnswerSigns& signs) const {
  if (!signs.pushback.empty()) {
    const int64_t ms = whole_number(signs.pushback);
    return ms >= 0 ? ms : kNever;
  }
  const int64_t seconds = spec_.heeds_retry_after ? whole_number(signs.retry_after) : -1;
  return seconds >= 0 ? seconds * 1000 : kNoDelay;
}

}  // namespace weft
