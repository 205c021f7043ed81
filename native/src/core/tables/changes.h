// What routes change of a request on its way, or answer instead: paths and hosts written anew, redirects, CORS. Pure functions over texts;
// who asks for them is the decision's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

// The same as in agent/native/engine-tables.ts, field by field.
/// What becomes of a path: `value` and all but its first `skip` bytes. Not `keeps_rest`: `value` alone. Empty `value` and 0: as it is.
struct PathChange {
  std::string value;
  uint32_t skip = 0;
  bool keeps_rest = true;

  bool changes() const { return !value.empty() || skip != 0 || !keeps_rest; }
};
struct RewriteSpec {
  /// Empty: as it came.
  std::string authority;
  PathChange path;
};
/// Port of a redirect: none is written (its scheme's own), or the one that the client's authority names.
inline constexpr int32_t kPortOfScheme = 0;
inline constexpr int32_t kPortOfRequest = -1;
struct RedirectSpec {
  /// "http" or "https".
  std::string scheme;
  /// Empty: the request's.
  std::string host;
  int32_t port = kPortOfScheme;
  PathChange path;
};
struct CorsSpec {
  bool credentials = false;
  /// "*" alone: any. So it is said to whoever shows no credentials; else it is what was asked for.
  std::vector<std::string> methods;
  std::vector<std::string> headers;
  std::vector<std::string> expose;
  /// Seconds; 0: nothing is said.
  int32_t max_age = 0;
};

/// Whether it may stand in a request's target.
bool is_path_text(std::string_view path);
/// Begins with "/" always. A `value` with a query of its own has that instead of `query` (without "?"; `has_query`: it may be empty).
std::string changed_target(const PathChange& change, std::string_view path, std::string_view query, bool has_query);
/// "location: …" CRLF. `authority` is the request's.
std::string location_line(const RedirectSpec& redirect, std::string_view authority, std::string_view path, std::string_view query,
                          bool has_query);

/// What a preflight request asks for.
struct PreflightRequest {
  std::string_view method;
  std::string_view headers;
};

/// A compiled CorsSpec: complete lines, for an origin that may know. Vary is not among them: it is for every other origin, too.
class CorsLines {
 public:
  explicit CorsLines(const CorsSpec& spec);
  /// For the answer to a request of `origin`.
  std::string of_answer(std::string_view origin) const;
  /// For the answer to its preflight request.
  std::string of_preflight(std::string_view origin, const PreflightRequest& asked) const;
  /// The headers of the answer are to be named in it, each.
  bool names_exposed() const { return names_exposed_; }

 private:
  std::string answer_;
  std::string preflight_;
  bool echoes_methods_ = false;
  bool echoes_headers_ = false;
  bool names_exposed_ = false;
};

}  // namespace weft
