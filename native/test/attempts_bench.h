// A reactor with two upstreams that listen and one that does not, whose decisions lead from one to the next. Shared by the tests of
// attempts.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "http2_loopback.h"
#include "loopback.h"

namespace weft::test {

// Decisions go to endpoint `attempt`: 0 and 1 listen, 2 doesn't. The retries that the route allows, and their conditions, are the test's.
struct AttemptsBench {
  Bench bench;
  uint16_t second_port = 0;
  int second_listener = bound_socket(&second_port);
  int32_t retries = 1;
  int32_t first = 0;
  int32_t attempt_timeout_ms = 0;
  int32_t timeout_ms = 0;
  int32_t hedge_ms = 0;
  // Instead of the endpoint that is next; negative: no hedge.
  int32_t hedge_target = 1;
  std::vector<std::vector<int32_t>> tried;
  std::vector<Completion> completions;

  explicit AttemptsBench(const RetrySpec& retry, Protocol spoken = Protocol::kHttp1, const EngineLimits& limits = {},
                         const std::optional<ConnectionPolicy>& policy = {})
      : bench(limits) {
    ::listen(second_listener, 64);
    TableSpec spec;
    spec.hosts = {"a.test"};
    spec.paths = {"/"};
    for (const auto& [id, port] : {std::pair<int32_t, uint16_t>{0, bench.upstream_port}, {1, second_port}, {2, bench.dead}}) {
      EndpointSpec endpoint;
      endpoint.id = id;
      endpoint.address = "127.0.0.1";
      endpoint.port = port;
      endpoint.protocol = spoken;
      if (policy) endpoint.connections = std::make_shared<const ConnectionPolicy>(*policy);
      spec.endpoints.push_back(endpoint);
    }
    spec.retries = {retry};
    std::string error;
    bench.reactor->use_tables(Tables::build(spec, &error));
    bench.decide = [this](int32_t attempt) {
      if (attempt > 0) tried.push_back(tried_now());
      Decision decision = Bench::to((first + attempt) % 3, kExtended | (attempt < retries ? kRetry : 0));
      decision.retry = 0;
      decision.attempt_timeout_ms = attempt_timeout_ms;
      decision.timeout_ms = timeout_ms;
      decision.hedge_ms = hedge_ms;
      if (is_hedge_now()) decision.target = hedge_target;
      return decision;
    };
    bench.on_completions = [this](int32_t count) {
      const auto* all = reinterpret_cast<const Completion*>(bench.reactor->batch().memory() + Batch::layout().completions);
      completions.insert(completions.end(), all, all + count);
    };
  }
  ~AttemptsBench() { ::close(second_listener); }

  // Of the only request in the batch.
  std::vector<int32_t> tried_now() {
    const auto* row = reinterpret_cast<const int32_t*>(bench.reactor->batch().memory() + Batch::layout().tried);
    return {row, std::find(row, row + kMaxTried, -1)};
  }
  bool is_hedge_now() {
    const auto* words = reinterpret_cast<const int32_t*>(bench.reactor->batch().memory() + Batch::layout().descriptors);
    return (words[static_cast<int32_t>(Descriptor::Flags)] & kDescriptorHedge) != 0;
  }
  int accept(int which) {
    const int listener = which == 0 ? bench.upstream_listener : second_listener;
    fcntl(listener, F_SETFL, O_NONBLOCK);
    int fd = -1;
    bench.run([&] { return fd >= 0 || (fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0; });
    return fd;
  }
  bool is_accounted() {
    for (const int32_t each : bench.outstanding)
      if (each != 0) return false;
    return true;
  }
  int64_t completed(CompletionKind kind, int32_t target) const {
    return std::count_if(completions.begin(), completions.end(),
                         [&](const Completion& each) { return each.kind == kind && each.target == target; });
  }
  // The first attempt, of whose end the completion tells.
  bool has_failed_by(int32_t status, Reason reason) const {
    const Completion& first = completions.front();
    return first.kind == CompletionKind::Failed && first.status == status && first.reason == static_cast<int32_t>(reason);
  }
  int32_t reason() const { return completions.empty() ? -1 : completions.back().reason; }
  bool ended() {
    return bench.run([&] {
      return std::any_of(completions.begin(), completions.end(), [](const Completion& each) { return each.kind == CompletionKind::Ended; });
    });
  }
};

inline RetrySpec retry_on(const std::function<void(RetrySpec*)>& set) {
  RetrySpec spec;
  set(&spec);
  return spec;
}

inline constexpr char kPost[] = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody";
inline std::string answer(int status, const std::string& lines = "") {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\n" + lines + "Content-Length: 2\r\n\r\nno";
}

}  // namespace weft::test
