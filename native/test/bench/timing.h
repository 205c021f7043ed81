// What a piece of code costs, in time: for what is too short to be counted otherwise.
#pragma once

#include <algorithm>
#include <chrono>

namespace weft {

/// Stops the compiler from leaving the work out.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

/// Best of several rounds: what `body` costs when nothing else runs.
template <typename Body>
double nanoseconds(Body body) {
  constexpr int kRounds = 20, kTimes = 5000;
  double best = 1e9;
  for (int round = 0; round < kRounds; round++) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kTimes; i++) body();
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count() / kTimes);
  }
  return best;
}

}  // namespace weft
