// HPACK's integers (RFC 7541 5.1), for decoder and encoder.
#pragma once

#include <cstdint>

namespace weft::http2 {

enum class IntegerStatus : uint8_t { kGood, kTruncated, kTooLarge };

/// Values of up to five bytes, below 2^28 + 255: more than any length or index may be. `*at` moves behind it.
inline IntegerStatus read_integer(const uint8_t** at, const uint8_t* end, unsigned prefix_bits, uint32_t* value) {
  if (*at == end) return IntegerStatus::kTruncated;
  const uint32_t mask = (1u << prefix_bits) - 1;
  *value = *(*at)++ & mask;
  if (*value < mask) [[likely]]
    return IntegerStatus::kGood;
  for (unsigned shift = 0; shift <= 21; shift += 7) {
    if (*at == end) return IntegerStatus::kTruncated;
    const uint8_t byte = *(*at)++;
    *value += static_cast<uint32_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return IntegerStatus::kGood;
  }
  return IntegerStatus::kTooLarge;
}

/// At most 6 bytes. `pattern` are the bits above the prefix.
inline uint8_t* write_integer(uint8_t pattern, unsigned prefix_bits, uint32_t value, uint8_t* out) {
  const uint32_t mask = (1u << prefix_bits) - 1;
  if (value < mask) {
    *out++ = static_cast<uint8_t>(pattern | value);
    return out;
  }
  *out++ = static_cast<uint8_t>(pattern | mask);
  for (value -= mask; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value | 0x80);
  *out++ = static_cast<uint8_t>(value);
  return out;
}

}  // namespace weft::http2
