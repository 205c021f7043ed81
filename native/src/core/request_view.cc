// See request_view.h.
#include "core/request_view.h"

namespace weft {

namespace {

constexpr std::string_view kOrigin = "origin";
constexpr std::string_view kMethod = "access-control-request-method";
constexpr std::string_view kHeaders = "access-control-request-headers";

}  // namespace

RequestView view_of(const http1::RequestHead& head, const uint8_t* base) {
  RequestView view;
  view.authority = head.authority.in(base);
  if (head.form == http1::TargetForm::kOrigin || head.form == http1::TargetForm::kAbsolute) {
    view.path = head.path.in(base);
    view.has_query = head.has_query;
    if (head.has_query) view.query = head.query.in(base);
  }
  view.origin = head.value_of(kOrigin, base);
  view.preflight = {head.value_of(kMethod, base), head.value_of(kHeaders, base)};
  return view;
}

RequestView view_of(const http2::HeaderBlock& block, const http2::RequestSummary& summary) {
  RequestView view;
  view.authority = summary.authority;
  if (!summary.path.empty() && summary.path[0] == '/') {
    view.path = summary.path;
    view.has_query = summary.has_query;
    view.query = summary.query;
  }
  view.origin = block.value_of(kOrigin);
  view.preflight = {block.value_of(kMethod), block.value_of(kHeaders)};
  return view;
}

}  // namespace weft
