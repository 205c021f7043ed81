// Byte classification for the HTTP/1 parsers: bitmaps of "interesting" bytes per 64-byte block, by AVX2, SSE4.2 or plain C++.
// Knows character classes only, nothing of HTTP structure. All variants give identical bitmaps (differential test and fuzzers).
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::http1 {

/// Blocks classified by one call; one window covers most heads, so that the indirect call is paid once or twice a head, and little of the
/// body that came behind it is looked at.
inline constexpr size_t kBlockBytes = 64;
inline constexpr size_t kWindowBlocks = 4;
inline constexpr size_t kWindowBytes = kBlockBytes * kWindowBlocks;

/// Bit i of word b belongs to byte b * 64 + i of the window.
struct Bitmaps {
  /// Not a tchar (RFC 9110 5.6.2).
  uint64_t non_token[kWindowBlocks];
  /// Control byte other than HTAB: 0x00-0x08, 0x0a-0x1f, 0x7f. obs-text (0x80-0xff) is not control.
  uint64_t control[kWindowBlocks];
  /// Cannot stand in a request target: anything but 0x21-0x7e, and '#'.
  uint64_t non_target[kWindowBlocks];
};

/// Classifies `blocks` (1..kWindowBlocks) blocks; reads exactly 64 * blocks bytes from `bytes`, no alignment needed.
using ClassifyFunction = void (*)(const uint8_t* bytes, size_t blocks, Bitmaps* out);

enum class ScannerKind : uint8_t { kScalar, kSse42, kAvx2 };
inline constexpr ScannerKind kScannerKinds[] = {ScannerKind::kScalar, ScannerKind::kSse42, ScannerKind::kAvx2};

/// Null where this processor (or architecture) lacks the instructions.
ClassifyFunction classify_function(ScannerKind kind);

/// The fastest that this processor has; resolved once.
ScannerKind best_scanner();

const char* scanner_name(ScannerKind kind);

}  // namespace weft::http1
