// The lookup tables: which id for which bytes.
#include "core/tables/tables.h"

#include <arpa/inet.h>

#include <random>
#include <string>

#include "check.h"
#include "core/upstream_target.h"
#include "endpoint.h"

namespace weft::test {
namespace {

std::shared_ptr<const Tables> built(const TableSpec& spec) {
  std::string error;
  std::shared_ptr<const Tables> tables = Tables::build(spec, &error);
  CHECK_EQ(error, "");
  return tables;
}

std::string refused(const TableSpec& spec) {
  std::string error;
  CHECK(Tables::build(spec, &error) == nullptr);
  return error;
}

TEST("a host is found exactly before its longest suffix, whatever case, port or final dot") {
  TableSpec spec;
  spec.hosts = {"a.example.com", "*.example.com", "*.b.example.com", "[::1]", "localhost"};
  const auto tables = built(spec);
  CHECK_EQ(tables->host("a.example.com"), 0);
  CHECK_EQ(tables->host("A.Example.COM.:8080"), 0);
  CHECK_EQ(tables->host("x.example.com"), 1);
  CHECK_EQ(tables->host("x.y.example.com:1"), 1);
  CHECK_EQ(tables->host("x.b.example.com"), 2);
  CHECK_EQ(tables->host("b.example.com"), 1);
  CHECK_EQ(tables->host("example.com"), -1);
  CHECK_EQ(tables->host("[::1]:80"), 3);
  CHECK_EQ(tables->host("[::1]"), 3);
  CHECK_EQ(tables->host("localhost"), 4);
  for (const char* other : {"", ".", ":80", "[", "[::2]", "xlocalhost", "com"}) CHECK_EQ(tables->host(other), -1);
  CHECK_EQ(tables->host(std::string(5000, '.')), -1);
  spec.hosts.push_back("*");
  CHECK_EQ(built(spec)->host("else"), 5);
}

void check_path(const Tables& tables, std::string_view path, int32_t id, bool exact) {
  CHECK_EQ(tables.path(path).id, id);
  CHECK_EQ(tables.path(path).exact, exact);
}

TEST("a path is found by its longest prefix of whole elements") {
  TableSpec spec;
  spec.paths = {"/", "/foo", "/foo/bar", "/foo/bar/baz/qux"};
  const auto tables = built(spec);
  check_path(*tables, "/", 0, true);
  check_path(*tables, "/x", 0, false);
  check_path(*tables, "/foobar", 0, false);
  check_path(*tables, "/fo", 0, false);
  check_path(*tables, "/foo", 1, true);
  check_path(*tables, "/foo/", 1, false);
  check_path(*tables, "/foo/b", 1, false);
  check_path(*tables, "/foo//bar", 1, false);
  check_path(*tables, "/foo/bar", 2, true);
  check_path(*tables, "/foo/bar/baz", 2, false);
  check_path(*tables, "/foo/bar/baz/qux", 3, true);
  check_path(*tables, "/foo/bar/baz/qux/more/and/more", 3, false);
  check_path(*tables, "//foo", 0, false);
  check_path(*tables, "*", -1, false);
  check_path(*tables, "", -1, false);
  check_path(*tables, std::string(100000, '/'), 0, false);
  spec.paths = {"/only"};
  check_path(*built(spec), "/", -1, false);
}

/// Which predicates hold for a request of these lines.
std::string holding(const Tables& tables, const std::string& lines) {
  const std::string bytes = lines + "\r\n" + std::string(http1::kReadPastEnd, 0);
  const uint8_t* base = reinterpret_cast<const uint8_t*>(bytes.data());
  http1::RequestHead head;
  CHECK_EQ(http1::parse_request_head(base, lines.size() + 2, {}, &head).status, http1::ParseStatus::kComplete);
  std::vector<uint32_t> words(tables.predicate_words(), ~0u);
  weft::MatchedValues values;
  const bool any = tables.match_predicates(head, base, words.data(), &values);
  std::string ids;
  for (size_t i = 0; i < words.size() * 32; i++) {
    if ((words[i / 32] >> (i % 32) & 1) != 0) ids += (ids.empty() ? "" : " ") + std::to_string(i);
  }
  CHECK_EQ(any, !ids.empty());
  return ids;
}

TEST("predicates hold for exact headers, queries and methods") {
  TableSpec spec;
  spec.predicates = {{PredicateKind::kHeader, "x-user", "jason"}, {PredicateKind::kHeader, "x-user", "a,b"},
                     {PredicateKind::kQuery, "v", "2"},           {PredicateKind::kQuery, "flag", ""},
                     {PredicateKind::kMethod, "", "GET"},         {PredicateKind::kMethod, "", "PURGE"},
                     {PredicateKind::kHeader, "X-User", "jason"}, {PredicateKind::kHeader, "x-empty", ""}};
  const auto tables = built(spec);
  CHECK_EQ(holding(*tables, "GET / HTTP/1.1\r\nHost: a\r\nX-USER:  jason \r\n"), "0 4 6");
  CHECK_EQ(holding(*tables, "PUT / HTTP/1.1\r\nHost: a\r\nx-user: Jason\r\n"), "");
  CHECK_EQ(holding(*tables, "PUT / HTTP/1.1\r\nHost: a\r\nx-user: a\r\nX-Empty:\r\nX-User: b\r\n"), "1 7");
  CHECK_EQ(holding(*tables, "PUT / HTTP/1.1\r\nHost: a\r\nx-user: jason\r\nX-User: jason\r\n"), "");
  CHECK_EQ(holding(*tables, "PURGE /?v=2 HTTP/1.1\r\nHost: a\r\n"), "2 5");
  CHECK_EQ(holding(*tables, "PUT /?v=1&v=2 HTTP/1.1\r\nHost: a\r\n"), "");
  CHECK_EQ(holding(*tables, "PUT /?a=b&&flag&v=2&v=1 HTTP/1.1\r\nHost: a\r\n"), "2 3");
  CHECK_EQ(holding(*tables, "PUT /?flag=&v=%32 HTTP/1.1\r\nHost: a\r\n"), "3");
  CHECK_EQ(built({})->predicate_words(), 0u);
}

TEST("a predicate for a gRPC method holds for the second of two path elements alone") {
  TableSpec spec;
  spec.predicates = {
      {PredicateKind::kGrpcMethod, "", "Get"}, {PredicateKind::kMethod, "", "POST"}, {PredicateKind::kGrpcMethod, "", "Get"}};
  const auto tables = built(spec);
  const auto of = [&](const std::string& target) { return holding(*tables, "PUT " + target + " HTTP/1.1\r\nHost: a\r\n"); };
  for (const char* target : {"/shop.Catalog/Get", "/x/Get?q=1"}) CHECK_EQ(of(target), "0 2");
  for (const char* target : {"/Get", "/shop.Catalog/get", "/shop.Catalog/GetAll", "/a/b/Get", "/a/Get/", "/a/Get/b", "/", "/a/"})
    CHECK_EQ(of(target), "");
  CHECK_EQ(holding(*tables, "POST /shop.Catalog/Get HTTP/1.1\r\nHost: a\r\n"), "0 1 2");
}

TEST("addresses of both families are found, mapped ones as IPv4") {
  TableSpec spec;
  spec.destinations = {{"10.0.0.1", 80, Protocol::kHttp1}, {"10.0.0.1", 81, Protocol::kOpaque}, {"fd00::1", 80, Protocol::kHttp1}};
  spec.sources = {"10.0.0.2", "fd00::2", "10.0.0.2"};
  spec.endpoints = {endpoint_at(7, "10.0.0.3", 8080), endpoint_at(2, "fd00::3", 9090)};
  const auto tables = built(spec);
  Address address;
  CHECK(parse_address("10.0.0.1", &address));
  CHECK_EQ(tables->destination(address, 80).id, 0);
  CHECK_EQ(tables->destination(address, 81).id, 1);
  CHECK_EQ(tables->destination(address, 81).protocol, Protocol::kOpaque);
  CHECK_EQ(tables->destination(address, 82).id, -1);
  CHECK(parse_address("::ffff:10.0.0.2", &address));
  CHECK_EQ(tables->source(address), 0);
  CHECK(parse_address("fd00::2", &address));
  CHECK_EQ(tables->source(address), 1);
  CHECK_EQ(tables->endpoint(7)->port, 8080);
  CHECK_EQ(tables->endpoint(2)->port, 9090);
  for (const int32_t id : {-1, 0, 3, 8, 1 << 30}) CHECK(tables->endpoint(id) == nullptr);
  for (const char* none : {"", "10.0.0", "10.0.0.1 ", "::g", "a"}) CHECK(!parse_address(none, &address));
}

Address address_from(const char* text) {
  Address address;
  CHECK(parse_address(text, &address));
  return address;
}

TEST("what is bound to its client comes from the client's address of the endpoint's IP version") {
  TableSpec spec;
  spec.sources = {"10.0.0.2", "fd00::2", "fd00::3"};
  spec.source_twins = {1, 0};
  spec.endpoints = {endpoint_at(0, "10.0.0.9", 80), endpoint_at(1, "fd00::2", 80)};
  const auto tables = built(spec);
  TargetContext context;
  context.hairpin_v4 = address_from("169.254.7.8");
  context.hairpin_v6 = address_from("fd77::78");
  const auto source = [&](const char* client, int32_t endpoint, int32_t mark, uint32_t expected_mark) {
    context.client.address = address_from(client);
    Decision decision;
    decision.target = endpoint;
    decision.flags = kBindClient | mark;
    UpstreamTarget target;
    if (!resolve_target(decision, *tables, context, &target)) return Address{};
    CHECK(target.connect.bind_source);
    CHECK_EQ(target.connect.mark, expected_mark);
    return target.connect.source;
  };
  CHECK(source("10.0.0.2", 0, kMarkInject, kMarkValueInject) == address_from("10.0.0.2"));
  CHECK(source("fd00::2", 0, kMarkInject, kMarkValueInject) == address_from("10.0.0.2"));
  // The client itself, by its other address.
  CHECK(source("10.0.0.2", 1, kMarkInject, kMarkValueDeliver) == address_from("fd77::78"));
  // A client without one, and one that nobody knows.
  CHECK(source("fd00::3", 0, kMarkDeliver, kMarkValueDeliver) == address_from("169.254.7.8"));
  CHECK(source("fd00::3", 0, kMarkInject, kMarkValueInject) == Address{});
  CHECK(source("fd00::4", 0, kMarkInject, kMarkValueInject) == Address{});
}

TEST("socket addresses survive the way there and back") {
  for (const char* text : {"10.1.2.3", "fd00::1", "::ffff:1.2.3.4"}) {
    Address address, back;
    CHECK(parse_address(text, &address));
    sockaddr_storage storage;
    const socklen_t size = to_sockaddr(address, 4711, &storage);
    CHECK_EQ(size, std::string(text) == "fd00::1" ? sizeof(sockaddr_in6) : sizeof(sockaddr_in));
    uint16_t port = 0;
    CHECK(address_of(reinterpret_cast<const sockaddr*>(&storage), &back, &port));
    CHECK(back == address);
    CHECK_EQ(port, 4711);
  }
}

TEST("a bad spec is refused and says which row") {
  TableSpec spec;
  spec.sources = {"10.0.0.1", "nonsense"};
  CHECK_EQ(refused(spec), "sources[1]: \"nonsense\" is not an IPv4 or IPv6 address");
  spec = {};
  spec.paths = {"foo"};
  CHECK_EQ(refused(spec), "paths[0]: \"foo\" does not begin with \"/\"");
  spec = {};
  spec.mutations = {{{}, {{"host", "x"}}, {}}};
  CHECK_EQ(refused(spec), "mutations[0]: \"host\" is managed by the engine and cannot be changed");
  spec = {};
  spec.endpoints = {endpoint_at(1, "10.0.0.1", 1), endpoint_at(1, "10.0.0.2", 1)};
  CHECK_EQ(refused(spec), "endpoints[1]: id 1 stands there twice");
  spec = {};
  spec.local_replies = {{{{"x", "a\nb"}}, ""}};
  CHECK_EQ(refused(spec), "localReplies[0]: \"x\" has a value with control bytes");
  for (const RedirectSpec& redirect : {RedirectSpec{"http", "a\r\nx: y", 0, {}}, RedirectSpec{"http", "", 0, {"/a\r\nx: y", 0, false}}}) {
    spec = {};
    spec.local_replies = {{{}, "", redirect}};
    CHECK_EQ(refused(spec), "localReplies[0]: the host or the path of the redirect has bytes that no Location may have");
  }
  spec = {};
  spec.cors = {{false, {"*"}, {"x-a\r\nx: y"}, {}, 0}};
  CHECK_EQ(refused(spec), "cors[0]: a method or header is no token");
}

TEST("the longest header name that manifests may match by is one of predicates") {
  TableSpec spec;
  spec.predicates = {{PredicateKind::kHeader, std::string(256, 'x'), "1"}};
  CHECK_EQ(built(spec)->predicate_words(), 1u);
  spec.predicates[0].name += 'x';
  CHECK_EQ(refused(spec), "predicates[0]: \"" + std::string(257, 'x') + "\" is not a header name of at most 256 bytes");
}

TEST("values that patterns are for are found with their bytes, repeated headers joined") {
  TableSpec spec;
  spec.predicates = {{PredicateKind::kHeader, "x-a", "1"}};
  spec.values = {{PredicateKind::kHeader, "X-A"}, {PredicateKind::kQuery, "id"}, {PredicateKind::kHeader, "absent"}};
  const auto tables = built(spec);
  CHECK_EQ(tables->match_words(), 1u + 1u + 9u);
  std::string text = "GET /p?id=7&id=8 HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nX-A: 2\r\n\r\n";
  const size_t size = text.size();
  text.append(http1::kReadPastEnd, '\0');
  http1::RequestHead head;
  const auto* base = reinterpret_cast<const uint8_t*>(text.data());
  CHECK(http1::parse_request_head(base, size, {}, &head).status == http1::ParseStatus::kComplete);
  uint32_t words[1];
  MatchedValues values;
  CHECK(!tables->match_predicates(head, base, words, &values));
  CHECK_EQ(values.size(), 2u);
  CHECK_EQ(std::string(values.begin()[0].data, values.begin()[0].size), "1,2");
  CHECK_EQ(values.begin()[1].index, 1);
  CHECK_EQ(std::string(values.begin()[1].data, values.begin()[1].size), "7");
}

TEST("local replies and mutations are found by index") {
  TableSpec spec;
  spec.generation = 9;
  spec.mutations = {{{"x"}, {}, {}}};
  spec.local_replies = {{{{"content-type", "text/plain"}}, "no"}};
  const auto tables = built(spec);
  CHECK_EQ(tables->generation(), 9);
  CHECK(tables->mutation(0)->drops("X"));
  CHECK(tables->mutation(1) == nullptr && tables->mutation(-1) == nullptr);
  CHECK_EQ(tables->local_reply(0)->lines, "content-type: text/plain\r\n");
  CHECK(tables->local_reply(-1) == nullptr);
}

TEST("the index finds all of many keys and nothing else") {
  ByteIndex index;
  std::mt19937_64 random(7);
  std::vector<std::string> keys;
  for (int32_t i = 0; i < 20000; i++) {
    keys.push_back(std::to_string(i) + std::string(random() % 40, 'x'));
    CHECK_EQ(index.insert(keys.back(), i), ByteIndex::kNone);
  }
  for (int32_t i = 0; i < 20000; i++) {
    CHECK_EQ(index.find(keys[static_cast<size_t>(i)]), i);
    CHECK_EQ(index.find(keys[static_cast<size_t>(i)] + "y"), ByteIndex::kNone);
  }
  CHECK_EQ(index.insert(keys[5], 99), 5);
}

}  // namespace
}  // namespace weft::test
