// The classifiers against the grammar and against each other.
#include "core/http1/scanner.h"

#include <cstring>
#include <random>
#include <string_view>

#include "check.h"
#include "core/http1/ascii.h"

namespace weft::test {
namespace {

using namespace http1;

bool bit(const uint64_t* bitmap, size_t i) { return (bitmap[i / 64] >> (i % 64) & 1) != 0; }

TEST("every scanner puts every byte into the classes of the grammar") {
  uint8_t bytes[256];
  for (size_t i = 0; i < 256; i++) bytes[i] = static_cast<uint8_t>(i);
  for (const ScannerKind kind : kScannerKinds) {
    const ClassifyFunction classify = classify_function(kind);
    if (classify == nullptr) continue;
    Bitmaps maps;
    classify(bytes, 4, &maps);
    for (size_t i = 0; i < 256; i++) {
      const char c = static_cast<char>(i);
      CHECK_EQ(bit(maps.non_token, i), !is_token({&c, 1}));
      CHECK_EQ(bit(maps.control, i), !is_field_value({&c, 1}));
      CHECK_EQ(bit(maps.non_target, i), i <= 0x20 || i >= 0x7f || c == '#');
    }
  }
}

TEST("scanners agree on random bytes at any alignment") {
  std::mt19937_64 random(1);
  uint8_t bytes[kWindowBytes + 64];
  for (int round = 0; round < 2000; round++) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    const size_t offset = random() % 64, blocks = 1 + random() % kWindowBlocks;
    Bitmaps expected{}, actual{};
    classify_function(ScannerKind::kScalar)(bytes + offset, blocks, &expected);
    for (const ScannerKind kind : kScannerKinds) {
      if (classify_function(kind) == nullptr) continue;
      classify_function(kind)(bytes + offset, blocks, &actual);
      CHECK(memcmp(&expected, &actual, sizeof(expected)) == 0);
    }
  }
}

TEST("eight bytes are lowered as one by one") {
  std::string text, expected(256, 0), actual(256, 0);
  for (int i = 0; i < 256; i++) text += static_cast<char>(i);
  for (size_t begin = 0; begin < 256; begin += 5) {
    for (size_t size = 0; begin + size <= 256; size += 3) {
      for (size_t i = 0; i < size; i++) expected[i] = lower(text[begin + i]);
      copy_lower(std::string_view(text).substr(begin, size), actual.data());
      CHECK(memcmp(expected.data(), actual.data(), size) == 0);
    }
  }
}

}  // namespace
}  // namespace weft::test
