// The engine's lookup tables: names of one configuration generation → the ids TypeScript gave them. Built once, immutable, shared by all
// workers through shared_ptr<const Tables>. Lookups allocate nothing and take time linear in their (bounded) input.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/http1/head.h"
#include "core/http1/serialize.h"
#include "core/tables/byte_index.h"
#include "core/tables/changes.h"
#include "core/tables/connection_policy.h"
#include "core/tables/retry_conditions.h"
#include "core/tls/tls_spec.h"

namespace weft {

enum class Reason : int32_t;

/// IPv6, or IPv4 mapped (::ffff:a.b.c.d), network byte order.
struct Address {
  std::array<uint8_t, 16> bytes{};
  // Not std::array's: gcc makes a call of that.
  bool operator==(const Address& other) const { return memcmp(bytes.data(), other.bytes.data(), sizeof(bytes)) == 0; }
};
/// False if `text` is neither an IPv4 nor an IPv6 address.
bool parse_address(const std::string& text, Address* out);
/// False for families other than AF_INET and AF_INET6. `port` in host order; may be null.
bool address_of(const sockaddr* from, Address* out, uint16_t* port);
/// AF_INET for mapped addresses. Returns the length.
socklen_t to_sockaddr(const Address& address, uint16_t port, sockaddr_storage* out);

// The same as TableSpec in agent/native/engine-tables.ts, field by field.
/// kGrpcMethod: the second of a path's two elements.
enum class PredicateKind : uint8_t { kHeader, kQuery, kMethod, kGrpcMethod, kClientAddress };
/// kHttp: HTTP/1 or HTTP/2, told apart by the client's first bytes. kDetect: any protocol, by whose first bytes come first, while dialling.
/// kDetectFirst: by the client's, before anything is dialled. Of an endpoint none of the three.
enum class Protocol : uint8_t { kHttp1, kOpaque, kDetect, kDetectFirst, kHttp2, kHttp };
using HeaderPair = std::pair<std::string, std::string>;
struct PredicateSpec {
  PredicateKind kind = PredicateKind::kHeader;
  std::string name;
  std::string value;
};
struct DestinationSpec {
  std::string address;
  uint16_t port = 0;
  Protocol protocol = Protocol::kHttp1;
};
/// The PROXY protocol header that begins every connection to an endpoint.
enum class ProxyAnnouncement : uint8_t { kNone, kV1, kV2 };

struct EndpointSpec {
  int32_t id = 0;
  std::string address;
  uint16_t port = 0;
  /// Null: plain text.
  std::shared_ptr<const EndpointTls> tls = nullptr;
  /// kHttp1 or kHttp2.
  Protocol protocol = Protocol::kHttp1;
  ProxyAnnouncement proxy = ProxyAnnouncement::kNone;
  /// Null: none.
  std::shared_ptr<const ConnectionPolicy> connections;
};
/// A header or query parameter whose values TypeScript looks at itself, or the 16 bytes of the client's address.
struct ValueSpec {
  PredicateKind kind = PredicateKind::kHeader;
  std::string name;
};
struct MutationSpec {
  std::vector<std::string> remove;
  std::vector<HeaderPair> set;
  std::vector<HeaderPair> add;
};
struct LocalReplySpec {
  std::vector<HeaderPair> headers;
  std::string body;
  std::optional<RedirectSpec> redirect = std::nullopt;
  /// What a gRPC client is told; -1: what follows from the status.
  int32_t grpc_status = -1;
  /// A Reason: what the report says.
  int32_t reason = 0;
};
struct NameSpec {
  std::string name;
  std::vector<std::string> addresses;
};
struct TableSpec {
  int32_t generation = 0;
  std::vector<std::string> hosts;
  std::vector<std::string> paths;
  std::vector<PredicateSpec> predicates;
  std::vector<ValueSpec> values;
  std::vector<DestinationSpec> destinations;
  std::vector<std::string> sources;
  std::vector<int32_t> source_twins;
  std::vector<std::string> identities;
  std::vector<EndpointSpec> endpoints;
  std::vector<MutationSpec> mutations;
  std::vector<LocalReplySpec> local_replies;
  std::vector<RewriteSpec> rewrites;
  std::vector<CorsSpec> cors;
  std::vector<RetrySpec> retries;
  // Tenant ids of what stands at the same index of sources and destinations, and of listeners by their id; what is missing is nobody's.
  std::vector<int32_t> source_tenants;
  std::vector<int32_t> destination_tenants;
  std::vector<int32_t> listener_tenants;
  // By tenant id; 0, and what is missing: the usual one.
  std::vector<int32_t> tenant_weights;
  // That DNS queries are answered for: lower case, without the last dot.
  std::vector<NameSpec> names;
};

struct PathMatch {
  /// -1: none.
  int32_t id = -1;
  /// The registered text is the whole path.
  bool exact = false;
};
struct Destination {
  int32_t id = -1;
  Protocol protocol = Protocol::kHttp1;
};
struct Endpoint {
  Address address;
  uint16_t port = 0;
  std::shared_ptr<const EndpointTls> tls;
  Protocol protocol = Protocol::kHttp1;
  ProxyAnnouncement proxy = ProxyAnnouncement::kNone;
  std::shared_ptr<const ConnectionPolicy> connections;
};
/// Ready to send: see http1::write_local_response.
struct LocalReply {
  /// Complete field lines, each with CRLF.
  std::string lines;
  std::string body;
  std::optional<RedirectSpec> redirect = std::nullopt;
  int32_t grpc_status = -1;
  Reason reason{};
};

/// Of one request, those that ValueSpecs ask for. The bytes are the message's, or its own.
class MatchedValues {
 public:
  static constexpr size_t kMax = 64;
  struct Value {
    int32_t index;
    uint32_t size;
    const char* data;
  };
  /// Beyond kMax they are left out: tables ask for no more.
  void add(int32_t index, std::string_view bytes) {
    if (size_ < kMax) values_[size_++] = {index, static_cast<uint32_t>(bytes.size()), bytes.data()};
  }
  void add_joined(int32_t index, std::string bytes) {
    joined_.push_back(std::make_unique<std::string>(std::move(bytes)));
    add(index, *joined_.back());
  }
  size_t size() const { return size_; }
  const Value* begin() const { return values_; }
  const Value* end() const { return values_ + size_; }

 private:
  size_t size_ = 0;
  Value values_[kMax];
  std::vector<std::unique_ptr<std::string>> joined_;
};

class Tables {
 public:
  /// Null, with what is wrong and where in `error`, on a bad spec (an address that is none, a mutation of a managed header, …).
  /// Of equal hosts, paths, destinations or sources the first has the id; of equal predicates each gets its bit.
  static std::shared_ptr<const Tables> build(const TableSpec& spec, std::string* error);

  /// Largest EndpointSpec.id: ids are indexes (of `outstanding` too), so they are dense.
  static constexpr int32_t kMaxEndpointId = (1 << 22) - 1;
  /// Distinct header or query names in predicates.
  static constexpr size_t kMaxPredicateNames = 1024;

  int32_t generation() const { return generation_; }
  /// Tells these tables from all others that this process built; never 0.
  uint64_t serial() const { return serial_; }

  /// `authority` as sent: port and one trailing dot are ignored, case too. Exact before the longest "*." suffix, before "*". -1: none.
  int32_t host(std::string_view authority) const;

  /// The longest registered path that is a whole-element prefix of `path` (no query): "/foo" is one of "/foo", "/foo/", "/foo/bar", not of
  /// "/foobar"; "/" of everything that begins with "/". A registered "/foo/" is only itself (and "/foo//…"). Bytes are compared as sent:
  /// neither decoded nor normalised.
  PathMatch path(std::string_view path) const;

  /// 32-bit words that match_predicates writes; 0 if the tables have no predicates.
  size_t predicate_words() const { return (predicate_count_ + 31) / 32; }
  bool looks_at_values() const { return value_count_ != 0; }
  /// Index of the value that is the client's address; -1: none is.
  int32_t client_value() const { return client_value_; }
  /// Words that a request's bits and values take, at most; 0 if the tables look at neither.
  size_t match_words() const { return predicate_words() + (value_count_ == 0 ? 0 : 1 + 3 * value_count_); }
  /// Clears and sets `words` (bit i of word i / 32: predicate i holds); returns whether any holds.
  /// Query: the first value of the name, as sent (no percent-decoding); a name without "=" has the empty value.
  bool match_predicates(const http1::RequestHead& head, const uint8_t* base, uint32_t* words, MatchedValues* values) const;

  // Its parts, for heads of another form (http2/match.h).
  bool has_header_predicates() const { return !headers_.names.empty(); }
  bool has_query_predicates() const { return !queries_.names.empty(); }
  /// Index of a header name (lower case) that predicates ask for; -1: none does.
  int32_t header_predicate_name(std::string_view lower_name) const;
  /// The first predicate that the value of that name, or the method, fulfils; -1: none.
  int32_t header_predicate(int32_t name, std::string_view value) const;
  /// Index of the ValueSpec of that name; -1: there is none.
  int32_t header_value(int32_t name) const { return headers_.names[static_cast<size_t>(name)].value_spec; }
  int32_t method_predicate(std::string_view method) const { return methods_.find(method); }
  /// As method_predicate(), of a request's path without query.
  int32_t grpc_predicate(std::string_view path) const;
  /// Sets the bits of `first` (-1: of none) and of all predicates equal to it.
  void set_predicates(int32_t first, uint32_t* words) const;
  bool match_query(std::string_view query, uint32_t* words, MatchedValues* values) const;

  /// id -1 if there is none.
  Destination destination(const Address& address, uint16_t port) const;
  /// The first index of that address; -1 if there is none.
  int32_t source(const Address& address) const;
  /// An address of the other IP version that the same client has; null where none is known.
  const Address* source_twin(const Address& address) const;
  /// Tenants by id; 0: nobody's.
  int32_t source_tenant(int32_t id) const { return at_or_0(source_tenants_, id); }
  int32_t destination_tenant(int32_t id) const { return at_or_0(destination_tenants_, id); }
  int32_t listener_tenant(int32_t id) const { return at_or_0(listener_tenants_, id); }
  /// 0: nothing said.
  int32_t tenant_weight(int32_t tenant) const { return at_or_0(tenant_weights_, tenant); }
  /// Of a name that DNS queries are answered for, lower case; null: of none. Valid as long as the tables.
  const std::vector<Address>* addresses_of(std::string_view name) const {
    const int32_t id = names_.find(name);
    return id < 0 ? nullptr : &name_addresses_[static_cast<size_t>(id)];
  }
  /// SPIFFE ID, byte by byte; -1 if there is none.
  int32_t identity(std::string_view id) const { return identities_.find(id); }

  /// Null for an id that this generation lacks. Valid as long as the tables.
  const Endpoint* endpoint(int32_t id) const;
  /// Null for -1 and for an index out of range.
  const http1::MutationSet* mutation(int32_t id) const;
  const LocalReply* local_reply(int32_t id) const;
  const RewriteSpec* rewrite(int32_t id) const { return at_or_null(rewrites_, id); }
  const CorsLines* cors(int32_t id) const { return at_or_null(cors_, id); }
  const RetryConditions* retry(int32_t id) const { return at_or_null(retries_, id); }

 private:
  /// One header or query name that predicates ask for.
  struct PredicateName {
    std::string name;
    /// value → first predicate with it; further ones by next_predicate_.
    ByteIndex values;
    int32_t value_spec = -1;
  };
  struct PredicateGroup {
    /// name → index in `names`.
    ByteIndex index;
    std::vector<PredicateName> names;
    /// Bit (size & 63) of every name.
    uint64_t sizes = 0;
  };

  Tables() = default;
  bool add_hosts(const TableSpec& spec, std::string* error);
  bool add_paths(const TableSpec& spec, std::string* error);
  bool add_predicates(const TableSpec& spec, std::string* error);
  bool add_values(const TableSpec& spec, std::string* error);
  PredicateName* predicate_name(PredicateKind kind, const std::string& name, std::string* error);
  bool add_changes(const TableSpec& spec, std::string* error);
  bool add_addresses(const TableSpec& spec, std::string* error);
  bool add_mutations(const TableSpec& spec, std::string* error);
  bool add_local_replies(const TableSpec& spec, std::string* error);
  static int32_t at_or_0(const std::vector<int32_t>& values, int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < values.size() ? values[static_cast<size_t>(id)] : 0;
  }
  template <typename T>
  static const T* at_or_null(const std::vector<T>& values, int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < values.size() ? &values[static_cast<size_t>(id)] : nullptr;
  }
  void link_predicate(ByteIndex* values, const std::string& value, int32_t id);
  bool match_headers(const http1::RequestHead& head, const uint8_t* base, uint32_t* words, MatchedValues* values) const;

  int32_t generation_ = 0;
  uint64_t serial_ = 0;
  ByteIndex exact_hosts_;
  /// With the dot: ".example.com".
  ByteIndex host_suffixes_;
  size_t longest_suffix_ = 0;
  int32_t any_host_ = -1;
  ByteIndex paths_;
  size_t longest_path_ = 0;
  int32_t root_path_ = -1;
  size_t predicate_count_ = 0;
  size_t value_count_ = 0;
  int32_t client_value_ = -1;
  std::vector<int32_t> next_predicate_;
  PredicateGroup headers_;
  PredicateGroup queries_;
  ByteIndex methods_;
  ByteIndex grpc_methods_;
  bool has_grpc_methods_ = false;
  ByteIndex destinations_;
  std::vector<Protocol> destination_protocols_;
  ByteIndex sources_;
  std::vector<Address> source_addresses_;
  /// By source: index of its twin; -1 and out of range: none.
  std::vector<int32_t> source_twins_;
  ByteIndex identities_;
  ByteIndex names_;
  std::vector<std::vector<Address>> name_addresses_;
  std::vector<Endpoint> endpoints_;
  std::vector<int32_t> endpoint_slots_;
  std::vector<http1::MutationSet> mutations_;
  std::vector<LocalReply> local_replies_;
  std::vector<RewriteSpec> rewrites_;
  std::vector<CorsLines> cors_;
  std::vector<RetryConditions> retries_;
  std::vector<int32_t> source_tenants_;
  std::vector<int32_t> destination_tenants_;
  std::vector<int32_t> listener_tenants_;
  std::vector<int32_t> tenant_weights_;
};

}  // namespace weft
