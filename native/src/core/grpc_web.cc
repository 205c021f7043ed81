// See grpc_web.h.
#include "core/grpc_web.h"

#include <array>

#include "core/http2/transcode.h"

namespace weft {

namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNoDigit = 0xff;
constexpr uint8_t kTrailerFlag = 0x80;
// Of a format's name; longer ones are nobody's.
constexpr size_t kMaxFormat = 32;

constexpr std::array<uint8_t, 256> digits() {
  std::array<uint8_t, 256> table{};
  table.fill(kNoDigit);
  for (size_t i = 0; i < kAlphabet.size(); i++) table[static_cast<uint8_t>(kAlphabet[i])] = static_cast<uint8_t>(i);
  return table;
}
constexpr std::array<uint8_t, 256> kDigits = digits();

// "+proto" of "application/grpc-web+proto; charset=utf-8"; the default where none is named.
std::string_view format_of(std::string_view content_type) {
  const size_t plus = content_type.find('+');
  const size_t end = content_type.find_first_of("; \t");
  if (plus >= end || plus == std::string_view::npos) return "+proto";
  const std::string_view format = content_type.substr(plus, end == std::string_view::npos ? end : end - plus);
  return format.size() > kMaxFormat ? "+proto" : format;
}

std::string type_line(std::string_view type, std::string_view content_type) {
  std::string line("content-type: ");
  line += type;
  line += format_of(content_type);
  line += "\r\n";
  return line;
}

}  // namespace

std::string grpc_type_line_for_web(std::string_view content_type) { return type_line("application/grpc", content_type); }

std::string grpc_web_type_line(GrpcForm form, std::string_view content_type) {
  return type_line(form == GrpcForm::WebText ? "application/grpc-web-text" : "application/grpc-web", content_type);
}

bool Base64Decoder::decode(const uint8_t* text, size_t size, uint8_t* out, size_t* out_size) {
  uint8_t* at = out;
  for (size_t i = 0; i < size; i++) {
    const uint8_t digit = kDigits[text[i]];
    if (digit != kNoDigit && padding_ == 0) {
      bits_ = bits_ << 6 | digit;
    } else if (text[i] == '=' && count_ >= 2) {
      bits_ <<= 6;
      padding_++;
    } else {
      return false;
    }
    if (++count_ < 4) continue;
    if ((bits_ & ((1u << 8 * padding_) - 1)) != 0) return false;
    for (int shift = 16; shift >= 8 * padding_; shift -= 8) *at++ = static_cast<uint8_t>(bits_ >> shift);
    bits_ = 0;
    count_ = padding_ = 0;
  }
  *out_size = static_cast<size_t>(at - out);
  return true;
}

void encode_base64(const uint8_t* bytes, size_t size, uint8_t* out) {
  for (size_t i = 0; i < size; i += 3) {
    const size_t left = size - i;
    const uint32_t bits = uint32_t{bytes[i]} << 16 | (left > 1 ? uint32_t{bytes[i + 1]} << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
    *out++ = static_cast<uint8_t>(kAlphabet[bits >> 18]);
    *out++ = static_cast<uint8_t>(kAlphabet[bits >> 12 & 63]);
    *out++ = static_cast<uint8_t>(left > 1 ? kAlphabet[bits >> 6 & 63] : '=');
    *out++ = static_cast<uint8_t>(left > 2 ? kAlphabet[bits & 63] : '=');
  }
}

std::string grpc_web_trailer_frame(const http2::HeaderBlock& trailers) {
  constexpr size_t kPrefix = 5;
  // list_size() counts more for each field than ": " and CRLF.
  std::string frame(kPrefix + static_cast<size_t>(trailers.list_size()), '\0');
  size_t size = 0;
  if (!http2::write_trailer_lines(trailers, frame.data() + kPrefix, frame.size() - kPrefix, &size)) size = 0;
  frame.resize(kPrefix + size);
  frame[0] = static_cast<char>(kTrailerFlag);
  for (size_t i = 0; i < 4; i++) frame[1 + i] = static_cast<char>(size >> (24 - 8 * i) & 0xff);
  return frame;
}

}  // namespace weft
