// See request_view.h.
#include "core/request_view.h"

#include "core/http1/ascii.h"

namespace weft {

namespace {

constexpr std::string_view kOrigin = "origin";
constexpr std::string_view kMethod = "access-control-request-method";
constexpr std::string_view kHeaders = "access-control-request-headers";

std::string_view find(const http1::RequestHead& head, const uint8_t* base, std::string_view lower_name) {
  for (size_t i = 0; i < head.field_count; i++) {
    if (http1::equals_lower(head.fields[i].name(base), lower_name)) return head.fields[i].value.in(base);
  }
  return {};
}

std::string_view find(const http2::HeaderBlock& block, std::string_view lower_name) {
  const http2::HeaderField* field = block.find(lower_name);
  return field != nullptr ? block.value(*field) : std::string_view();
}

}  // namespace

RequestView view_of(const http1::RequestHead& head, const uint8_t* base) {
  RequestView view;
  view.authority = head.authority.in(base);
  if (head.form == http1::TargetForm::kOrigin || head.form == http1::TargetForm::kAbsolute) {
    view.path = head.path.in(base);
    view.has_query = head.has_query;
    if (head.has_query) view.query = head.query.in(base);
  }
  view.origin = find(head, base, kOrigin);
  view.preflight = {find(head, base, kMethod), find(head, base, kHeaders)};
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
  view.origin = find(block, kOrigin);
  view.preflight = {find(block, kMethod), find(block, kHeaders)};
  return view;
}

}  // namespace weft
