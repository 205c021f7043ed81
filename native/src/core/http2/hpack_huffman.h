// HPACK's Huffman code (RFC 7541 5.2 and B): decoding by table, encoding, and how long an encoding is. Owns no bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft::http2 {

/// Room that decoding `size` bytes may need: the shortest code has 5 bits, and a store is 2 bytes wide.
constexpr size_t huffman_decoded_bound(size_t size) { return size * 8 / 5 + 2; }

/// Decodes into `out` (huffman_decoded_bound() bytes). Returns the length; -1 if the string holds EOS, or its padding is no prefix of EOS
/// or longer than 7 bits.
int64_t huffman_decode(const uint8_t* data, size_t size, char* out);

size_t huffman_encoded_size(std::string_view text);
/// `out` has room for huffman_encoded_size(). Returns the end.
uint8_t* huffman_encode(std::string_view text, uint8_t* out);

}  // namespace weft::http2
