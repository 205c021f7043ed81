// How loader functions report what went wrong: nothing, or an errno with the thing, what was expected and what to do.
#pragma once
#include <optional>
#include <string>
#include <utility>

namespace weft::bpf {

struct Failure {
  // errno, positive.
  int code;
  std::string text;
};

// Empty: well.
using Outcome = std::optional<Failure>;

inline Failure failure(int code, std::string text) { return Failure{code < 0 ? -code : code, std::move(text)}; }

}  // namespace weft::bpf

// Returns the failure of `expression` from the enclosing function.
#define WEFT_TRY(expression) \
  if (auto weft_outcome = (expression)) return weft_outcome
