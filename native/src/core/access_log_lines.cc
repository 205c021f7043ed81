// Writes the lines of the access log: field by field, in one pass, into memory that is known to have room.
#include "core/access_log_lines.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>

#include "core/access_log_reader.h"
#include "core/reasons.h"
#include "core/records.h"
#include "core/request_lines.h"
#include "core/socket.h"

namespace weft {

namespace {

// A byte of a text may become "\u00xx". The rest: numbers, addresses and the names of fields.
constexpr size_t kMostOfByte = 6;
constexpr size_t kMostOfName = 4096;
constexpr size_t kMostOfRest = 2048;
static_assert(kMostOfByte * 6 * kAccessLogTextLimit + 4 * kMostOfName + kMostOfRest <= AccessLogLines::kMostOfLine);
// Decision.Target of what we answer ourselves, or below.
constexpr int32_t kLocal = -100;

// By id, the last one any other.
constexpr std::string_view kMethods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "other"};
constexpr std::string_view kFlags[] = {
#define X(identifier, name) name,
    WEFT_REASONS(X)
#undef X
};

// 0: stands in a JSON string as it is; else how: kEscaped, kUnicode, kWide (above ASCII).
enum ByteKind : uint8_t { kPlain, kEscaped, kUnicode, kWide };
constexpr std::array<uint8_t, 256> byte_kinds() {
  std::array<uint8_t, 256> kinds{};
  for (size_t i = 0; i < 0x20; i++) kinds[i] = kUnicode;
  for (const uint8_t byte : {'"', '\\', '\b', '\f', '\n', '\r', '\t'}) kinds[byte] = kEscaped;
  for (size_t i = 0x80; i < 256; i++) kinds[i] = kWide;
  return kinds;
}
constexpr std::array<uint8_t, 256> kByteKinds = byte_kinds();

char* put(char* out, std::string_view text) {
  memcpy(out, text.data(), text.size());
  return out + text.size();
}

template <typename Number>
char* put_number(char* out, Number value) {
  return std::to_chars(out, out + 24, value).ptr;
}

char* put_three_digits(char* out, uint32_t value) {
  out[0] = static_cast<char>('0' + value / 100);
  out[1] = static_cast<char>('0' + value / 10 % 10);
  out[2] = static_cast<char>('0' + value % 10);
  return out + 3;
}

// µs as ms, without zeros at the end.
char* put_ms(char* out, uint64_t us) {
  out = put_number(out, us / 1000);
  if (us % 1000 == 0) return out;
  *out++ = '.';
  out = put_three_digits(out, static_cast<uint32_t>(us % 1000));
  while (out[-1] == '0') out--;
  return out;
}

// A character below U+0100, of a JSON string.
char* put_character(char* out, uint8_t byte) {
  switch (kByteKinds[byte]) {
    case kPlain:
      *out++ = static_cast<char>(byte);
      return out;
    case kWide:
      *out++ = static_cast<char>(0xc0 | byte >> 6);
      *out++ = static_cast<char>(0x80 | (byte & 0x3f));
      return out;
    case kUnicode:
      out = put(out, "\\u00");
      *out++ = "0123456789abcdef"[byte >> 4];
      *out++ = "0123456789abcdef"[byte & 15];
      return out;
    default:
      *out++ = '\\';
      *out++ = byte == '\b'   ? 'b'
               : byte == '\f' ? 'f'
               : byte == '\n' ? 'n'
               : byte == '\r' ? 'r'
               : byte == '\t' ? 't'
                              : static_cast<char>(byte);
      return out;
  }
}

// Latin-1, as header values are, as a JSON string.
char* put_text(char* out, std::string_view text) {
  *out++ = '"';
  for (const char each : text) {
    const auto byte = static_cast<uint8_t>(each);
    if (kByteKinds[byte] == kPlain) [[likely]]
      *out++ = each;
    else
      out = put_character(out, byte);
  }
  *out++ = '"';
  return out;
}

int hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  const char lower = static_cast<char>(digit | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// The byte that "%xx" at `at` stands for; -1: it is none.
int percent_byte(std::string_view text, size_t at) {
  if (at + 2 >= text.size() || text[at] != '%') return -1;
  const int high = hex_digit(text[at + 1]), low = hex_digit(text[at + 2]);
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

// Whether `bytes` are one character in UTF-8 (RFC 3629: the shortest form, no surrogates, none above U+10FFFF).
bool is_character(const uint8_t* bytes, size_t size) {
  if (size < 2 || size > 4) return false;
  for (size_t i = 1; i < size; i++)
    if ((bytes[i] & 0xc0) != 0x80) return false;
  if (size == 2) return bytes[0] >= 0xc2;
  if (size == 3) return !(bytes[0] == 0xe0 && bytes[1] < 0xa0) && !(bytes[0] == 0xed && bytes[1] >= 0xa0);
  return !(bytes[0] == 0xf0 && bytes[1] < 0x90) && (bytes[0] < 0xf4 || (bytes[0] == 0xf4 && bytes[1] < 0x90));
}

// Bytes of a character by its first; 0: none begins so.
size_t character_size(uint8_t first) {
  return first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf8 ? 4 : 0;
}

// The percent-encoded UTF-8 of grpc-message as a JSON string; as it is where it is none (or was cut within it).
char* put_percent_decoded(char* const begin, std::string_view text) {
  char* out = begin;
  *out++ = '"';
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '%') {
      out = put_character(out, static_cast<uint8_t>(text[at++]));
      continue;
    }
    const int first = percent_byte(text, at);
    const size_t size = first < 0 ? 0 : character_size(static_cast<uint8_t>(first));
    if (size == 0) return put_text(begin, text);
    uint8_t bytes[4] = {};
    for (size_t i = 0; i < size; i++, at += 3) {
      const int byte = percent_byte(text, at);
      if (byte < 0) return put_text(begin, text);
      bytes[i] = static_cast<uint8_t>(byte);
    }
    if (size == 1)
      out = put_character(out, bytes[0]);
    else if (is_character(bytes, size))
      out = put(out, {reinterpret_cast<const char*>(bytes), size});
    else
      return put_text(begin, text);
  }
  *out++ = '"';
  return out;
}

char* put_socket(char* out, const uint8_t (&bytes)[16], int32_t port) {
  Address address;
  memcpy(address.bytes.data(), bytes, sizeof(bytes));
  const bool is_v6 = !is_mapped(address);
  AddressText text;
  if (is_v6) *out++ = '[';
  out = put(out, text.format(address));
  if (is_v6) *out++ = ']';
  *out++ = ':';
  return put_number(out, port);
}

std::string_view protocol_of(uint32_t kind) { return kind == kAccessLogHttp1 ? "http/1" : kind == kAccessLogHttp2 ? "http/2" : "tcp"; }

struct Texts {
  std::string_view path, authority, user_agent, request_id, grpc_message, client_identity;
};

Texts texts_of(const AccessLogRecord& record, const uint8_t* bytes) {
  const auto next = [&](int32_t length) {
    const std::string_view text(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
    bytes += length;
    return text;
  };
  Texts texts;
  texts.path = next(record.path_length);
  texts.authority = next(record.authority_length);
  texts.user_agent = next(record.user_agent_length);
  texts.request_id = next(record.request_id_length);
  texts.grpc_message = next(record.grpc_message_length);
  texts.client_identity = next(record.client_identity_length);
  return texts;
}

}  // namespace

void AccessLogLines::set(std::vector<std::string>* all, uint32_t id, std::string json) {
  if (id >= kMaxIds) return;
  if (json.empty() || json.size() > kMostOfName) json = "null";
  if (id >= all->size()) all->resize(std::max<size_t>(id + 1, all->size() * 2));
  (*all)[id] = std::move(json);
}

bool AccessLogLines::find(const std::vector<std::string>& all, int32_t id, std::string_view* out) {
  *out = "null";
  if (id < 0 || static_cast<uint32_t>(id) >= kMaxIds) return true;
  if (static_cast<size_t>(id) >= all.size() || all[static_cast<size_t>(id)].empty()) return false;
  *out = all[static_cast<size_t>(id)];
  return true;
}

bool AccessLogLines::find_names(const AccessLogRecord& record, std::span<const int32_t> edges, Names* names, Taken* taken) const {
  const bool is_decided = record.target != kTargetUndecided;
  const size_t row = is_decided ? (static_cast<uint32_t>(record.token) & tokens_.edge_mask) * kEdgeWords : edges.size();
  const auto label = [&](size_t word, std::string_view* out) {
    const int32_t id = row + word < edges.size() ? edges[row + word] : -1;
    if (find(labels_, id, out)) return true;
    taken->missing = Missing::Label;
    taken->id = static_cast<uint32_t>(id);
    return false;
  };
  if (!label(0, &names->source) || !label(1, &names->service) || !label(2, &names->workload)) return false;
  if (find(rules_, record.route_id, &names->route)) return true;
  taken->missing = Missing::Rule;
  taken->id = static_cast<uint32_t>(record.route_id);
  return false;
}

// As reasonOf() of agent/proxy/account.ts: what the engine said, else what a local answer means.
int32_t AccessLogLines::reason_of(const AccessLogRecord& record) const {
  if (record.reason != 0) return record.reason;
  const auto token = static_cast<uint32_t>(record.token);
  if (record.target <= kLocal && token > tokens_.edge_mask) return static_cast<int32_t>(token >> tokens_.reason_shift);
  if (record.target == -404 || record.target == -502) return static_cast<int32_t>(Reason::NoRoute);
  return record.target == -503 ? static_cast<int32_t>(Reason::NoHealthyUpstream) : 0;
}

bool AccessLogLines::is_wanted(const AccessLogRecord& record, int32_t reason) const {
  return !errors_only_ || reason != 0 || record.status >= 500 || record.grpc_status > 0;
}

AccessLogLines::Taken AccessLogLines::take(uint8_t* ring, size_t ring_bytes, std::span<const int32_t> edges, std::span<char> out) {
  Taken taken;
  AccessLogReader reader(ring, ring_bytes);
  while (const uint8_t* at = reader.next()) {
    AccessLogRecord record;
    memcpy(&record, at, sizeof(record));
    const int32_t reason = reason_of(record);
    if (is_wanted(record, reason)) {
      Names names;
      if (!find_names(record, edges, &names, &taken)) return taken;
      const size_t most = kMostOfRest + kMostOfByte * (record.size - sizeof(record)) + 4 * kMostOfName;
      if (out.size() - taken.written < most) {
        taken.missing = Missing::Room;
        return taken;
      }
      taken.written = static_cast<size_t>(write(record, at + sizeof(record), reason, names, out.data() + taken.written) - out.data());
    }
    reader.release();
  }
  return taken;
}

char* AccessLogLines::write_time(double ms, char* out) {
  const auto second = static_cast<int64_t>(std::floor(ms / 1000));
  if (second != second_) {
    second_ = second;
    const auto seconds = static_cast<time_t>(second);
    tm parts = {};
    gmtime_r(&seconds, &parts);
    time_size_ = strftime(time_, sizeof(time_), R"({"time":"%Y-%m-%dT%H:%M:%S.)", &parts);
  }
  out = put(out, {time_, time_size_});
  return put_three_digits(out, static_cast<uint32_t>(ms - static_cast<double>(second) * 1000));
}

char* AccessLogLines::write(const AccessLogRecord& record, const uint8_t* bytes, int32_t reason, const Names& names, char* out) {
  const Texts texts = texts_of(record, bytes);
  const bool is_request = record.kind != kAccessLogOpaque;
  out = write_time(record.started_ms, out);
  out = put(put(put(out, R"(Z","protocol":")"), protocol_of(record.kind)), "\"");
  if (is_request) {
    const size_t method = std::min<size_t>(static_cast<uint32_t>(record.method), std::size(kMethods) - 1);
    out = put(put(put(out, R"(,"method":")"), kMethods[method]), "\"");
    out = put_text(put(out, R"(,"authority":)"), texts.authority);
    out = put_text(put(out, R"(,"path":)"), texts.path);
    out = put_number(put(out, R"(,"status":)"), record.status);
  } else if (!texts.authority.empty()) {
    out = put_text(put(out, R"(,"server_name":)"), texts.authority);
  }
  if (record.grpc_status >= 0) {
    out = put_number(put(out, R"(,"grpc_status":)"), record.grpc_status);
    out = put_percent_decoded(put(out, R"(,"grpc_message":)"), texts.grpc_message);
  }
  const size_t flag = std::min<size_t>(static_cast<uint32_t>(reason), std::size(kFlags) - 1);
  out = put(put(put(out, R"(,"response_flag":")"), reason == 0 ? "-" : kFlags[flag]), "\"");
  out = put(put(out, R"(,"route":)"), names.route);
  out = put(put(out, R"(,"source":)"), names.source);
  out = put_socket(put(out, R"(,"client":")"), record.client, record.client_port);
  *out++ = '"';
  if (record.tls_version == 0x0303) out = put(out, R"(,"tls_version":"1.2")");
  if (record.tls_version == 0x0304) out = put(out, R"(,"tls_version":"1.3")");
  if (!texts.client_identity.empty()) out = put_text(put(out, R"(,"client_identity":)"), texts.client_identity);
  out = put(put(out, R"(,"destination":)"), names.service);
  out = put_socket(put(out, R"(,"destination_address":")"), record.destination, record.destination_port);
  out = put(put(out, R"(","destination_workload":)"), names.workload);
  if (record.upstream_port == 0) {
    out = put(out, R"(,"endpoint":null,"attempts":)");
  } else {
    out = put_socket(put(out, R"(,"endpoint":")"), record.upstream, record.upstream_port);
    out = put(out, R"(","attempts":)");
  }
  out = put_number(out, record.attempts);
  out = put_number(put(out, R"(,"bytes_received":)"), static_cast<uint64_t>(record.received));
  out = put_number(put(out, R"(,"bytes_sent":)"), static_cast<uint64_t>(record.sent));
  out = put_ms(put(out, R"(,"duration_ms":)"), record.latency_us);
  out = put(out, R"(,"upstream_first_byte_ms":)");
  out = record.first_byte_us < 0 ? put(out, "null") : put_ms(out, static_cast<uint64_t>(record.first_byte_us));
  if (is_request) {
    out = put_text(put(out, R"(,"user_agent":)"), texts.user_agent);
    out = put_text(put(out, R"(,"request_id":)"), texts.request_id);
  }
  return put(out, "}\n");
}

}  // namespace weft
