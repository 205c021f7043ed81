// Request targets: which form, where the path ends, and whether two implementations may see different paths.
#include "core/http1/target.h"

#include <algorithm>
#include <cstring>

#include "core/http1/ascii.h"

namespace weft::http1 {
namespace {

constexpr uint64_t kOnes = 0x0101010101010101ull;

/// High bits of the bytes that are equal to `byte`, and perhaps of some behind such a one.
uint64_t bytes_equal(uint64_t word, uint8_t byte) {
  const uint64_t x = word ^ (kOnes * byte);
  return (x - kOnes) & ~x & (kOnes * 0x80);
}

uint64_t load8(const uint8_t* bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof(word));
  return word;
}

bool is_dot_segment(std::string_view path, size_t slash) {
  size_t at = slash + 1;
  if (at < path.size() && path[at] == '.') at++;
  if (at < path.size() && path[at] == '.') at++;
  return at > slash + 1 && (at == path.size() || path[at] == '/' || path[at] == ';');
}

/// Eight bytes at a time: whether path_is_ambiguous needs to look. May read 8 bytes past the end (kReadPastEnd).
bool may_be_ambiguous(const uint8_t* path, size_t size) {
  uint64_t hits = 0;
  for (size_t at = 0; at < size; at += 8) {
    const uint64_t word = load8(path + at), next = load8(path + at + 1);
    // "." and "/" differ in the lowest bit alone.
    hits |= bytes_equal(word, '%') | bytes_equal(word, '\\') | (bytes_equal(word, '/') & bytes_equal(next | kOnes, '/'));
  }
  return hits != 0;
}

}  // namespace

bool path_is_ambiguous(std::string_view path) {
  for (size_t i = 0; i < path.size(); i++) {
    if (path[i] == '\\') return true;
    if (path[i] == '/' && ((i + 1 < path.size() && path[i + 1] == '/') || is_dot_segment(path, i))) return true;
    if (path[i] != '%') continue;
    const std::string_view code = path.substr(i + 1, 2);
    if (equals_lower(code, "2e") || equals_lower(code, "2f") || equals_lower(code, "5c")) return true;
  }
  return false;
}

HeadError parse_target(const uint8_t* data, RequestHead* head) {
  const size_t end = head->target.offset + head->target.size;
  size_t path = head->target.offset;
  head->authority = {0, 0};
  head->form = TargetForm::kOrigin;
  if (head->method == Method::kConnect) {
    head->form = TargetForm::kAuthority;
    head->authority = head->target;
    if (!is_connect_authority(head->target.in(data))) return HeadError::kTarget;
  } else if (data[path] != '/') {
    const std::string_view target = head->target.in(data);
    if (target == "*") {
      if (head->method != Method::kOptions) return HeadError::kTarget;
      head->form = TargetForm::kAsterisk;
    } else {
      if (target.size() < 8 || !equals_lower(target.substr(0, 7), "http://")) return HeadError::kTarget;
      head->form = TargetForm::kAbsolute;
      const size_t stop = std::min(target.find_first_of("/?", 7), target.size());
      head->authority = span(path + 7, path + stop);
      if (!is_valid_authority(head->authority.in(data))) return HeadError::kTarget;
      path += stop;
    }
  }
  const void* mark = memchr(data + path, '?', end - path);
  const size_t path_end = mark != nullptr ? static_cast<size_t>(static_cast<const uint8_t*>(mark) - data) : end;
  head->has_query = mark != nullptr;
  head->query = head->has_query ? span(path_end + 1, end) : span(end, end);
  head->path = span(path, path_end);
  if (head->form == TargetForm::kAsterisk || head->form == TargetForm::kAuthority) {
    head->path = {static_cast<uint32_t>(end) + 5, 1};  // The "/" of " HTTP/".
  } else if (head->path.size == 0) {
    head->path = {head->target.offset + 5, 1};  // The first "/" of "http://".
    // RFC 9112 3.2.4: OPTIONS without a path is about the server as a whole.
    if (head->method == Method::kOptions && !head->has_query) head->form = TargetForm::kAsterisk;
  }
  head->path_is_ambiguous = may_be_ambiguous(data + head->path.offset, head->path.size) && path_is_ambiguous(head->path.in(data));
  return HeadError::kNone;
}

}  // namespace weft::http1
