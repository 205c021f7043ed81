// The lookups, and what is remembered of them.
#include "core/http2/match.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace weft::http2 {
namespace {

using http1::KnownHeader;

/// Under which name predicates ask for a field; empty: under none. :authority is HTTP/1's Host.
std::string_view predicate_header(const FieldTraits& traits, std::string_view name) {
  if (traits.pseudo == Pseudo::kNone) return name;
  return traits.pseudo == Pseudo::kAuthority ? std::string_view("host") : std::string_view();
}

MatchCache look_up(const Tables& tables, const FieldTraits& traits, std::string_view name, std::string_view value) {
  MatchCache found;
  found.tables_serial = tables.serial();
  if (traits.pseudo == Pseudo::kAuthority || traits.known == KnownHeader::kHost) {
    found.id = tables.host(value);
  } else if (traits.pseudo == Pseudo::kPath) {
    const PathMatch path = tables.path(value.substr(0, value.find('?')));
    found.id = path.id;
    found.exact = path.exact;
    found.predicate = tables.grpc_predicate(value.substr(0, value.find('?')));
  } else if (traits.pseudo == Pseudo::kMethod) {
    found.predicate = tables.method_predicate(value);
  }
  const std::string_view header = predicate_header(traits, name);
  if (header.empty() || !tables.has_header_predicates()) return found;
  found.predicate_name = tables.header_predicate_name(header);
  if (found.predicate_name >= 0) found.predicate = tables.header_predicate(found.predicate_name, value);
  return found;
}

/// `name` and `value` are only needed of fields that are not interned.
MatchCache match_field(const Tables& tables, const HeaderField& field, std::string_view name, std::string_view value) {
  if (field.interned == nullptr) return look_up(tables, field.traits, name, value);
  MatchCache& cache = field.interned->match_cache();
  if (cache.tables_serial != tables.serial()) cache = look_up(tables, field.traits, field.interned->name(), field.interned->value());
  return cache;
}

struct Hit {
  const HeaderField* field;
  int32_t name;
  int32_t predicate;
  bool repeated;
};

/// The values of all fields with that predicate name.
std::string join_values(const HeaderBlock& block, std::string_view name, bool is_cookie) {
  std::string joined;
  for (const HeaderField& field : block) {
    if (block.name(field) != name) continue;
    if (!joined.empty()) joined += is_cookie ? "; " : ",";
    joined += block.value(field);
  }
  return joined;
}

/// The fields that predicates ask for, each name once; returns how many.
size_t collect_hits(const Tables& tables, const HeaderBlock& block, const RequestSummary& request, Hit* hits) {
  size_t count = 0;
  for (const HeaderField& field : block) {
    // Beside :authority, Host is the same.
    if (field.traits.known == KnownHeader::kHost && request.authority_field != &field) continue;
    const MatchCache found = match_field(tables, field, block.name(field), block.value(field));
    if (found.predicate_name < 0) continue;
    Hit* before = std::find_if(hits, hits + count, [&](const Hit& hit) { return hit.name == found.predicate_name; });
    if (before != hits + count) {
      before->repeated = true;
    } else {
      hits[count++] = {&field, found.predicate_name, found.predicate, false};
    }
  }
  return count;
}

bool match_headers(const Tables& tables, const HeaderBlock& block, const RequestSummary& request, uint32_t* words, MatchedValues* values) {
  Hit hits[http1::kMaxFields];
  const size_t count = collect_hits(tables, block, request, hits);
  bool any = false;
  for (size_t i = 0; i < count; i++) {
    const Hit& hit = hits[i];
    const bool is_cookie = (hit.field->traits.flags & kFieldCookie) != 0;
    const int32_t value = tables.header_value(hit.name);
    int32_t first = hit.predicate;
    if (hit.repeated) {
      std::string joined = join_values(block, block.name(*hit.field), is_cookie);
      first = tables.header_predicate(hit.name, joined);
      if (value >= 0) values->add_joined(value, std::move(joined));
    } else if (value >= 0) {
      values->add(value, block.value(*hit.field));
    }
    tables.set_predicates(first, words);
    any |= first >= 0;
  }
  return any;
}

}  // namespace

int32_t match_host(const Tables& tables, const RequestSummary& request) {
  return match_field(tables, *request.authority_field, {}, request.authority).id;
}

PathMatch match_path(const Tables& tables, const RequestSummary& request) {
  // CONNECT has none, and is matched as "/" is.
  if (request.path_field == nullptr) return tables.path("/");
  const MatchCache found = match_field(tables, *request.path_field, {}, request.target);
  return {found.id, found.exact};
}

bool match_predicates(const Tables& tables, const HeaderBlock& block, const RequestSummary& request, uint32_t* words,
                      MatchedValues* values) {
  if (tables.match_words() == 0) return false;
  memset(words, 0, tables.predicate_words() * sizeof(*words));
  const int32_t method = match_field(tables, *request.method_field, {}, request.method_token).predicate;
  tables.set_predicates(method, words);
  const int32_t grpc_method = request.path_field == nullptr ? -1 : match_field(tables, *request.path_field, {}, request.target).predicate;
  tables.set_predicates(grpc_method, words);
  bool any = method >= 0 || grpc_method >= 0;
  if (tables.has_header_predicates()) any |= match_headers(tables, block, request, words, values);
  if (tables.has_query_predicates() && request.has_query) any |= tables.match_query(request.query, words, values);
  return any;
}

}  // namespace weft::http2
