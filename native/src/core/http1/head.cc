// The head parsers: request line or status line, field lines, then the checks over all of them. One pass over the bitmaps of scanner.h.
// Every check depends only on bytes up to the error, so the same bytes give the same error at any split.
#include "core/http1/head.h"

#include <algorithm>
#include <cstring>

#include "core/http1/ascii.h"
#include "core/http1/target.h"

namespace weft::http1 {
namespace {

constexpr size_t kMaxMethodBytes = 32;
/// Options of Connection that name fields; each costs a pass over the fields.
constexpr size_t kMaxConnectionNames = 16;
/// Digits of a Content-Length: any 18 fit an int64.
constexpr size_t kMaxLengthDigits = 18;

constexpr ParseResult complete() { return {ParseStatus::kComplete}; }
constexpr ParseResult incomplete() { return {ParseStatus::kIncomplete}; }
constexpr ParseResult invalid(HeadError error) { return {ParseStatus::kInvalid, error}; }
constexpr bool is_complete(ParseResult result) { return result.status == ParseStatus::kComplete; }

/// Positions of the next byte of a class, over bitmaps made a window at a time.
class Cursor {
 public:
  Cursor(ClassifyFunction classify, const uint8_t* data, size_t size) : classify_(classify), data_(data), size_(size) {}

  // Each returns the first such position at or behind `from`, or the size.
  size_t non_token(size_t from) { return next(bitmaps_.non_token, from); }
  size_t control(size_t from) { return next(bitmaps_.control, from); }
  size_t non_target(size_t from) { return next(bitmaps_.non_target, from); }

 private:
  size_t next(const uint64_t* bitmap, size_t from) {
    for (;;) {
      const size_t relative = from - window_begin_;
      if (relative >= window_size_) {
        if (from >= size_) return size_;
        load(from);
        continue;
      }
      const uint64_t hits = bitmap[relative / kBlockBytes] >> (relative % kBlockBytes);
      if (hits != 0) return from + static_cast<size_t>(__builtin_ctzll(hits));
      from += kBlockBytes - relative % kBlockBytes;
    }
  }

  __attribute__((noinline)) void load(size_t from) {
    window_begin_ = from;
    const size_t blocks = std::min(kWindowBlocks, (size_ - from + kBlockBytes - 1) / kBlockBytes);
    window_size_ = blocks * kBlockBytes;
    classify_(data_ + from, blocks, &bitmaps_);
    // The end is of every class, so that no search needs to look for it; what lies behind is never reached.
    const size_t end = size_ - from;
    if (end < window_size_) {
      const size_t block = end / kBlockBytes;
      const uint64_t bit = 1ull << (end % kBlockBytes);
      bitmaps_.non_token[block] |= bit;
      bitmaps_.control[block] |= bit;
      bitmaps_.non_target[block] |= bit;
    }
  }

  const ClassifyFunction classify_;
  const uint8_t* const data_;
  const size_t size_;
  size_t window_begin_ = 0;
  size_t window_size_ = 0;
  Bitmaps bitmaps_;
};

HeadError bad_control(uint8_t byte) { return byte == '\n' || byte == '\r' ? HeadError::kBareLineEnd : HeadError::kControlByte; }

/// `at` is a control byte that must be the CR of a CRLF. kComplete: it is.
inline ParseResult line_end(const uint8_t* data, size_t size, size_t at) {
  if (at + 1 < size && data[at] == '\r' && data[at + 1] == '\n') [[likely]]
    return complete();
  if (data[at] != '\r') return invalid(bad_control(data[at]));
  if (at + 1 >= size) return incomplete();
  return data[at + 1] == '\n' ? complete() : invalid(HeadError::kBareLineEnd);
}

/// `byte` stands where a field name or its colon should; `leads` if it is the line's first.
HeadError bad_name_byte(uint8_t byte, bool leads) {
  if (is_blank(byte)) return leads ? HeadError::kObsoleteFold : HeadError::kSpaceBeforeColon;
  if (byte == '\n') return HeadError::kBareLineEnd;
  if (byte == '\r') return HeadError::kFieldName;  // A line without a colon.
  return byte < 0x20 || byte == 0x7f ? HeadError::kControlByte : HeadError::kFieldName;
}

/// Field lines from `begin` to the empty line.
ParseResult parse_fields(Cursor& cursor, const uint8_t* data, size_t size, size_t begin, size_t max_fields, FieldBlock* block) {
  block->fields_begin = static_cast<uint32_t>(begin);
  uint64_t present = 0, again = 0;
  size_t count = 0;
  for (size_t at = begin;;) {
    const size_t colon = cursor.non_token(at);
    if (colon - at > UINT16_MAX) return invalid(HeadError::kFieldName);
    if (colon >= size) return incomplete();
    if (data[colon] != ':' || colon == at) {
      if (data[colon] != '\r' || colon != at) return invalid(bad_name_byte(data[colon], colon == at));
      const ParseResult end = line_end(data, size, at);
      if (!is_complete(end)) return end;
      block->fields_end = static_cast<uint32_t>(at);
      block->size = static_cast<uint32_t>(at + 2);
      break;
    }
    const size_t stop = cursor.control(colon + 1);
    if (stop >= size) return incomplete();
    const ParseResult end = line_end(data, size, stop);
    if (!is_complete(end)) return end;
    if (count == max_fields) return invalid(HeadError::kTooManyFields);

    size_t value = colon + 1, value_end = stop;
    while (value < value_end && is_blank(data[value])) value++;
    while (value_end > value && is_blank(data[value_end - 1])) value_end--;
    const KnownHeader known = known_header({reinterpret_cast<const char*>(data) + at, colon - at});
    if (known != KnownHeader::kOther) {
      const uint64_t bit = known_bit(known);
      if ((present & bit) == 0) block->first[static_cast<size_t>(known)] = static_cast<uint8_t>(count);
      again |= present & bit;
      present |= bit;
    }
    block->fields[count++] = {static_cast<uint32_t>(at),
                              static_cast<uint16_t>(colon - at),
                              known,
                              false,
                              {static_cast<uint32_t>(value), static_cast<uint32_t>(value_end - value)}};
    at = stop + 2;
  }
  block->field_count = static_cast<uint16_t>(count);
  block->present = present;
  block->repeated = again;
  return complete();
}

void mark_named(const uint8_t* data, std::string_view name, FieldBlock* block) {
  for (size_t i = 0; i < block->field_count; i++) {
    Field& field = block->fields[i];
    const std::string_view other = field.name(data);
    if (other.size() != name.size()) continue;
    if (!std::equal(name.begin(), name.end(), other.begin(), [](char a, char b) { return lower(a) == lower(b); })) continue;
    field.named_by_connection = true;
    block->connection_names_fields = true;
  }
}

/// One Connection field's list (RFC 9110 7.6.1). `names` counts the options that name fields.
HeadError apply_connection(const uint8_t* data, std::string_view list, FieldBlock* block, size_t* names) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    const std::string_view option = trim(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (option.empty()) continue;  // RFC 9110 5.6.1.2: empty elements are ignored.
    if (equals_lower(option, "close")) {
      block->connection_options |= kConnectionClose;
    } else if (equals_lower(option, "keep-alive")) {
      block->connection_options |= kConnectionKeepAlive;
    } else if (equals_lower(option, "upgrade")) {
      block->connection_options |= kConnectionUpgrade;
    } else if (equals_lower(option, "te")) {
      block->connection_options |= kConnectionTe;
    } else {
      if (!is_token(option) || ++*names > kMaxConnectionNames) return HeadError::kConnectionSyntax;
      mark_named(data, option, block);
    }
  }
  return HeadError::kNone;
}

HeadError check_connection(const uint8_t* data, FieldBlock* block) {
  block->connection_options = 0;
  block->connection_names_fields = false;
  if (block->has(KnownHeader::kConnection)) {
    size_t names = 0;
    const bool repeated = block->is_repeated(KnownHeader::kConnection);
    const size_t first = block->first[static_cast<size_t>(KnownHeader::kConnection)];
    for (size_t i = first; i < (repeated ? block->field_count : first + 1); i++) {
      if (block->fields[i].known != KnownHeader::kConnection) continue;
      const HeadError error = apply_connection(data, block->fields[i].value.in(data), block, &names);
      if (error != HeadError::kNone) return error;
    }
  }
  const bool closes = (block->connection_options & kConnectionClose) != 0;
  block->keep_alive = !closes && (block->minor == 1 || (block->connection_options & kConnectionKeepAlive) != 0);
  return HeadError::kNone;
}

HeadError parse_content_length(std::string_view text, uint64_t* length) {
  if (text.empty() || text.size() > kMaxLengthDigits) return HeadError::kContentLengthSyntax;
  uint64_t value = 0;
  for (const char c : text) {
    if (!is_digit(static_cast<unsigned char>(c))) return HeadError::kContentLengthSyntax;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  *length = value;
  return HeadError::kNone;
}

/// A Transfer-Encoding that is not "chunked" alone. RFC 9112 6.3: where chunked is not the last coding of a request its length is
/// unknowable (400), 6.1: where another one precedes it that one is not known here (501).
HeadError refused_transfer_encoding(const uint8_t* data, const FieldBlock& block) {
  unsigned chunked = 0;
  bool ends_chunked = false;
  for (size_t i = 0; i < block.field_count; i++) {
    if (block.fields[i].known != KnownHeader::kTransferEncoding) continue;
    const std::string_view list = block.fields[i].value.in(data);
    for (size_t begin = 0; begin <= list.size();) {
      const size_t comma = std::min(list.find(',', begin), list.size());
      const std::string_view coding = trim(list.substr(begin, comma - begin));
      if (!is_token(trim(coding.substr(0, coding.find(';'))))) return HeadError::kTransferEncodingSyntax;
      ends_chunked = equals_lower(coding, "chunked");
      chunked += ends_chunked ? 1 : 0;
      begin = comma + 1;
    }
  }
  return ends_chunked && chunked == 1 ? HeadError::kTransferEncodingUnsupported : HeadError::kTransferEncodingSyntax;
}

/// RFC 9112 6.1 to 6.3, with every "may" that repairs taken as an error.
HeadError check_framing(const uint8_t* data, FieldBlock* block) {
  if ((block->present & kFramingLookalikes) != 0) return HeadError::kFramingLookalike;
  block->chunked = false;
  block->has_content_length = block->has(KnownHeader::kContentLength);
  block->content_length = 0;
  if (block->has(KnownHeader::kTransferEncoding)) {
    if (block->has_content_length) return HeadError::kTransferEncodingAndLength;
    if (block->minor == 0) return HeadError::kTransferEncodingVersion;
    if (block->is_repeated(KnownHeader::kTransferEncoding) ||
        !equals_lower(block->find(KnownHeader::kTransferEncoding)->value.in(data), "chunked")) {
      return refused_transfer_encoding(data, *block);
    }
    block->chunked = true;
  } else if (block->has_content_length) {
    if (block->is_repeated(KnownHeader::kContentLength)) return HeadError::kContentLengthRepeated;
    return parse_content_length(block->find(KnownHeader::kContentLength)->value.in(data), &block->content_length);
  }
  return HeadError::kNone;
}

/// "HTTP/" DIGIT "." DIGIT at `text`.
HeadError parse_version(const uint8_t* text, uint8_t* minor) {
  if (memcmp(text, "HTTP/1.1", 8) == 0) [[likely]] {
    *minor = 1;
    return HeadError::kNone;
  }
  if (memcmp(text, "HTTP/", 5) != 0 || !is_digit(text[5]) || text[6] != '.' || !is_digit(text[7])) return HeadError::kVersion;
  if (text[5] != '1' || text[7] > '1') return HeadError::kVersionNotSupported;
  *minor = static_cast<uint8_t>(text[7] - '0');
  return HeadError::kNone;
}

/// Method, target and version; `next` is set behind the CRLF. The target is only delimited here.
ParseResult parse_request_line(Cursor& cursor, const uint8_t* data, size_t size, RequestHead* head, size_t* next) {
  size_t begin = 0;
  if (size > 0 && (data[0] == '\r' || data[0] == '\n')) {  // RFC 9112 2.2: at least one empty line is let through; here at most one.
    const ParseResult end = line_end(data, size, 0);
    if (!is_complete(end)) return end;
    begin = 2;
  }
  const size_t method_end = cursor.non_token(begin);
  if (method_end - begin > kMaxMethodBytes) return invalid(HeadError::kMethod);
  if (method_end >= size) return incomplete();
  if (data[method_end] != ' ' || method_end == begin) return invalid(method_end == begin ? HeadError::kRequestLine : HeadError::kMethod);
  head->method_token = span(begin, method_end);

  const size_t target = method_end + 1;
  const size_t target_end = cursor.non_target(target);
  if (target_end >= size) return incomplete();
  const uint8_t after = data[target_end];
  if (after == '\r' || after == '\n') return invalid(HeadError::kVersion);  // HTTP/0.9
  if (after != ' ') return invalid(after < 0x20 || after == 0x7f ? HeadError::kControlByte : HeadError::kTarget);
  if (target_end == target) return invalid(HeadError::kRequestLine);
  head->target = span(target, target_end);

  const size_t version = target_end + 1;
  const size_t stop = cursor.control(version);
  if (stop - version > 8) return invalid(HeadError::kVersion);
  if (stop >= size) return incomplete();
  if (stop - version != 8) return invalid(HeadError::kVersion);
  const HeadError error = parse_version(data + version, &head->minor);
  if (error != HeadError::kNone) return invalid(error);
  *next = stop + 2;
  return line_end(data, size, stop);
}

/// RFC 9112 3.2, 3.3: exactly one Host in HTTP/1.1 and a valid one always; an absolute form's authority overrides it.
HeadError check_host(const uint8_t* data, RequestHead* head) {
  const Field* host = head->find(KnownHeader::kHost);
  if (host == nullptr) return head->minor == 0 ? HeadError::kNone : HeadError::kHostMissing;
  if (head->is_repeated(KnownHeader::kHost)) return HeadError::kHostRepeated;
  if (!is_valid_authority(host->value.in(data))) return HeadError::kHostSyntax;
  if (head->authority.size == 0) head->authority = host->value;
  return HeadError::kNone;
}

HeadError check_request(const uint8_t* data, RequestHead* head) {
  HeadError error = check_host(data, head);
  if (error == HeadError::kNone) error = check_framing(data, head);
  if (error == HeadError::kNone) error = check_connection(data, head);
  if (error != HeadError::kNone) return error;
  head->has_body = head->chunked || head->content_length > 0;
  // RFC 9110 9.3.6: what follows is the tunnel's, and no two must disagree on where it begins.
  if (head->method == Method::kConnect && head->has_body) return HeadError::kConnectContent;
  head->expects_continue = false;
  if (head->has(KnownHeader::kExpect) && head->minor == 1) {
    const bool known =
        !head->is_repeated(KnownHeader::kExpect) && equals_lower(head->find(KnownHeader::kExpect)->value.in(data), "100-continue");
    if (!known) return HeadError::kExpectUnsupported;
    head->expects_continue = head->has_body;
  }
  head->wants_upgrade = head->has(KnownHeader::kUpgrade) && (head->connection_options & kConnectionUpgrade) != 0 && head->minor == 1 &&
                        !head->has_body && head->method != Method::kConnect && !head->is_repeated(KnownHeader::kUpgrade) &&
                        equals_lower(head->find(KnownHeader::kUpgrade)->value.in(data), "websocket");
  return HeadError::kNone;
}

ParseResult parse_request(ClassifyFunction classify, const uint8_t* data, size_t size, size_t max_fields, RequestHead* head) {
  Cursor cursor(classify, data, size);
  size_t fields = 0;
  ParseResult result = parse_request_line(cursor, data, size, head, &fields);
  if (!is_complete(result)) return result;
  head->method = method_of(head->method_token.in(data));
  HeadError error = parse_target(data, head);
  if (error != HeadError::kNone) return invalid(error);
  result = parse_fields(cursor, data, size, fields, max_fields, head);
  if (!is_complete(result)) return result;
  error = check_request(data, head);
  return error == HeadError::kNone ? complete() : invalid(error);
}

/// RFC 9112 4. The space behind the status is let off when no reason follows: unambiguous, and servers do it.
ParseResult parse_status_line(Cursor& cursor, const uint8_t* data, size_t size, ResponseHead* head, size_t* next) {
  const size_t stop = cursor.control(0);
  if (stop >= size) return incomplete();
  if (stop < 12) return invalid(HeadError::kStatusLine);
  const HeadError error = parse_version(data, &head->minor);
  if (error != HeadError::kNone) return invalid(error);
  const bool digits = is_digit(data[9]) && is_digit(data[10]) && is_digit(data[11]);
  if (data[8] != ' ' || !digits || data[9] == '0') return invalid(HeadError::kStatusLine);
  if (stop > 12 && data[12] != ' ') return invalid(HeadError::kStatusLine);
  head->status = static_cast<uint16_t>((data[9] - '0') * 100 + (data[10] - '0') * 10 + (data[11] - '0'));
  head->reason = span(std::min<size_t>(13, stop), stop);
  *next = stop + 2;
  return line_end(data, size, stop);
}

ParseResult parse_response(ClassifyFunction classify, const uint8_t* data, size_t size, size_t max_fields, ResponseHead* head) {
  Cursor cursor(classify, data, size);
  size_t fields = 0;
  ParseResult result = parse_status_line(cursor, data, size, head, &fields);
  if (!is_complete(result)) return result;
  result = parse_fields(cursor, data, size, fields, max_fields, head);
  if (!is_complete(result)) return result;
  HeadError error = check_framing(data, head);
  if (error == HeadError::kNone) error = check_connection(data, head);
  return error == HeadError::kNone ? complete() : invalid(error);
}

ClassifyFunction best_classify() {
  static const ClassifyFunction best = classify_function(best_scanner());
  return best;
}

/// Bytes beyond the limit are never looked at, so that the limit is the same at any split.
template <typename Head, typename Parse>
ParseResult within_limits(Parse parse, ClassifyFunction classify, const uint8_t* data, size_t size, const HeadLimits& limits, Head* head) {
  const size_t max_fields = std::min<size_t>(limits.max_fields, kMaxFields);
  const ParseResult result = parse(classify, data, std::min<size_t>(size, limits.max_bytes), max_fields, head);
  if (result.status == ParseStatus::kIncomplete && size >= limits.max_bytes) return invalid(HeadError::kHeadTooLong);
  return result;
}

}  // namespace

const Field* FieldBlock::find(std::string_view lower_name, const uint8_t* base) const {
  for (size_t i = 0; i < field_count; i++) {
    if (equals_lower(fields[i].name(base), lower_name)) return &fields[i];
  }
  return nullptr;
}

std::string_view FieldBlock::value_of(std::string_view lower_name, const uint8_t* base) const {
  const Field* field = find(lower_name, base);
  return field != nullptr ? field->value.in(base) : std::string_view();
}

ParseResult parse_request_head(ClassifyFunction classify, const uint8_t* data, size_t size, const HeadLimits& limits, RequestHead* head) {
  return within_limits(parse_request, classify, data, size, limits, head);
}

ParseResult parse_response_head(ClassifyFunction classify, const uint8_t* data, size_t size, const HeadLimits& limits, ResponseHead* head) {
  return within_limits(parse_response, classify, data, size, limits, head);
}

ParseResult parse_request_head(const uint8_t* data, size_t size, const HeadLimits& limits, RequestHead* head) {
  return parse_request_head(best_classify(), data, size, limits, head);
}

ParseResult parse_response_head(const uint8_t* data, size_t size, const HeadLimits& limits, ResponseHead* head) {
  return parse_response_head(best_classify(), data, size, limits, head);
}

bool may_complete_head(const uint8_t* data, size_t size, size_t known, const HeadLimits& limits) {
  if (size >= limits.max_bytes) return true;
  for (size_t at = known; at < size; at++) {
    const void* found = memchr(data + at, '\n', size - at);
    if (found == nullptr) return false;
    at = static_cast<size_t>(static_cast<const uint8_t*>(found) - data);
    if (at >= 1 && data[at - 1] == '\n') return true;
    if (at >= 2 && data[at - 1] == '\r' && data[at - 2] == '\n') return true;
  }
  return false;
}

}  // namespace weft::http1
