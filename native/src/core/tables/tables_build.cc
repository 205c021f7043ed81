// Builds the tables from a spec; the only place that says what is wrong with one.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/http1/ascii.h"
#include "core/tables/keys.h"
#include "core/tables/tables.h"

namespace weft {
namespace {

std::string at(const char* table, size_t index) { return std::string(table) + "[" + std::to_string(index) + "]"; }

std::string lowered(std::string_view text) {
  std::string copy(text);
  std::transform(copy.begin(), copy.end(), copy.begin(), http1::lower);
  return copy;
}

/// `address` into `out`, or an error that names the row.
bool read_address(const char* table, size_t index, const std::string& text, Address* out, std::string* error) {
  if (parse_address(text, out)) return true;
  *error = at(table, index) + ": \"" + text + "\" is not an IPv4 or IPv6 address";
  return false;
}

}  // namespace

std::shared_ptr<const Tables> Tables::build(const TableSpec& spec, std::string* error) {
  std::shared_ptr<Tables> tables(new Tables());
  static std::atomic<uint64_t> last_serial{0};
  tables->generation_ = spec.generation;
  tables->source_tenants_ = spec.source_tenants;
  tables->destination_tenants_ = spec.destination_tenants;
  tables->listener_tenants_ = spec.listener_tenants;
  tables->tenant_weights_ = spec.tenant_weights;
  tables->serial_ = last_serial.fetch_add(1, std::memory_order_relaxed) + 1;
  const bool good = tables->add_hosts(spec, error) && tables->add_paths(spec, error) && tables->add_predicates(spec, error) &&
                    tables->add_values(spec, error) && tables->add_changes(spec, error) && tables->add_addresses(spec, error) &&
                    tables->add_mutations(spec, error) && tables->add_local_replies(spec, error);
  return good ? tables : nullptr;
}

bool Tables::add_hosts(const TableSpec& spec, std::string* error) {
  for (size_t i = 0; i < spec.hosts.size(); i++) {
    const std::string host = lowered(spec.hosts[i]);
    const int32_t id = static_cast<int32_t>(i);
    if (host.empty()) {
      *error = at("hosts", i) + ": is empty";
      return false;
    }
    if (host == "*") {
      if (any_host_ < 0) any_host_ = id;
    } else if (host.size() > 2 && host[0] == '*' && host[1] == '.') {
      longest_suffix_ = std::max(longest_suffix_, host.size() - 1);
      host_suffixes_.insert(std::string_view(host).substr(1), id);
    } else {
      exact_hosts_.insert(host, id);
    }
  }
  return true;
}

bool Tables::add_paths(const TableSpec& spec, std::string* error) {
  for (size_t i = 0; i < spec.paths.size(); i++) {
    const std::string_view path = spec.paths[i];
    const int32_t id = static_cast<int32_t>(i);
    if (path.empty() || path[0] != '/') {
      *error = at("paths", i) + ": \"" + std::string(path) + "\" does not begin with \"/\"";
      return false;
    }
    if (path == "/") {
      if (root_path_ < 0) root_path_ = id;
      continue;
    }
    uint64_t hash = hash_seed();
    for (size_t begin = 0; begin < path.size();) {
      const size_t end = element_end(path, begin);
      hash = hash_bytes(path.data() + begin, end - begin, hash);
      begin = end;
    }
    paths_.insert_hashed(path, hash, id);
    longest_path_ = std::max(longest_path_, path.size());
  }
  return true;
}

void Tables::link_predicate(ByteIndex* values, const std::string& value, int32_t id) {
  const int32_t first = values->insert(value, id);
  if (first < 0) return;
  next_predicate_[static_cast<size_t>(id)] = next_predicate_[static_cast<size_t>(first)];
  next_predicate_[static_cast<size_t>(first)] = id;
}

bool Tables::add_predicates(const TableSpec& spec, std::string* error) {
  predicate_count_ = spec.predicates.size();
  next_predicate_.assign(predicate_count_, -1);
  for (size_t i = 0; i < predicate_count_; i++) {
    const PredicateSpec& predicate = spec.predicates[i];
    const int32_t id = static_cast<int32_t>(i);
    if (predicate.kind == PredicateKind::kMethod) {
      link_predicate(&methods_, predicate.value, id);
      continue;
    }
    if (predicate.kind == PredicateKind::kGrpcMethod) {
      has_grpc_methods_ = true;
      link_predicate(&grpc_methods_, predicate.value, id);
      continue;
    }
    PredicateName* name = predicate_name(predicate.kind, predicate.name, error);
    if (name == nullptr) {
      *error = at("predicates", i) + ": " + *error;
      return false;
    }
    link_predicate(&name->values, predicate.value, id);
  }
  return true;
}

/// Made if there is none; null, with what is wrong with it in `error`.
Tables::PredicateName* Tables::predicate_name(PredicateKind kind, const std::string& given, std::string* error) {
  const bool header = kind == PredicateKind::kHeader;
  if (header && (!http1::is_token(given) || given.size() > kMaxHeaderName)) {
    *error = "\"" + given + "\" is not a header name of at most " + std::to_string(kMaxHeaderName) + " bytes";
    return nullptr;
  }
  PredicateGroup& group = header ? headers_ : queries_;
  const std::string name = header ? lowered(given) : given;
  int32_t slot = group.index.insert(name, static_cast<int32_t>(group.names.size()));
  if (slot < 0) {
    slot = static_cast<int32_t>(group.names.size());
    group.names.push_back({name, {}});
    group.sizes |= 1ull << (name.size() & 63);
  }
  if (group.names.size() > kMaxPredicateNames) {
    *error = "more than " + std::to_string(kMaxPredicateNames) + " distinct names";
    return nullptr;
  }
  return &group.names[static_cast<size_t>(slot)];
}

bool Tables::add_values(const TableSpec& spec, std::string* error) {
  value_count_ = spec.values.size();
  if (value_count_ > MatchedValues::kMax) {
    *error = "values: more than " + std::to_string(MatchedValues::kMax);
    return false;
  }
  for (size_t i = 0; i < value_count_; i++) {
    if (spec.values[i].kind == PredicateKind::kClientAddress) {
      client_value_ = static_cast<int32_t>(i);
      continue;
    }
    PredicateName* name = predicate_name(spec.values[i].kind, spec.values[i].name, error);
    if (name == nullptr) {
      *error = at("values", i) + ": " + *error;
      return false;
    }
    name->value_spec = static_cast<int32_t>(i);
  }
  return true;
}

bool Tables::add_changes(const TableSpec& spec, std::string* error) {
  rewrites_ = spec.rewrites;
  for (size_t i = 0; i < rewrites_.size(); i++) {
    if (http1::is_field_value(rewrites_[i].authority) && is_path_text(rewrites_[i].path.value)) continue;
    *error = at("rewrites", i) + ": the host or the path has bytes that no request line may have";
    return false;
  }
  for (size_t i = 0; i < spec.cors.size(); i++) {
    const CorsSpec& cors = spec.cors[i];
    for (const auto* names : {&cors.methods, &cors.headers, &cors.expose}) {
      if (std::all_of(names->begin(), names->end(), http1::is_token)) continue;
      *error = at("cors", i) + ": a method or header is no token";
      return false;
    }
    cors_.emplace_back(cors);
  }
  for (const RetrySpec& retry : spec.retries) retries_.emplace_back(retry);
  return true;
}

bool Tables::add_addresses(const TableSpec& spec, std::string* error) {
  Address address;
  for (size_t i = 0; i < spec.destinations.size(); i++) {
    if (!read_address("destinations", i, spec.destinations[i].address, &address, error)) return false;
    destinations_.insert(SocketKey(address, spec.destinations[i].port).view(), static_cast<int32_t>(i));
    destination_protocols_.push_back(spec.destinations[i].protocol);
  }
  for (size_t i = 0; i < spec.sources.size(); i++) {
    if (!read_address("sources", i, spec.sources[i], &address, error)) return false;
    sources_.insert(address_key(address), static_cast<int32_t>(i));
    source_addresses_.push_back(address);
  }
  source_twins_ = spec.source_twins;
  for (size_t i = 0; i < spec.names.size(); i++) {
    std::vector<Address> addresses;
    for (const std::string& text : spec.names[i].addresses) {
      if (!read_address("names", i, text, &address, error)) return false;
      addresses.push_back(address);
    }
    names_.insert(spec.names[i].name, static_cast<int32_t>(i));
    name_addresses_.push_back(std::move(addresses));
  }
  for (size_t i = 0; i < spec.identities.size(); i++) identities_.insert(spec.identities[i], static_cast<int32_t>(i));
  for (size_t i = 0; i < spec.endpoints.size(); i++) {
    const EndpointSpec& endpoint = spec.endpoints[i];
    if (!read_address("endpoints", i, endpoint.address, &address, error)) return false;
    if (endpoint.id < 0 || endpoint.id > kMaxEndpointId || endpoint.port == 0) {
      *error = at("endpoints", i) + ": id " + std::to_string(endpoint.id) + " is not in 0.." + std::to_string(kMaxEndpointId) +
               " or the port is 0";
      return false;
    }
    const size_t id = static_cast<size_t>(endpoint.id);
    if (endpoint_slots_.size() <= id) endpoint_slots_.resize(id + 1, -1);
    if (endpoint_slots_[id] >= 0) {
      *error = at("endpoints", i) + ": id " + std::to_string(endpoint.id) + " stands there twice";
      return false;
    }
    endpoint_slots_[id] = static_cast<int32_t>(i);
    endpoints_.push_back({address, endpoint.port, endpoint.tls, endpoint.protocol, endpoint.proxy, endpoint.connections});
  }
  return true;
}

bool Tables::add_mutations(const TableSpec& spec, std::string* error) {
  mutations_.resize(spec.mutations.size());
  for (size_t i = 0; i < spec.mutations.size(); i++) {
    const MutationSpec& mutation = spec.mutations[i];
    if (!mutations_[i].compile(mutation.remove, mutation.set, mutation.add, error)) {
      *error = at("mutations", i) + ": " + *error;
      return false;
    }
  }
  return true;
}

bool Tables::add_local_replies(const TableSpec& spec, std::string* error) {
  for (size_t i = 0; i < spec.local_replies.size(); i++) {
    // The same rules as for headers that a mutation adds.
    http1::MutationSet lines;
    if (!lines.compile({}, {}, spec.local_replies[i].headers, error)) {
      *error = at("localReplies", i) + ": " + *error;
      return false;
    }
    const LocalReplySpec& reply = spec.local_replies[i];
    if (reply.redirect && !(is_path_text(reply.redirect->host) && is_path_text(reply.redirect->path.value))) {
      *error = at("localReplies", i) + ": the host or the path of the redirect has bytes that no Location may have";
      return false;
    }
    local_replies_.push_back(
        {std::string(lines.lines()), reply.body, reply.redirect, reply.grpc_status, static_cast<Reason>(reply.reason)});
  }
  return true;
}

}  // namespace weft
