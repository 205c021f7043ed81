// The bytes of gRPC-Web (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md): content types, base64 as a stream, the frame that
// carries trailers. Does no input or output, keeps no body.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/grpc.h"
#include "core/http2/header_block.h"

namespace weft {

// "content-type: …" CRLF of the other protocol, for `content_type` of this one: its format (+proto, +json, …) is kept.
std::string grpc_type_line_for_web(std::string_view content_type);
std::string grpc_web_type_line(GrpcForm form, std::string_view content_type);

// RFC 4648 4. Quanta may be cut anywhere, and padding may end any of them: concatenated texts, each padded, are one stream.
class Base64Decoder {
 public:
  static constexpr size_t capacity(size_t size) { return (size + 3) / 4 * 3; }
  // At most capacity(size) bytes. False: no base64, or bits that no encoder would leave (RFC 4648 3.5).
  bool decode(const uint8_t* text, size_t size, uint8_t* out, size_t* out_size);
  // Whether the stream may end here.
  bool at_boundary() const { return count_ == 0; }

 private:
  uint32_t bits_ = 0;
  // Characters of the quantum, and how many of them are padding.
  uint8_t count_ = 0;
  uint8_t padding_ = 0;
};

// A whole text, padded. `out` has room for base64_size(size).
constexpr size_t base64_size(size_t size) { return (size + 2) / 3 * 4; }
void encode_base64(const uint8_t* bytes, size_t size, uint8_t* out);

// The last frame of an answer: flag 0x80, the length, and the trailers as lines.
std::string grpc_web_trailer_frame(const http2::HeaderBlock& trailers);

}  // namespace weft
