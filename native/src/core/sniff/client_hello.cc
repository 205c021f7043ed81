// See client_hello.h.
#include "core/sniff/client_hello.h"

#include <algorithm>
#include <cstring>

#include "core/http1/ascii.h"

namespace weft {

namespace {

constexpr uint8_t kHandshakeRecord = 22;
constexpr uint8_t kClientHelloMessage = 1;
constexpr size_t kRecordHeader = 5;
constexpr size_t kMaxRecord = 16 * 1024;
constexpr uint16_t kServerNameExtension = 0;
constexpr uint16_t kAlpnExtension = 16;

// A range that is read front to back; reading past its end makes it bad for good.
class Reader {
 public:
  Reader(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size) {}
  bool good() const { return good_; }
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  const uint8_t* data() const { return bytes_; }

  uint32_t number(size_t width) {
    uint32_t value = 0;
    const uint8_t* at = skip(width);
    for (size_t i = 0; at != nullptr && i < width; i++) value = value << 8 | at[i];
    return value;
  }
  const uint8_t* skip(size_t count) {
    if (count > size_) {
      good_ = false;
      size_ = 0;
      return nullptr;
    }
    const uint8_t* at = bytes_;
    bytes_ += count;
    size_ -= count;
    return at;
  }
  // A vector with its length before it.
  Reader vector(size_t width) {
    const size_t count = number(width);
    const uint8_t* at = skip(count);
    Reader inner(at, at == nullptr ? 0 : count);
    inner.good_ = at != nullptr;
    return inner;
  }

 private:
  const uint8_t* bytes_;
  size_t size_;
  bool good_ = true;
};

bool read_server_name(Reader extension, ClientHello* out) {
  Reader list = extension.vector(2);
  if (!extension.good() || !extension.empty()) return false;
  const uint32_t type = list.number(1);
  const Reader name = list.vector(2);
  // One name of the one type there is.
  if (!list.good() || !list.empty() || type != 0 || name.size() == 0 || name.size() > ClientHello::kMaxServerName) return false;
  for (size_t i = 0; i < name.size(); i++) {
    const char c = static_cast<char>(name.data()[i]);
    // No control byte may reach logs or tables.
    if (c <= 0x20 || c >= 0x7f) return false;
    out->server_name[i] = http1::lower(c);
  }
  out->server_name_size = static_cast<uint16_t>(name.size());
  return true;
}

bool read_alpn(Reader extension, ClientHello* out) {
  Reader list = extension.vector(2);
  if (!extension.good() || !extension.empty() || list.empty()) return false;
  const uint8_t* begin = list.data();
  const size_t size = list.size();
  while (!list.empty()) {
    if (list.vector(1).size() == 0) return false;
  }
  if (!list.good()) return false;
  // A longer list is legal; the protocols we know stand in front of nobody's 256 bytes of others.
  if (size <= ClientHello::kMaxAlpn) {
    memcpy(out->alpn, begin, size);
    out->alpn_size = static_cast<uint16_t>(size);
  }
  return true;
}

bool read_extensions(Reader extensions, ClientHello* out) {
  bool has_name = false;
  bool has_alpn = false;
  while (!extensions.empty()) {
    const uint32_t type = extensions.number(2);
    const Reader body = extensions.vector(2);
    if (!extensions.good()) return false;
    if (type == kServerNameExtension) {
      // Twice would let two readers see two names.
      if (has_name || !read_server_name(body, out)) return false;
      has_name = true;
    } else if (type == kAlpnExtension) {
      if (has_alpn || !read_alpn(body, out)) return false;
      has_alpn = true;
    }
  }
  return extensions.good();
}

bool read_message(Reader message, ClientHello* out) {
  message.number(2);
  message.skip(32);
  const Reader session_id = message.vector(1);
  const Reader suites = message.vector(2);
  const Reader compression = message.vector(1);
  if (!message.good() || session_id.size() > 32 || suites.size() < 2 || suites.size() % 2 != 0 || compression.empty()) return false;
  if (message.empty()) return true;
  const Reader extensions = message.vector(2);
  return message.good() && message.empty() && read_extensions(extensions, out);
}

}  // namespace

bool ClientHello::offers(std::string_view protocol) const {
  for (size_t at = 0; at < alpn_size; at += size_t{1} + alpn[at]) {
    if (std::string_view(reinterpret_cast<const char*>(alpn) + at + 1, alpn[at]) == protocol) return true;
  }
  return false;
}

SniffStatus sniff_client_hello(const uint8_t* bytes, size_t size, ClientHello* out) {
  out->server_name_size = out->alpn_size = 0;
  // The message as its records carry it, put together.
  uint8_t message[ClientHello::kMaxBytes];
  size_t have = 0;
  size_t wanted = 4;
  for (size_t at = 0; have < wanted;) {
    const uint8_t* record = bytes + at;
    const size_t left = size - at;
    if (left > 0 && record[0] != kHandshakeRecord) return SniffStatus::kInvalid;
    if (left > 1 && record[1] != 3) return SniffStatus::kInvalid;
    if (left < kRecordHeader) return SniffStatus::kIncomplete;
    const size_t length = size_t{record[3]} << 8 | record[4];
    if (length == 0 || length > kMaxRecord) return SniffStatus::kInvalid;
    const size_t here = std::min({length, left - kRecordHeader, wanted - have});
    memcpy(message + have, record + kRecordHeader, here);
    const bool knew_size = have >= 4;
    have += here;
    if (have > 0 && message[0] != kClientHelloMessage) return SniffStatus::kInvalid;
    if (!knew_size && have >= 4) {
      wanted = 4 + (size_t{message[1]} << 16 | size_t{message[2]} << 8 | message[3]);
      if (wanted > sizeof(message)) return SniffStatus::kInvalid;
      // The same record may hold more of it.
      const size_t more = std::min({length - here, left - kRecordHeader - here, wanted - have});
      memcpy(message + have, record + kRecordHeader + here, more);
      have += more;
    }
    if (have == wanted) break;
    if (left - kRecordHeader < length) return SniffStatus::kIncomplete;
    at += kRecordHeader + length;
  }
  return read_message({message + 4, wanted - 4}, out) ? SniffStatus::kComplete : SniffStatus::kInvalid;
}

}  // namespace weft
