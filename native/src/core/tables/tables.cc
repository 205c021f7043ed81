// The lookups. Nothing here allocates, but for requests that repeat a header which predicates ask for.
#include "core/tables/tables.h"

#include <algorithm>
#include <cstring>

#include "core/http1/ascii.h"
#include "core/tables/keys.h"

namespace weft {
namespace {

constexpr size_t kMaxHost = 260;

/// Names met so far, one bit each.
struct SeenNames {
  uint64_t words[Tables::kMaxPredicateNames / 64 + 1] = {};
  /// Whether it was there before.
  bool add(int32_t index) {
    uint64_t& word = words[static_cast<size_t>(index) / 64];
    const uint64_t bit = 1ull << (index % 64);
    const bool before = (word & bit) != 0;
    word |= bit;
    return before;
  }
};

std::string_view without_port(std::string_view authority) {
  if (!authority.empty() && authority[0] == '[') return authority.substr(0, std::min(authority.find(']'), authority.size() - 1) + 1);
  return authority.substr(0, authority.find(':'));
}

/// Field `at` and all later ones of that name, joined.
std::string join_fields(const http1::RequestHead& head, const uint8_t* base, size_t at, std::string_view lower_name) {
  std::string joined(head.fields[at].value.in(base));
  for (size_t i = at + 1; i < head.field_count; i++) {
    if (!http1::equals_lower(head.fields[i].name(base), lower_name)) continue;
    joined += ',';
    joined += head.fields[i].value.in(base);
  }
  return joined;
}

}  // namespace

int32_t Tables::host(std::string_view authority) const {
  std::string_view name = without_port(authority);
  if (name.empty() || name.size() > kMaxHost) return any_host_;
  if (name.back() == '.') name.remove_suffix(1);
  char lowered[kMaxHost];
  http1::copy_lower(name, lowered);
  name = {lowered, name.size()};
  const int32_t exact = exact_hosts_.find(name);
  if (exact >= 0 || host_suffixes_.empty()) return exact >= 0 ? exact : any_host_;
  for (size_t dot = name.find('.', 1); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
    if (name.size() - dot > longest_suffix_) continue;
    const int32_t suffix = host_suffixes_.find(name.substr(dot));
    if (suffix >= 0) return suffix;
  }
  return any_host_;
}

PathMatch Tables::path(std::string_view path) const {
  if (path.empty() || path[0] != '/') return {};
  PathMatch match{root_path_, root_path_ >= 0 && path.size() == 1};
  uint64_t hash = hash_seed();
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = element_end(path, begin);
    if (end > longest_path_) break;
    hash = hash_bytes(path.data() + begin, end - begin, hash);
    const int32_t id = paths_.find_hashed(path.substr(0, end), hash);
    if (id >= 0) match = {id, end == path.size()};
    begin = end;
  }
  return match;
}

void Tables::set_predicates(int32_t first, uint32_t* words) const {
  for (int32_t id = first; id >= 0; id = next_predicate_[static_cast<size_t>(id)]) words[id / 32] |= 1u << (id % 32);
}

int32_t Tables::header_predicate_name(std::string_view lower_name) const {
  if ((headers_.sizes >> (lower_name.size() & 63) & 1) == 0) return -1;
  return headers_.index.find(lower_name);
}

int32_t Tables::header_predicate(int32_t name, std::string_view value) const {
  return headers_.names[static_cast<size_t>(name)].values.find(value);
}

bool Tables::match_headers(const http1::RequestHead& head, const uint8_t* base, uint32_t* words, MatchedValues* values) const {
  struct Hit {
    int32_t name;
    uint32_t field;
  };
  Hit hits[http1::kMaxFields];
  size_t count = 0;
  bool repeated = false;
  SeenNames seen, again;
  for (size_t i = 0; i < head.field_count; i++) {
    const std::string_view name = head.fields[i].name(base);
    if ((headers_.sizes >> (name.size() & 63) & 1) == 0 || name.size() > kMaxHeaderName) continue;
    char lowered[kMaxHeaderName];
    http1::copy_lower(name, lowered);
    const int32_t index = headers_.index.find({lowered, name.size()});
    if (index < 0) continue;
    if (seen.add(index)) {
      repeated = true;
      again.add(index);
    } else {
      hits[count++] = {index, static_cast<uint32_t>(i)};
    }
  }
  bool any = false;
  for (size_t i = 0; i < count; i++) {
    const PredicateName& name = headers_.names[static_cast<size_t>(hits[i].name)];
    int32_t first;
    if (repeated && again.add(hits[i].name)) {
      std::string joined = join_fields(head, base, hits[i].field, name.name);
      first = name.values.find(joined);
      if (name.value_spec >= 0) values->add_joined(name.value_spec, std::move(joined));
    } else {
      const std::string_view value = head.fields[hits[i].field].value.in(base);
      first = name.values.find(value);
      if (name.value_spec >= 0) values->add(name.value_spec, value);
    }
    set_predicates(first, words);
    any |= first >= 0;
  }
  return any;
}

bool Tables::match_query(std::string_view query, uint32_t* words, MatchedValues* values) const {
  SeenNames seen;
  bool any = false;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = std::min(pair.find('='), pair.size());
    if ((queries_.sizes >> (equals & 63) & 1) == 0) continue;
    const int32_t index = queries_.index.find(pair.substr(0, equals));
    if (index < 0 || seen.add(index)) continue;
    const std::string_view value = pair.substr(std::min(equals + 1, pair.size()));
    const PredicateName& name = queries_.names[static_cast<size_t>(index)];
    if (name.value_spec >= 0) values->add(name.value_spec, value);
    const int32_t first = name.values.find(value);
    set_predicates(first, words);
    any |= first >= 0;
  }
  return any;
}

int32_t Tables::grpc_predicate(std::string_view path) const {
  if (!has_grpc_methods_) return -1;
  const size_t slash = path.find('/', 1);
  if (slash == std::string_view::npos || slash == 1 || path.find('/', slash + 1) != std::string_view::npos) return -1;
  return grpc_methods_.find(path.substr(slash + 1));
}

bool Tables::match_predicates(const http1::RequestHead& head, const uint8_t* base, uint32_t* words, MatchedValues* values) const {
  if (match_words() == 0) return false;
  memset(words, 0, predicate_words() * sizeof(*words));
  const int32_t method = methods_.find(head.method_token.in(base));
  set_predicates(method, words);
  const int32_t grpc_method = grpc_predicate(head.path.in(base));
  set_predicates(grpc_method, words);
  bool any = method >= 0 || grpc_method >= 0;
  if (!headers_.names.empty()) any |= match_headers(head, base, words, values);
  if (!queries_.names.empty() && head.has_query) any |= match_query(head.query.in(base), words, values);
  return any;
}

Destination Tables::destination(const Address& address, uint16_t port) const {
  const int32_t id = destinations_.find(SocketKey(address, port).view());
  return id < 0 ? Destination{} : Destination{id, destination_protocols_[static_cast<size_t>(id)]};
}

int32_t Tables::source(const Address& address) const { return sources_.find(address_key(address)); }

const Address* Tables::source_twin(const Address& address) const {
  const int32_t id = source(address);
  if (id < 0 || static_cast<size_t>(id) >= source_twins_.size()) return nullptr;
  const int32_t twin = source_twins_[static_cast<size_t>(id)];
  return twin >= 0 && static_cast<size_t>(twin) < source_addresses_.size() ? &source_addresses_[static_cast<size_t>(twin)] : nullptr;
}

const Endpoint* Tables::endpoint(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= endpoint_slots_.size()) return nullptr;
  const int32_t slot = endpoint_slots_[static_cast<size_t>(id)];
  return slot < 0 ? nullptr : &endpoints_[static_cast<size_t>(slot)];
}

const http1::MutationSet* Tables::mutation(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < mutations_.size() ? &mutations_[static_cast<size_t>(id)] : nullptr;
}

const LocalReply* Tables::local_reply(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < local_replies_.size() ? &local_replies_[static_cast<size_t>(id)] : nullptr;
}

}  // namespace weft
