// Why an exchange did not go well. The names are Envoy's response flags; the order is COMPLETION_REASONS of agent/native/engine-records.ts.
#pragma once
#include <cstdint>

namespace weft {

// X(identifier, name)
#define WEFT_REASONS(X)        \
  X(None, "")                  \
  X(NoRoute, "NR")             \
  X(NoHealthyUpstream, "UH")   \
  X(ConnectFailure, "UF")      \
  X(UpstreamReset, "UC")       \
  X(UpstreamTimeout, "UT")     \
  X(RetriesExhausted, "URX")   \
  X(DownstreamClosed, "DC")    \
  X(DownstreamProtocol, "DPE") \
  X(UpstreamProtocol, "UPE")   \
  X(Overflow, "UO")            \
  X(LocalReset, "LR")          \
  X(DownstreamTimeout, "DT")   \
  X(RateLimited, "RL")         \
  X(RateLimitError, "RLSE")    \
  X(FilterFailed, "FF")

enum class Reason : int32_t {
#define X(identifier, name) identifier,
  WEFT_REASONS(X)
#undef X
};

}  // namespace weft
