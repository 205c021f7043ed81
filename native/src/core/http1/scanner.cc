// The three twins of the byte classifier and the choice between them.
#include "core/http1/scanner.h"

#include <array>
#include <string_view>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weft::http1 {
namespace {

enum ByteClass : uint8_t { kNonToken = 1, kControl = 2, kNonTarget = 4 };

constexpr bool is_tchar(unsigned c) {
  if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
  return c != 0 && std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
}

constexpr std::array<uint8_t, 256> make_classes() {
  std::array<uint8_t, 256> classes{};
  for (unsigned c = 0; c < 256; c++) {
    const bool control = (c < 0x20 && c != '\t') || c == 0x7f;
    const bool target = c > 0x20 && c < 0x7f && c != '#';
    classes[c] = static_cast<uint8_t>((is_tchar(c) ? 0 : kNonToken) | (control ? kControl : 0) | (target ? 0 : kNonTarget));
  }
  return classes;
}
constexpr std::array<uint8_t, 256> kClasses = make_classes();

/// The lowest bit of each byte of `word` shifted by `shift`, byte i in bit i: the product gathers them in the top byte.
uint64_t gather(uint64_t word, unsigned shift) { return ((word >> shift & 0x0101010101010101ull) * 0x0102040810204080ull) >> 56; }

void classify_scalar(const uint8_t* bytes, size_t blocks, Bitmaps* out) {
  for (size_t block = 0; block < blocks; block++) {
    uint64_t token = 0, control = 0, target = 0;
    for (unsigned i = 0; i < kBlockBytes; i += 8, bytes += 8) {
      uint64_t classes = 0;
      for (unsigned k = 0; k < 8; k++) classes |= static_cast<uint64_t>(kClasses[bytes[k]]) << (k * 8);
      token |= gather(classes, 0) << i;
      control |= gather(classes, 1) << i;
      target |= gather(classes, 2) << i;
    }
    out->non_token[block] = token;
    out->control[block] = control;
    out->non_target[block] = target;
  }
}

#if defined(__x86_64__)
// tchar by nibbles: the entry of the low nibble has bit h set if (h << 4 | low) is a tchar; bytes from 0x80 find no bit.
#define WEFT_TOKEN_LOW                                                                                                             \
  static_cast<char>(0xe8), static_cast<char>(0xfc), static_cast<char>(0xf8), static_cast<char>(0xfc), static_cast<char>(0xfc),     \
      static_cast<char>(0xfc), static_cast<char>(0xfc), static_cast<char>(0xfc), static_cast<char>(0xf8), static_cast<char>(0xf8), \
      static_cast<char>(0xf4), 0x54, static_cast<char>(0xd0), 0x54, static_cast<char>(0xf4), 0x70
#define WEFT_TOKEN_HIGH 1, 2, 4, 8, 16, 32, 64, static_cast<char>(128), 0, 0, 0, 0, 0, 0, 0, 0

__attribute__((target("sse4.2"))) void classify_sse42(const uint8_t* bytes, size_t blocks, Bitmaps* out) {
  const __m128i low_table = _mm_setr_epi8(WEFT_TOKEN_LOW);
  const __m128i high_table = _mm_setr_epi8(WEFT_TOKEN_HIGH);
  const __m128i nibble = _mm_set1_epi8(15);
  for (size_t block = 0; block < blocks; block++) {
    uint64_t token = 0, control = 0, target = 0;
    for (size_t part = 0; part < 4; part++) {
      const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + block * kBlockBytes + part * 16));
      const __m128i low = _mm_shuffle_epi8(low_table, _mm_and_si128(v, nibble));
      const __m128i high = _mm_shuffle_epi8(high_table, _mm_and_si128(_mm_srli_epi16(v, 4), nibble));
      const __m128i no_token = _mm_cmpeq_epi8(_mm_and_si128(low, high), _mm_setzero_si128());
      const __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
      const __m128i below_space = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
      const __m128i is_control = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\t')), below_space), del);
      // Signed: obs-text is negative, so it is not above the space either.
      const __m128i hash_or_del = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('#')), del);
      const __m128i is_target = _mm_andnot_si128(hash_or_del, _mm_cmpgt_epi8(v, _mm_set1_epi8(0x20)));
      const unsigned shift = static_cast<unsigned>(part) * 16;
      token |= static_cast<uint64_t>(static_cast<uint16_t>(_mm_movemask_epi8(no_token))) << shift;
      control |= static_cast<uint64_t>(static_cast<uint16_t>(_mm_movemask_epi8(is_control))) << shift;
      target |= static_cast<uint64_t>(static_cast<uint16_t>(~_mm_movemask_epi8(is_target))) << shift;
    }
    out->non_token[block] = token;
    out->control[block] = control;
    out->non_target[block] = target;
  }
}

__attribute__((target("avx2"))) void classify_avx2(const uint8_t* bytes, size_t blocks, Bitmaps* out) {
  const __m256i low_table = _mm256_broadcastsi128_si256(_mm_setr_epi8(WEFT_TOKEN_LOW));
  const __m256i high_table = _mm256_broadcastsi128_si256(_mm_setr_epi8(WEFT_TOKEN_HIGH));
  const __m256i nibble = _mm256_set1_epi8(15);
  for (size_t block = 0; block < blocks; block++) {
    uint64_t token = 0, control = 0, target = 0;
    for (size_t part = 0; part < 2; part++) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + block * kBlockBytes + part * 32));
      const __m256i low = _mm256_shuffle_epi8(low_table, _mm256_and_si256(v, nibble));
      const __m256i high = _mm256_shuffle_epi8(high_table, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));
      const __m256i no_token = _mm256_cmpeq_epi8(_mm256_and_si256(low, high), _mm256_setzero_si256());
      const __m256i del = _mm256_cmpeq_epi8(v, _mm256_set1_epi8(0x7f));
      const __m256i below_space = _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v);
      const __m256i is_control = _mm256_or_si256(_mm256_andnot_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('\t')), below_space), del);
      const __m256i hash_or_del = _mm256_or_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('#')), del);
      const __m256i is_target = _mm256_andnot_si256(hash_or_del, _mm256_cmpgt_epi8(v, _mm256_set1_epi8(0x20)));
      const unsigned shift = static_cast<unsigned>(part) * 32;
      token |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(no_token))) << shift;
      control |= static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(is_control))) << shift;
      target |= static_cast<uint64_t>(~static_cast<uint32_t>(_mm256_movemask_epi8(is_target))) << shift;
    }
    out->non_token[block] = token;
    out->control[block] = control;
    out->non_target[block] = target;
  }
}
#undef WEFT_TOKEN_LOW
#undef WEFT_TOKEN_HIGH
#endif

ScannerKind resolve_best() {
  if (classify_function(ScannerKind::kAvx2) != nullptr) return ScannerKind::kAvx2;
  if (classify_function(ScannerKind::kSse42) != nullptr) return ScannerKind::kSse42;
  return ScannerKind::kScalar;
}

}  // namespace

ClassifyFunction classify_function(ScannerKind kind) {
  if (kind == ScannerKind::kScalar) return classify_scalar;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (kind == ScannerKind::kSse42 && __builtin_cpu_supports("sse4.2")) return classify_sse42;
  if (kind == ScannerKind::kAvx2 && __builtin_cpu_supports("avx2")) return classify_avx2;
#endif
  return nullptr;
}

ScannerKind best_scanner() {
  static const ScannerKind best = resolve_best();
  return best;
}

const char* scanner_name(ScannerKind kind) {
  switch (kind) {
    case ScannerKind::kScalar:
      return "scalar";
    case ScannerKind::kSse42:
      return "sse4.2";
    case ScannerKind::kAvx2:
      return "avx2";
  }
  return "?";
}

}  // namespace weft::http1
