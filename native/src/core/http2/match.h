// Lookup tables over decoded blocks: the same answers as Tables gives for an HTTP/1 head, remembered on the interned lines, so that a
// line that was met before under the same tables costs a comparison.
#pragma once

#include "core/http2/header_block.h"
#include "core/tables/tables.h"

namespace weft::http2 {

int32_t match_host(const Tables& tables, const RequestSummary& request);
PathMatch match_path(const Tables& tables, const RequestSummary& request);
/// As Tables::match_predicates: clears and sets `words`; whether any holds. A header that occurs more than once counts with its values
/// joined by "," (Cookie: "; ").
bool match_predicates(const Tables& tables, const HeaderBlock& block, const RequestSummary& request, uint32_t* words,
                      MatchedValues* values);

}  // namespace weft::http2
