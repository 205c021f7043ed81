// What the HTTP/1 fuzz targets share: a message stream must read the same with every scanner and at any cut.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "transcript.h"

namespace weft::fuzz {

/// The first byte chooses where the stream is cut; the rest is the stream.
inline void compare_transcripts(const uint8_t* data, size_t size, const test::TranscriptOptions& options) {
  if (size < 2) return;
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string expected = test::transcript(http1::classify_function(http1::ScannerKind::kScalar), stream, {}, options);
  const size_t cut = data[0] % stream.size();
  std::vector<size_t> often;
  for (size_t at = 1 + data[0] % 7; at < stream.size(); at += 1 + data[0] % 13) often.push_back(at);
  for (const http1::ScannerKind kind : http1::kScannerKinds) {
    const http1::ClassifyFunction classify = http1::classify_function(kind);
    if (classify == nullptr) continue;
    if (test::transcript(classify, stream, {cut}, options) == expected && test::transcript(classify, stream, often, options) == expected)
      continue;
    fprintf(stderr, "%s differs from:\n%s", http1::scanner_name(kind), expected.c_str());
    abort();
  }
}

inline void require(bool condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "violated: %s\n", what);
  abort();
}

}  // namespace weft::fuzz
