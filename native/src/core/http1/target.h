// Between the head parsers (of HTTP/2 too) and the reading of request targets; not for others.
#pragma once

#include "core/http1/head.h"

namespace weft::http1 {

inline Span span(size_t begin, size_t end) { return {static_cast<uint32_t>(begin), static_cast<uint32_t>(end - begin)}; }

/// RFC 9112 3.2. Splits head->target (method and target are set): form, path, query, and an absolute form's authority (else empty).
/// Of an absolute form only "http" is served: the connection is not TLS.
HeadError parse_target(const uint8_t* data, RequestHead* head);

/// See RequestHead::path_is_ambiguous. `path` is without the query.
bool path_is_ambiguous(std::string_view path);

}  // namespace weft::http1
