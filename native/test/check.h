// The unit tests' runner: named tests that register themselves, and checks that go on after a failure.
#pragma once

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace weft::test {

struct Case {
  const char* name;
  void (*body)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct Register {
  Register(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

/// Failures of the test that runs.
inline int failures = 0;
/// Why the test that runs can't; nullptr where it can.
inline const char* skipped = nullptr;

template <typename T>
std::string shown(const T& value) {
  std::ostringstream text;
  if constexpr (std::is_enum_v<T>) {
    text << static_cast<long>(value);
  } else {
    text << value;
  }
  return text.str();
}

inline void fail(const char* file, int line, const std::string& what) {
  failures++;
  fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

template <typename A, typename B>
void equal(const char* file, int line, const char* expression, const A& actual, const B& expected) {
  if (actual == expected) return;
  fail(file, line, std::string(expression) + "\n  is       " + shown(actual) + "\n  expected " + shown(expected));
}

}  // namespace weft::test

#define WEFT_JOIN_(a, b) a##b
#define WEFT_JOIN(a, b) WEFT_JOIN_(a, b)
#define WEFT_TEST_(name, function)                                                    \
  static void function();                                                             \
  static const weft::test::Register WEFT_JOIN(function, _registered)(name, function); \
  static void function()
#define TEST(name) WEFT_TEST_(name, WEFT_JOIN(test_, __COUNTER__))
#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) weft::test::fail(__FILE__, __LINE__, "not true: " #condition); \
  } while (false)
/// Actual value first.
#define CHECK_EQ(actual, expected) weft::test::equal(__FILE__, __LINE__, #actual, actual, expected)
