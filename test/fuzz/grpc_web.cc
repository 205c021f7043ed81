// gRPC-Web's bytes: base64 reads the same at any cut, and what is written is read back; content types of any bytes stay one line.
#include "core/grpc_web.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

using namespace weft;

namespace {

struct Decoded {
  bool good = true;
  std::vector<uint8_t> bytes;
};

// In pieces of `piece`, each in memory of its own size.
Decoded decode(const uint8_t* text, size_t size, size_t piece) {
  Base64Decoder decoder;
  Decoded decoded;
  for (size_t at = 0; at < size && decoded.good; at += piece) {
    const size_t count = std::min(piece, size - at);
    const std::unique_ptr<uint8_t[]> in(new uint8_t[count]);
    const std::unique_ptr<uint8_t[]> out(new uint8_t[Base64Decoder::capacity(count)]);
    memcpy(in.get(), text + at, count);
    size_t written = 0;
    decoded.good = decoder.decode(in.get(), count, out.get(), &written);
    if (decoded.good && written > Base64Decoder::capacity(count)) abort();
    if (decoded.good) decoded.bytes.insert(decoded.bytes.end(), out.get(), out.get() + written);
  }
  decoded.good = decoded.good && decoder.at_boundary();
  return decoded;
}

void check_type_line(const std::string& line) {
  if (line.size() > 128 || line.find("\r\n") != line.size() - 2) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Decoded whole = decode(data, size, size + 1);
  for (const size_t piece : {1, 2, 3, 5}) {
    const Decoded pieces = decode(data, size, piece);
    if (pieces.good != whole.good || (whole.good && pieces.bytes != whole.bytes)) abort();
  }
  std::vector<uint8_t> text(base64_size(size));
  encode_base64(data, size, text.data());
  const Decoded again = decode(text.data(), text.size(), 7);
  if (!again.good || again.bytes.size() != size || (size != 0 && memcmp(again.bytes.data(), data, size) != 0)) abort();
  // A header's value has no control bytes.
  std::string value(reinterpret_cast<const char*>(data), size);
  for (char& byte : value) {
    if (static_cast<uint8_t>(byte) < 0x20) byte = '+';
  }
  check_type_line(grpc_type_line_for_web(value));
  check_type_line(grpc_web_type_line(grpc_form_of(value), value));
  return 0;
}
