// See head_changes.h.
#include "core/head_changes.h"

#include <algorithm>
#include <charconv>

#include "core/http1/ascii.h"

namespace weft {

namespace {

void put(std::string_view name, std::string_view value, std::string* out) { out->append(name).append(": ").append(value).append("\n"); }

void put_fields(const http1::FieldBlock& head, const uint8_t* base, std::string* out) {
  for (size_t i = 0; i < head.field_count; i++) put(head.fields[i].name(base), head.fields[i].value.in(base), out);
}

void put_fields(const http2::HeaderBlock& block, std::string* out) {
  for (const http2::HeaderField& field : block) put(block.name(field), block.value(field), out);
}

bool has_path(const http1::RequestHead& head) {
  return head.form == http1::TargetForm::kOrigin || head.form == http1::TargetForm::kAbsolute;
}

std::string target_of(const http1::RequestHead& head, const uint8_t* base) {
  if (!has_path(head)) return std::string(head.target.in(base));
  std::string target(head.path.in(base));
  if (head.has_query) target.append("?").append(head.query.in(base));
  return target;
}

void add(std::string_view name, std::string_view value, http2::HeaderBlock* block) {
  const http2::Interned line = block->table()->intern(name, value);
  block->add_interned(line.field, line.fresh);
  block->count_size(name.size() + value.size() + 32);
}

void copy(const http2::HeaderBlock& from, const http2::HeaderField& field, http2::HeaderBlock* to) {
  const std::string_view name = from.name(field), value = from.value(field), encoded = from.encoded_value(field);
  to->count_size(name.size() + value.size() + 32);
  if (field.interned != nullptr) {
    to->table()->retain(field.interned);
    return to->add_interned(field.interned, field.fresh);
  }
  char* room = to->text_room(name.size() + value.size() + encoded.size());
  room = std::copy(name.begin(), name.end(), room);
  room = std::copy(value.begin(), value.end(), room);
  std::copy(encoded.begin(), encoded.end(), room);
  to->add_text(field.name_size, field.value_size, field.encoded_size, field.traits, field.never_indexed);
}

// "name: value" CRLF each.
void add_lines(std::string_view lines, http2::HeaderBlock* block) {
  while (!lines.empty()) {
    const size_t end = lines.find("\r\n"), colon = lines.find(':');
    add(lines.substr(0, colon), http1::trim(lines.substr(colon + 1, end - colon - 1)), block);
    lines.remove_prefix(end + 2);
  }
}

bool is_framing(http1::KnownHeader header) {
  return header == http1::KnownHeader::kContentLength || header == http1::KnownHeader::kTransferEncoding ||
         header == http1::KnownHeader::kTrailer;
}

// The lines that the changes leave, theirs, and the empty one.
void put_kept_lines(const http1::FieldBlock& head, const uint8_t* base, const HeadChanges& changes, bool drops_host, std::string* out) {
  for (size_t i = 0; i < head.field_count; i++) {
    const http1::Field& field = head.fields[i];
    if ((drops_host && field.known == http1::KnownHeader::kHost) || changes.mutations.drops(field.name(base))) continue;
    if (!changes.framing_line.empty() && is_framing(field.known)) continue;
    out->append(reinterpret_cast<const char*>(base) + field.name_offset, head.line_end(i) - field.name_offset);
  }
  out->append(changes.mutations.lines()).append(changes.framing_line).append("\r\n");
}

bool is_within(const http2::HeaderBlock& block, const http1::HeadLimits& limits) {
  return block.list_size() <= limits.max_bytes && block.size() <= limits.max_fields;
}

// Framing follows from the status (RFC 9112 6.3), and what is behind the head is there already.
bool may_become(int status, int wanted, const HeadChanges& changes) {
  return changes.path.empty() && changes.authority.empty() && http1::is_bodiless_status(status) == http1::is_bodiless_status(wanted);
}

}  // namespace

std::string request_head_text(const http1::RequestHead& head, const uint8_t* base) {
  std::string text;
  put(":method", head.method_token.in(base), &text);
  put(":path", target_of(head, base), &text);
  put(":authority", head.authority.in(base), &text);
  put_fields(head, base, &text);
  return text;
}

std::string request_head_text(const http2::HeaderBlock& block) {
  std::string text;
  put_fields(block, &text);
  return text;
}

std::string answer_head_text(const ResponseForm& answer) {
  std::string text;
  if (answer.head == nullptr) return put_fields(*answer.block, &text), text;
  put(":status", std::to_string(answer.head->status), &text);
  put_fields(*answer.head, answer.base, &text);
  return text;
}

bool HeadChanges::parse(std::string_view text, std::string* error) {
  using Pairs = std::vector<http1::MutationSet::Pair>;
  std::vector<std::string> remove;
  Pairs set, add_too;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t colon = line.find(": ", 1);
    if (line.size() < 2 || (line[0] != '-' && colon == std::string_view::npos)) {
      *error = "a change that is none";
      return false;
    }
    const std::string_view name = line.substr(1, colon - 1), value = line[0] == '-' ? std::string_view() : line.substr(colon + 2);
    if (line[0] == '-') {
      remove.emplace_back(line.substr(1));
    } else if (line[0] == ':' && name == "path") {
      path = value;
    } else if (line[0] == ':' && name == "authority") {
      authority = value;
    } else if (line[0] == ':' && name == "status") {
      const auto end_of_digits = std::from_chars(value.data(), value.data() + value.size(), status).ptr;
      if (end_of_digits != value.data() + value.size() || status < 200 || status > 599) {
        *error = "a status that is none";
        return false;
      }
    } else {
      (line[0] == '+' ? add_too : set).emplace_back(name, value);
    }
  }
  return mutations.compile(remove, set, add_too, error);
}

bool rewrite_head(const http1::RequestHead& head, const uint8_t* base, const HeadChanges& changes, const http1::HeadLimits& limits,
                  ByteQueue* out) {
  if (!has_path(head) && !(changes.path.empty() && changes.authority.empty())) return false;
  if (changes.status != 0) return false;
  const std::string_view authority = changes.authority.empty() ? head.authority.in(base) : changes.authority;
  std::string text(head.method_token.in(base));
  text.append(" ").append(changes.path.empty() ? target_of(head, base) : changes.path);
  text.append(head.minor == 0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
  if (!authority.empty()) text.append("host: ").append(authority).append("\r\n");
  put_kept_lines(head, base, changes, true, &text);
  out->append(text.data(), text.size());
  http1::RequestHead written;
  const http1::ParseResult result = http1::parse_request_head(out->data(), out->size(), limits, &written);
  return result.status == http1::ParseStatus::kComplete && written.size == out->size();
}

std::unique_ptr<Http2Request> rewrite_head(const Http2Request& request, const HeadChanges& changes, const http1::HeadLimits& limits) {
  const http2::HeaderBlock& old = request.block;
  if (request.summary.is_plain_connect() && !(changes.path.empty() && changes.authority.empty())) return nullptr;
  if (changes.status != 0) return nullptr;
  auto written = std::make_unique<Http2Request>(old.table());
  http2::HeaderBlock& block = written->block;
  const bool other_authority = !changes.authority.empty();
  // RFC 9113 8.3: before all other fields.
  if (other_authority) add(":authority", changes.authority, &block);
  if (!changes.path.empty()) add(":path", changes.path, &block);
  for (const http2::HeaderField& field : old) {
    const std::string_view name = old.name(field);
    if (other_authority && (name == ":authority" || name == "host")) continue;
    if (!changes.path.empty() && name == ":path") continue;
    if (!changes.mutations.drops(name) && (changes.framing_line.empty() || name != "content-length")) copy(old, field, &block);
  }
  add_lines(changes.mutations.lines(), &block);
  add_lines(changes.framing_line, &block);
  if (!is_within(block, limits)) return nullptr;
  const bool extended = request.summary.is_extended_connect;
  return http2::check_request(block, false, extended, &written->summary) == http2::BlockError::kNone ? std::move(written) : nullptr;
}

bool rewrite_head(const http1::ResponseHead& head, const uint8_t* base, const HeadChanges& changes, const http1::HeadLimits& limits,
                  ByteQueue* out) {
  const int status = changes.status != 0 ? changes.status : head.status;
  if (!may_become(head.status, status, changes)) return false;
  std::string text(head.minor == 0 ? "HTTP/1.0 " : "HTTP/1.1 ");
  text.append(std::to_string(status)).append(" ");
  text.append(status == head.status ? head.reason.in(base) : http1::reason_phrase(status)).append("\r\n");
  put_kept_lines(head, base, changes, false, &text);
  out->append(text.data(), text.size());
  http1::ResponseHead written;
  const http1::ParseResult result = http1::parse_response_head(out->data(), out->size(), limits, &written);
  return result.status == http1::ParseStatus::kComplete && written.size == out->size();
}

std::unique_ptr<http2::HeaderBlock> rewrite_head(const http2::HeaderBlock& answer, int status, const HeadChanges& changes,
                                                 const http1::HeadLimits& limits, http2::ResponseSummary* summary) {
  const int wanted = changes.status != 0 ? changes.status : status;
  if (!may_become(status, wanted, changes)) return nullptr;
  auto block = std::make_unique<http2::HeaderBlock>(answer.table());
  add(":status", std::to_string(wanted), block.get());
  for (const http2::HeaderField& field : answer) {
    const std::string_view name = answer.name(field);
    if (name == ":status" || changes.mutations.drops(name) || (!changes.framing_line.empty() && name == "content-length")) continue;
    copy(answer, field, block.get());
  }
  add_lines(changes.mutations.lines(), block.get());
  add_lines(changes.framing_line, block.get());
  if (!is_within(*block, limits)) return nullptr;
  http2::ResponseSummary written;
  if (http2::check_response(*block, &written) != http2::BlockError::kNone) return nullptr;
  *summary = written;
  return block;
}

std::string length_line(size_t size) { return "content-length: " + std::to_string(size) + "\r\n"; }

http2::HeaderBlock copy_of(const http2::HeaderBlock& block) {
  http2::HeaderBlock copied(block.table());
  for (const http2::HeaderField& field : block) copy(block, field, &copied);
  return copied;
}

}  // namespace weft
