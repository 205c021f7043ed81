// After which answers another attempt is made, and how long it waits.
#include "core/tables/retry_conditions.h"

#include "check.h"

namespace weft::test {
namespace {

AnswerSigns answer(int status, int grpc_status = -1) {
  AnswerSigns signs;
  signs.status = status;
  signs.grpc_status = grpc_status;
  return signs;
}

TEST("retry conditions: the statuses that are named are declined, of HTTP and of gRPC") {
  RetrySpec spec;
  spec.statuses = {500, 503};
  spec.grpc_statuses = {1, 14};
  const RetryConditions retry(spec);
  CHECK(retry.may_decline(500, false) && retry.may_decline(503, true));
  CHECK(!retry.may_decline(501, false) && !retry.may_decline(200, false) && !retry.may_decline(-1, false) &&
        !retry.may_decline(600, false));
  CHECK(retry.may_decline(200, true));
  CHECK(retry.declines(answer(500)) && !retry.declines(answer(200)));
  CHECK(retry.declines(answer(200, 14)) && retry.declines(answer(200, 1)) && !retry.declines(answer(200, 0)));
  CHECK(!retry.declines(answer(200, 2)) && !retry.declines(answer(200, 16)));
}

TEST("retry conditions: a header that is named is declined with any status, but not of an upstream that wants to be left alone") {
  RetrySpec spec;
  spec.headers = {"x-busy"};
  const RetryConditions retry(spec);
  AnswerSigns busy = answer(200);
  busy.retriable_header = true;
  CHECK(retry.may_decline(200, false) && retry.declines(busy) && !retry.declines(answer(200)));
  busy.overloaded = true;
  CHECK(!retry.declines(busy));
}

TEST("retry conditions: an upstream that is overloaded or limits rates is left alone, unless the latter is asked for") {
  RetrySpec spec;
  spec.statuses = {503, 429};
  AnswerSigns overloaded = answer(503);
  overloaded.overloaded = true;
  AnswerSigns limited = answer(429);
  limited.rate_limited = true;
  CHECK(!RetryConditions(spec).declines(overloaded) && !RetryConditions(spec).declines(limited));
  CHECK(RetryConditions(spec).declines(answer(429)));
  RetrySpec asked;
  asked.rate_limited = true;
  const RetryConditions retry(asked);
  CHECK(retry.may_decline(429, false) && retry.declines(limited));
  CHECK(!retry.declines(answer(429)));
}

TEST("retry conditions: each wait is longer, up to ten times the first") {
  RetrySpec spec;
  spec.backoff_ms = 10;
  const RetryConditions retry(spec);
  CHECK_EQ(retry.backoff_ms(1, 0), 10u);
  CHECK_EQ(retry.backoff_ms(2, 0), 20u);
  CHECK_EQ(retry.backoff_ms(15, 0), 100u);
  CHECK(retry.backoff_ms(1, 7919) <= 12u);
  CHECK_EQ(RetryConditions(RetrySpec{}).backoff_ms(3, 7919), 0u);
}

TEST("retry conditions: an answer says when, and a pushback that is no number says never") {
  RetrySpec spec;
  AnswerSigns signs = answer(503);
  CHECK_EQ(RetryConditions(spec).delay_ms(signs), RetryConditions::kNoDelay);
  signs.retry_after = "2";
  CHECK_EQ(RetryConditions(spec).delay_ms(signs), RetryConditions::kNoDelay);
  spec.heeds_retry_after = true;
  CHECK_EQ(RetryConditions(spec).delay_ms(signs), 2000);
  signs.retry_after = "Wed, 21 Oct 2026 07:28:00 GMT";
  CHECK_EQ(RetryConditions(spec).delay_ms(signs), RetryConditions::kNoDelay);
  signs.pushback = "70";
  CHECK_EQ(RetryConditions(spec).delay_ms(signs), 70);
  for (const char* never : {"-1", "", "x", "99999999999", "1x"}) {
    signs.pushback = never;
    const bool is_there = *never != 0;
    CHECK_EQ(RetryConditions(spec).delay_ms(signs), is_there ? RetryConditions::kNever : RetryConditions::kNoDelay);
  }
}

}  // namespace
}  // namespace weft::test
