// What routes look at in a request's head to write texts of it, whichever protocol it came in. Views of the head.
#pragma once
#include <string_view>

#include "core/http1/head.h"
#include "core/http2/header_block.h"
#include "core/tables/changes.h"

namespace weft {

struct RequestView {
  std::string_view authority;
  // Empty where there is none: CONNECT, "*".
  std::string_view path;
  std::string_view query;
  bool has_query = false;
  std::string_view origin;
  PreflightRequest preflight;
};

RequestView view_of(const http1::RequestHead& head, const uint8_t* base);
RequestView view_of(const http2::HeaderBlock& block, const http2::RequestSummary& summary);

}  // namespace weft
