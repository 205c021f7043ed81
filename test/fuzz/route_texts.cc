// Texts that routes make of a request (tables/changes.h), whatever tables take from a rule and the parser from a client: a target written
// anew is read back as it was written or refused, never read otherwise; lines for answers are so many whole lines.
// Input: two bytes of choices, the rule's path and host, a line each; then the request's head.
#include <algorithm>
#include <cstring>
#include <memory>

#include "core/http1/ascii.h"
#include "core/http1/serialize.h"
#include "core/request_view.h"
#include "core/tables/tables.h"
#include "http1_fuzz.h"

using namespace weft;
using namespace weft::http1;

namespace {

std::string take_line(std::string_view* rest) {
  const size_t end = std::min(rest->find('\n'), rest->size());
  std::string line(rest->substr(0, end));
  rest->remove_prefix(std::min(end + 1, rest->size()));
  return line;
}

TableSpec spec_of(uint8_t choices, uint8_t skip, std::string_view* rest) {
  constexpr int32_t kPorts[] = {kPortOfScheme, kPortOfRequest, 8080, 65535};
  const PathChange path{take_line(rest), skip, (choices & 1) != 0};
  const std::string host = take_line(rest);
  TableSpec spec;
  spec.rewrites = {{host, path}};
  LocalReplySpec redirect;
  redirect.redirect = RedirectSpec{(choices & 2) != 0 ? "https" : "http", host, kPorts[choices >> 2 & 3], path};
  spec.local_replies = {redirect};
  const std::vector<std::string> asked{(choices & 16) != 0 ? "*" : "PUT"};
  spec.cors = {{(choices & 32) != 0, asked, asked, {"x-a"}, choices >> 6}};
  return spec;
}

void check_rewritten(const RequestHead& head, const uint8_t* base, const RequestView& request, const RewriteSpec& rewrite) {
  const std::string target = changed_target(rewrite.path, request.path, request.query, request.has_query);
  RequestHeadOptions options;
  options.framing = request_body_framing(head);
  options.target = target;
  options.authority = !rewrite.authority.empty() || head.authority.size != 0 ? std::string_view(rewrite.authority) : "fallback";
  const size_t capacity = head.size + target.size() + rewrite.authority.size() + 256;
  const std::unique_ptr<char[]> out(new char[capacity]);
  size_t size = 0;
  fuzz::require(write_request_head(head, base, options, out.get(), capacity, &size), "a head grows by the texts and the framing");
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[size + kReadPastEnd]());
  memcpy(copy.get(), out.get(), size);
  RequestHead again;
  const ParseResult result = parse_request_head(copy.get(), size, {static_cast<uint32_t>(capacity), kMaxFields}, &again);
  if (result.error == HeadError::kTarget || result.error == HeadError::kHostSyntax) return;
  fuzz::require(result.status == ParseStatus::kComplete && again.size == size, "what is written anew is one whole head");
  fuzz::require(again.target.in(copy.get()) == target, "same target");
  fuzz::require(again.chunked == head.chunked && again.content_length == head.content_length, "same framing");
}

/// That many lines, each a field.
void check_lines(std::string_view lines, size_t count) {
  for (; count != 0; count--) {
    const size_t end = lines.find("\r\n");
    fuzz::require(end != std::string_view::npos, "a line ends");
    const std::string_view line = lines.substr(0, end);
    const size_t colon = line.find(": ");
    fuzz::require(colon != std::string_view::npos && is_token(line.substr(0, colon)), "a line has a name");
    fuzz::require(is_field_value(line.substr(colon + 2)), "a value has no control bytes");
    lines.remove_prefix(end + 2);
  }
  fuzz::require(lines.empty(), "no line more");
}

void check_location(const RequestView& request, const RedirectSpec& redirect) {
  const std::string line = location_line(redirect, request.authority, request.path, request.query, request.has_query);
  check_lines(line, 1);
  fuzz::require(line.rfind("location: http", 0) == 0 && line.find(' ', 10) == std::string::npos, "one URI");
}

void check_cors(const RequestView& request, const CorsLines& cors, uint8_t choices) {
  const size_t credentials = (choices & 32) != 0 ? 1 : 0;
  const bool echoes = credentials != 0 && (choices & 16) != 0;
  const size_t asked = echoes ? size_t{!request.preflight.method.empty()} + size_t{!request.preflight.headers.empty()} : 2;
  check_lines(cors.of_answer(request.origin), 2 + credentials);
  check_lines(cors.of_preflight(request.origin, request.preflight), 2 + credentials + asked + ((choices >> 6) != 0 ? 1 : 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  std::string error;
  const std::shared_ptr<const Tables> tables = Tables::build(spec_of(data[0], data[1], &rest), &error);
  if (tables == nullptr) return 0;
  const std::unique_ptr<uint8_t[]> base(new uint8_t[rest.size() + kReadPastEnd]());
  memcpy(base.get(), rest.data(), rest.size());
  RequestHead head;
  if (parse_request_head(base.get(), rest.size(), {}, &head).status != ParseStatus::kComplete) return 0;
  const RequestView request = view_of(head, base.get());
  if (!request.path.empty()) check_rewritten(head, base.get(), request, *tables->rewrite(0));
  check_location(request, *tables->local_reply(0)->redirect);
  check_cors(request, *tables->cors(0), data[0]);
  return 0;
}
