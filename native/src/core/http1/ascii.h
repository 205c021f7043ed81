// ASCII comparison and white space as HTTP defines them: no locale.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace weft::http1 {

constexpr bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
constexpr bool is_blank(unsigned char c) { return c == ' ' || c == '\t'; }
constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

/// Case-insensitive; `literal` must be lower case.
constexpr bool equals_lower(std::string_view text, std::string_view literal) {
  if (text.size() != literal.size()) return false;
  for (size_t i = 0; i < text.size(); i++) {
    if (lower(text[i]) != literal[i]) return false;
  }
  return true;
}

/// Eight bytes lowered at once; bytes from 0x80 stay.
inline uint64_t lower8(uint64_t word) {
  const uint64_t ones = 0x0101010101010101ull, high = ones * 0x80, low7 = word & ~high;
  const uint64_t from_a = low7 + ones * (0x80 - 'A'), above_z = low7 + ones * (0x7f - 'Z');
  return word | ((from_a ^ above_z) & ~word & high) >> 2;
}

/// `out` has room for text.size() bytes.
inline void copy_lower(std::string_view text, char* out) {
  const auto step = [&](size_t at) {
    uint64_t word;
    memcpy(&word, text.data() + at, sizeof(word));
    word = lower8(word);
    memcpy(out + at, &word, sizeof(word));
  };
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) step(at);
  if (at == text.size()) return;
  if (text.size() >= 8) return step(text.size() - 8);
  for (; at < text.size(); at++) out[at] = lower(text[at]);
}

constexpr std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && is_blank(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

/// RFC 9110 5.6.2.
constexpr bool is_token(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    const bool alphanumeric = is_digit(static_cast<unsigned char>(c)) || (lower(c) >= 'a' && lower(c) <= 'z');
    if (!alphanumeric && (c == 0 || std::string_view("!#$%&'*+-.^_`|~").find(c) == std::string_view::npos)) return false;
  }
  return true;
}

/// A field value as it may be sent: no control bytes but HTAB (obs-text is let through, as it is when forwarded).
constexpr bool is_field_value(std::string_view text) {
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return false;
  }
  return true;
}

}  // namespace weft::http1
