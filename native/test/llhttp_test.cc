// Replays llhttp's own vectors (extracted to testdata, read in place). Where we differ, the difference is listed with its reason: an
// unlisted difference fails, and so does a listed one that no longer is.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "check.h"
#include "transcript.h"

namespace weft::test {
namespace {

using namespace http1;

struct Difference {
  const char* id;
  const char* reason;
};

constexpr Difference kStricter[] = {
    {"llhttp-connection-4", "two empty lines before a request line; RFC 9112 2.2 asks for one"},
    {"llhttp-connection-8", "two empty lines before a request line; RFC 9112 2.2 asks for one"},
    {"llhttp-connection-9", "two empty lines before a request line; RFC 9112 2.2 asks for one"},
    {"llhttp-method-79", "RFC 9110 9.3.6: CONNECT has no content"},
    {"llhttp-method-80", "RFC 9112 3.2.4: the asterisk form is for OPTIONS"},
    {"llhttp-method-87", "ICE is not HTTP"},
    {"llhttp-method-88", "RTSP is not HTTP"},
    {"llhttp-method-89", "RTSP is not HTTP"},
    {"llhttp-pipelining-105", "its last body is one byte short, so what this test appends reads as a broken head"},
    {"llhttp-sample-108", "Host with \"=\": no DNS name"},
    {"llhttp-sample-109", "Host with \"=\": no DNS name"},
    {"llhttp-sample-115", "HTTP/0.9 is not served"},
    {"llhttp-transfer-encoding-129", "RFC 9110 6.5.1: Content-Type cannot stand in trailers"},
    {"llhttp-transfer-encoding-143", "a fragment in the target; a transfer coding beside chunked"},
    {"llhttp-transfer-encoding-144", "a fragment in the target; a transfer coding beside chunked"},
    {"llhttp-uri-162", "RFC 9112 3.2: a target has no fragment"},
    {"llhttp-uri-164", "RFC 9110 4.2.4: user info in a target"},
};

constexpr Difference kAccepted[] = {
    {"llhttp-connection-2", "what follows a request with \"close\" is for the connection to drop, not for the codec"},
    {"llhttp-invalid-45", "any token is a method (RFC 9110 9.1)"},
    {"llhttp-invalid-55", "any token is a method (RFC 9110 9.1)"},
    {"llhttp-transfer-encoding-132", "extensions are dropped unread, within bounds and without control bytes"},
    {"llhttp-transfer-encoding-134", "extensions are dropped unread, within bounds and without control bytes"},
};

const char* listed(const Difference* begin, const Difference* end, const std::string& id) {
  const Difference* found = std::find_if(begin, end, [&](const Difference& difference) { return id == difference.id; });
  return found == end ? nullptr : found->reason;
}

/// The vectors' JSON is flat and machine-made: one string or number a key.
std::string json_value(const std::string& line, const std::string& key) {
  const size_t at = line.find("\"" + key + "\": ");
  if (at == std::string::npos) return "";
  const size_t begin = at + key.size() + 4;
  if (line[begin] != '"') return line.substr(begin, line.find_first_of(",}", begin) - begin);
  size_t end = begin + 1;
  while (line[end] != '"') end += line[end] == '\\' ? 2 : 1;
  return line.substr(begin + 1, end - begin - 1);
}

std::string base64_decoded(const std::string& text) {
  static constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const char* found = c == 0 ? nullptr : strchr(kAlphabet, c);
    if (found == nullptr) break;
    bits = bits << 6 | static_cast<uint32_t>(found - kAlphabet);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 0xff);
  }
  return bytes;
}

/// The vectors are about other things than Host, and lost their last line ends when they were extracted.
std::string completed(std::string payload) {
  std::string lower = payload;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(tolower(c)); });
  if (lower.find("host:") == std::string::npos) {
    static constexpr std::string_view kVersion = " HTTP/1.1\r\n";
    for (size_t at = 0; (at = payload.find(kVersion, at)) != std::string::npos;) payload.insert(at += kVersion.size(), "Host: x\r\n");
  }
  return payload + "\r\n";
}

void replay(const std::string& line) {
  const std::string id = json_value(line, "id"), expected = json_value(line, "expect");
  std::string payload = completed(base64_decoded(json_value(line, "payload_b64")));
  // llhttp stops where the connection becomes a tunnel; that is no refusal.
  const bool pauses = expected == "error:Pause on CONNECT/Upgrade";
  const bool accepts = pauses || expected == "accept";
  const bool lacks_empty_line =
      transcript(classify_function(ScannerKind::kScalar), payload, {}, {}).find("incomplete") != std::string::npos;
  if (lacks_empty_line && !accepts) payload += "\r\n";
  std::string first;
  for (const ScannerKind kind : kScannerKinds) {
    if (classify_function(kind) == nullptr) continue;
    const std::string seen = transcript(classify_function(kind), payload, {}, {});
    if (first.empty()) first = seen;
    CHECK_EQ(seen, first);
    for (size_t cut = 1; cut < payload.size(); cut++) CHECK_EQ(transcript(classify_function(kind), payload, {cut}, {}), seen);
  }
  const bool we_accept = pauses ? first.rfind("request ", 0) == 0 : first.find("error ") == std::string::npos;
  const char* stricter = listed(std::begin(kStricter), std::end(kStricter), id);
  const char* accepted = listed(std::begin(kAccepted), std::end(kAccepted), id);
  const bool as_listed = accepts == we_accept ? stricter == nullptr && accepted == nullptr : (accepts ? stricter : accepted) != nullptr;
  if (!as_listed) fail(id.c_str(), 0, json_value(line, "title") + ", llhttp: " + expected + "\n" + escaped(payload) + "\n" + first);
}

TEST("llhttp's vectors give the same verdict, but where we are stricter on purpose") {
  std::ifstream in(WEFT_LLHTTP_VECTORS);
  size_t count = 0;
  for (std::string line; std::getline(in, line); count++) replay(line);
  if (count == 0)
    skipped = "no " WEFT_LLHTTP_VECTORS;
  else
    printf("llhttp vectors: %zu, stricter in %zu, laxer in %zu\n", count, std::size(kStricter), std::size(kAccepted));
}

}  // namespace
}  // namespace weft::test
