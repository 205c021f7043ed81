// See changes.h.
#include "core/tables/changes.h"

#include <algorithm>

#include "core/http1/ascii.h"

namespace weft {
namespace {

std::string joined(const std::vector<std::string>& items) {
  std::string list;
  for (const std::string& item : items) list += (list.empty() ? "" : ", ") + item;
  return list;
}

void put_list(std::string_view name, const std::vector<std::string>& items, std::string* lines) {
  if (!items.empty()) lines->append(name).append(": ").append(joined(items)).append("\r\n");
}

bool is_any(const std::vector<std::string>& items) { return items.size() == 1 && items[0] == "*"; }

/// From the colon on; empty: there is none.
std::string_view port_of(std::string_view authority) {
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.rfind(':');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) return {};
  return authority.substr(colon);
}

}  // namespace

bool is_path_text(std::string_view path) {
  return std::all_of(path.begin(), path.end(), [](char byte) { return static_cast<uint8_t>(byte) > 0x20 && byte != 0x7f; });
}

std::string changed_target(const PathChange& change, std::string_view path, std::string_view query, bool has_query) {
  std::string target = change.value;
  if (change.keeps_rest) target += path.substr(std::min<size_t>(change.skip, path.size()));
  if (target.empty() || target[0] != '/') target.insert(0, 1, '/');
  if (has_query && target.find('?') == std::string::npos) target.append("?").append(query);
  return target;
}

std::string location_line(const RedirectSpec& redirect, std::string_view authority, std::string_view path, std::string_view query,
                          bool has_query) {
  const std::string_view port = port_of(authority);
  std::string line = "location: " + redirect.scheme + "://";
  line += redirect.host.empty() ? authority.substr(0, authority.size() - port.size()) : std::string_view(redirect.host);
  if (redirect.port > 0) line += ":" + std::to_string(redirect.port);
  if (redirect.port == kPortOfRequest) line += port;
  return line + changed_target(redirect.path, path, query, has_query) + "\r\n";
}

CorsLines::CorsLines(const CorsSpec& spec) {
  if (spec.credentials) answer_ = "access-control-allow-credentials: true\r\n";
  // To who shows credentials "*" is the name of a header (Fetch, 3.3.5): theirs are told one by one.
  names_exposed_ = spec.credentials && is_any(spec.expose);
  if (!names_exposed_) put_list("access-control-expose-headers", spec.expose, &answer_);
  preflight_ = answer_;
  echoes_methods_ = spec.credentials && is_any(spec.methods);
  echoes_headers_ = spec.credentials && is_any(spec.headers);
  if (!echoes_methods_) put_list("access-control-allow-methods", spec.methods, &preflight_);
  if (!echoes_headers_) put_list("access-control-allow-headers", spec.headers, &preflight_);
  if (spec.max_age > 0) preflight_ += "access-control-max-age: " + std::to_string(spec.max_age) + "\r\n";
}

std::string CorsLines::of_answer(std::string_view origin) const {
  return std::string("access-control-allow-origin: ").append(origin).append("\r\n").append(answer_);
}

std::string CorsLines::of_preflight(std::string_view origin, const PreflightRequest& asked) const {
  std::string lines = std::string("access-control-allow-origin: ").append(origin).append("\r\n").append(preflight_);
  if (echoes_methods_ && !asked.method.empty()) lines.append("access-control-allow-methods: ").append(asked.method).append("\r\n");
  if (echoes_headers_ && !asked.headers.empty()) lines.append("access-control-allow-headers: ").append(asked.headers).append("\r\n");
  return lines;
}

}  // namespace weft
