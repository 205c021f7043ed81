// The Huffman code: a table of 4,096 entries decodes up to two symbols a look-up (12 bits; text averages 5 to 6 bits a symbol).
#include "core/http2/hpack_huffman.h"

#include <array>
#include <cstring>

namespace weft::http2 {
namespace {

struct Code {
  uint32_t bits;
  uint8_t length;
};

constexpr unsigned kEos = 256;
/// RFC 7541 B, by symbol; the last is EOS.
constexpr Code kCodes[257] = {
    // clang-format off
    {0x1ff8, 13}, {0x7fffd8, 23}, {0xfffffe2, 28}, {0xfffffe3, 28}, {0xfffffe4, 28}, {0xfffffe5, 28}, {0xfffffe6, 28}, {0xfffffe7, 28},
    {0xfffffe8, 28}, {0xffffea, 24}, {0x3ffffffc, 30}, {0xfffffe9, 28}, {0xfffffea, 28}, {0x3ffffffd, 30}, {0xfffffeb, 28}, {0xfffffec, 28},
    {0xfffffed, 28}, {0xfffffee, 28}, {0xfffffef, 28}, {0xffffff0, 28}, {0xffffff1, 28}, {0xffffff2, 28}, {0x3ffffffe, 30}, {0xffffff3, 28},
    {0xffffff4, 28}, {0xffffff5, 28}, {0xffffff6, 28}, {0xffffff7, 28}, {0xffffff8, 28}, {0xffffff9, 28}, {0xffffffa, 28}, {0xffffffb, 28},
    {0x14, 6}, {0x3f8, 10}, {0x3f9, 10}, {0xffa, 12}, {0x1ff9, 13}, {0x15, 6}, {0xf8, 8}, {0x7fa, 11},
    {0x3fa, 10}, {0x3fb, 10}, {0xf9, 8}, {0x7fb, 11}, {0xfa, 8}, {0x16, 6}, {0x17, 6}, {0x18, 6},
    {0x0, 5}, {0x1, 5}, {0x2, 5}, {0x19, 6}, {0x1a, 6}, {0x1b, 6}, {0x1c, 6}, {0x1d, 6},
    {0x1e, 6}, {0x1f, 6}, {0x5c, 7}, {0xfb, 8}, {0x7ffc, 15}, {0x20, 6}, {0xffb, 12}, {0x3fc, 10},
    {0x1ffa, 13}, {0x21, 6}, {0x5d, 7}, {0x5e, 7}, {0x5f, 7}, {0x60, 7}, {0x61, 7}, {0x62, 7},
    {0x63, 7}, {0x64, 7}, {0x65, 7}, {0x66, 7}, {0x67, 7}, {0x68, 7}, {0x69, 7}, {0x6a, 7},
    {0x6b, 7}, {0x6c, 7}, {0x6d, 7}, {0x6e, 7}, {0x6f, 7}, {0x70, 7}, {0x71, 7}, {0x72, 7},
    {0xfc, 8}, {0x73, 7}, {0xfd, 8}, {0x1ffb, 13}, {0x7fff0, 19}, {0x1ffc, 13}, {0x3ffc, 14}, {0x22, 6},
    {0x7ffd, 15}, {0x3, 5}, {0x23, 6}, {0x4, 5}, {0x24, 6}, {0x5, 5}, {0x25, 6}, {0x26, 6},
    {0x27, 6}, {0x6, 5}, {0x74, 7}, {0x75, 7}, {0x28, 6}, {0x29, 6}, {0x2a, 6}, {0x7, 5},
    {0x2b, 6}, {0x76, 7}, {0x2c, 6}, {0x8, 5}, {0x9, 5}, {0x2d, 6}, {0x77, 7}, {0x78, 7},
    {0x79, 7}, {0x7a, 7}, {0x7b, 7}, {0x7ffe, 15}, {0x7fc, 11}, {0x3ffd, 14}, {0x1ffd, 13}, {0xffffffc, 28},
    {0xfffe6, 20}, {0x3fffd2, 22}, {0xfffe7, 20}, {0xfffe8, 20}, {0x3fffd3, 22}, {0x3fffd4, 22}, {0x3fffd5, 22}, {0x7fffd9, 23},
    {0x3fffd6, 22}, {0x7fffda, 23}, {0x7fffdb, 23}, {0x7fffdc, 23}, {0x7fffdd, 23}, {0x7fffde, 23}, {0xffffeb, 24}, {0x7fffdf, 23},
    {0xffffec, 24}, {0xffffed, 24}, {0x3fffd7, 22}, {0x7fffe0, 23}, {0xffffee, 24}, {0x7fffe1, 23}, {0x7fffe2, 23}, {0x7fffe3, 23},
    {0x7fffe4, 23}, {0x1fffdc, 21}, {0x3fffd8, 22}, {0x7fffe5, 23}, {0x3fffd9, 22}, {0x7fffe6, 23}, {0x7fffe7, 23}, {0xffffef, 24},
    {0x3fffda, 22}, {0x1fffdd, 21}, {0xfffe9, 20}, {0x3fffdb, 22}, {0x3fffdc, 22}, {0x7fffe8, 23}, {0x7fffe9, 23}, {0x1fffde, 21},
    {0x7fffea, 23}, {0x3fffdd, 22}, {0x3fffde, 22}, {0xfffff0, 24}, {0x1fffdf, 21}, {0x3fffdf, 22}, {0x7fffeb, 23}, {0x7fffec, 23},
    {0x1fffe0, 21}, {0x1fffe1, 21}, {0x3fffe0, 22}, {0x1fffe2, 21}, {0x7fffed, 23}, {0x3fffe1, 22}, {0x7fffee, 23}, {0x7fffef, 23},
    {0xfffea, 20}, {0x3fffe2, 22}, {0x3fffe3, 22}, {0x3fffe4, 22}, {0x7ffff0, 23}, {0x3fffe5, 22}, {0x3fffe6, 22}, {0x7ffff1, 23},
    {0x3ffffe0, 26}, {0x3ffffe1, 26}, {0xfffeb, 20}, {0x7fff1, 19}, {0x3fffe7, 22}, {0x7ffff2, 23}, {0x3fffe8, 22}, {0x1ffffec, 25},
    {0x3ffffe2, 26}, {0x3ffffe3, 26}, {0x3ffffe4, 26}, {0x7ffffde, 27}, {0x7ffffdf, 27}, {0x3ffffe5, 26}, {0xfffff1, 24}, {0x1ffffed, 25},
    {0x7fff2, 19}, {0x1fffe3, 21}, {0x3ffffe6, 26}, {0x7ffffe0, 27}, {0x7ffffe1, 27}, {0x3ffffe7, 26}, {0x7ffffe2, 27}, {0xfffff2, 24},
    {0x1fffe4, 21}, {0x1fffe5, 21}, {0x3ffffe8, 26}, {0x3ffffe9, 26}, {0xffffffd, 28}, {0x7ffffe3, 27}, {0x7ffffe4, 27}, {0x7ffffe5, 27},
    {0xfffec, 20}, {0xfffff3, 24}, {0xfffed, 20}, {0x1fffe6, 21}, {0x3fffe9, 22}, {0x1fffe7, 21}, {0x1fffe8, 21}, {0x7ffff3, 23},
    {0x3fffea, 22}, {0x3fffeb, 22}, {0x1ffffee, 25}, {0x1ffffef, 25}, {0xfffff4, 24}, {0xfffff5, 24}, {0x3ffffea, 26}, {0x7ffff4, 23},
    {0x3ffffeb, 26}, {0x7ffffe6, 27}, {0x3ffffec, 26}, {0x3ffffed, 26}, {0x7ffffe7, 27}, {0x7ffffe8, 27}, {0x7ffffe9, 27}, {0x7ffffea, 27},
    {0x7ffffeb, 27}, {0xffffffe, 28}, {0x7ffffec, 27}, {0x7ffffed, 27}, {0x7ffffee, 27}, {0x7ffffef, 27}, {0x7fffff0, 27}, {0x3ffffee, 26},
    {0x3fffffff, 30},
    // clang-format on
};

constexpr unsigned kLookupBits = 12;
constexpr unsigned kLongestCode = 30;

/// What the next 12 bits begin with.
struct Entry {
  uint8_t symbols[2];
  /// Length of the first symbol's code; 0: longer than 12 bits.
  uint8_t first_length;
  /// Of the one or two symbols.
  uint8_t length;
};

struct Tables {
  std::array<Entry, 1 << kLookupBits> entries;
  /// Codes of one length are consecutive, in the order of their symbols, and longer ones are greater (a canonical code).
  std::array<uint16_t, 257> by_code;
  /// The first value above the codes of that length, left-aligned in 32 bits, and how to get from a code to its place in by_code.
  std::array<uint64_t, kLongestCode + 1> limit;
  std::array<int64_t, kLongestCode + 1> offset;

  Tables() {
    unsigned count = 0;
    for (unsigned length = 1; length <= kLongestCode; length++) {
      uint64_t last = 0;
      const unsigned first = count;
      uint32_t first_code = 0;
      // Within one length the symbols' order is the codes' order.
      for (unsigned symbol = 0; symbol <= kEos; symbol++) {
        if (kCodes[symbol].length != length) continue;
        if (count == first) first_code = kCodes[symbol].bits;
        by_code[count++] = static_cast<uint16_t>(symbol);
        last = kCodes[symbol].bits;
      }
      limit[length] = count == first ? 0 : (last + 1) << (32 - length);
      offset[length] = static_cast<int64_t>(first) - static_cast<int64_t>(first_code);
    }
    for (unsigned bits = 0; bits < entries.size(); bits++) entries[bits] = make_entry(bits);
  }

  /// Symbol at the top of `bits` (left-aligned in 32), and its length.
  unsigned find(uint32_t bits, unsigned shortest, unsigned* length) const {
    unsigned at = shortest;
    while (bits >= limit[at]) at++;
    *length = at;
    return by_code[static_cast<size_t>(static_cast<int64_t>(bits >> (32 - at)) + offset[at])];
  }

  Entry make_entry(unsigned bits) const {
    Entry entry{{0, 0}, 0, 0};
    unsigned used = 0;
    for (unsigned i = 0; i < 2; i++) {
      // The bits that are missing count as 0: they do not make a code shorter than it is.
      const uint32_t rest = static_cast<uint32_t>(bits) << (32 - kLookupBits) << used;
      unsigned length;
      const unsigned symbol = find(rest, 5, &length);
      if (used + length > kLookupBits) break;
      entry.symbols[i] = static_cast<uint8_t>(symbol);
      used += length;
      if (i == 0) entry.first_length = static_cast<uint8_t>(length);
    }
    entry.length = static_cast<uint8_t>(used);
    return entry;
  }
};
const Tables kTables;

}  // namespace

int64_t huffman_decode(const uint8_t* data, size_t size, char* out) {
  const uint8_t* const end = data + size;
  char* const begin = out;
  // The next bits, left-aligned; `count` of them are real.
  uint64_t buffer = 0;
  unsigned count = 0;
  while (end - data >= 8) {
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    buffer |= __builtin_bswap64(word) >> count;
    data += (63 - count) >> 3;
    count |= 56;
    while (count >= kLongestCode + 2) {
      const Entry& entry = kTables.entries[buffer >> (64 - kLookupBits)];
      unsigned length = entry.length;
      if (entry.first_length != 0) [[likely]] {
        memcpy(out, entry.symbols, 2);
        out += entry.first_length == length ? 1 : 2;
      } else {
        const unsigned symbol = kTables.find(static_cast<uint32_t>(buffer >> 32), kLookupBits + 1, &length);
        if (symbol == kEos) return -1;
        *out++ = static_cast<char>(symbol);
      }
      buffer <<= length;
      count -= length;
    }
  }
  for (;;) {
    for (; count <= 56 && data < end; count += 8) buffer |= static_cast<uint64_t>(*data++) << (56 - count);
    const Entry& entry = kTables.entries[buffer >> (64 - kLookupBits)];
    unsigned length = entry.first_length, symbol = entry.symbols[0];
    if (length == 0) symbol = kTables.find(static_cast<uint32_t>(buffer >> 32), kLookupBits + 1, &length);
    if (length > count) break;
    if (symbol == kEos) return -1;
    *out++ = static_cast<char>(symbol);
    buffer <<= length;
    count -= length;
  }
  // RFC 7541 5.2: what is left is the most significant bits of EOS (ones), fewer than 8.
  if (count > 7 || (count != 0 && buffer >> (64 - count) != (1u << count) - 1)) return -1;
  return out - begin;
}

size_t huffman_encoded_size(std::string_view text) {
  size_t bits = 0;
  for (const char c : text) bits += kCodes[static_cast<unsigned char>(c)].length;
  return (bits + 7) / 8;
}

uint8_t* huffman_encode(std::string_view text, uint8_t* out) {
  uint64_t buffer = 0;
  unsigned count = 0;
  for (const char c : text) {
    const Code code = kCodes[static_cast<unsigned char>(c)];
    buffer = buffer << code.length | code.bits;
    count += code.length;
    for (; count >= 8; count -= 8) *out++ = static_cast<uint8_t>(buffer >> (count - 8));
  }
  if (count != 0) *out++ = static_cast<uint8_t>(buffer << (8 - count) | 0xff >> count);
  return out;
}

}  // namespace weft::http2
