// What routes change or answer: the tables of the Gateway API's specification, and what a hostile target does to them.
#include "core/tables/changes.h"

#include <string>

#include "check.h"

namespace weft::test {
namespace {

std::string replaced(const char* path, const char* prefix, const char* value) {
  // As agent/proxy/tables/actions.ts compiles ReplacePrefixMatch.
  std::string to(value), from(prefix);
  while (!to.empty() && to.back() == '/') to.pop_back();
  while (!from.empty() && from.back() == '/') from.pop_back();
  return changed_target({to, static_cast<uint32_t>(from.size()), true}, path, "", false);
}

TEST("changes replace a prefix by whole elements") {
  CHECK_EQ(replaced("/foo/bar", "/foo", "/xyz"), "/xyz/bar");
  CHECK_EQ(replaced("/foo/bar", "/foo", "/xyz/"), "/xyz/bar");
  CHECK_EQ(replaced("/foo/bar", "/foo/", "/xyz"), "/xyz/bar");
  CHECK_EQ(replaced("/foo", "/foo", "/xyz"), "/xyz");
  CHECK_EQ(replaced("/foo/", "/foo", "/xyz"), "/xyz/");
  CHECK_EQ(replaced("/foo/bar", "/foo", ""), "/bar");
  CHECK_EQ(replaced("/foo/", "/foo", ""), "/");
  CHECK_EQ(replaced("/foo", "/foo", ""), "/");
  CHECK_EQ(replaced("/foo", "/foo", "/"), "/");
  CHECK_EQ(replaced("/foo", "/", "/xyz"), "/xyz/foo");
}

TEST("changes keep the query unless the new path has one") {
  CHECK_EQ(changed_target({"/a", 0, false}, "/x", "q=1", true), "/a?q=1");
  CHECK_EQ(changed_target({"/a", 0, false}, "/x", "", true), "/a?");
  CHECK_EQ(changed_target({"/a?b", 0, false}, "/x", "q=1", true), "/a?b");
  CHECK_EQ(changed_target({"", 100, true}, "/x", "", false), "/");
  CHECK_EQ(changed_target({"a", 0, false}, "/x", "", false), "/a");
}

TEST("changes write the location of a redirect") {
  const auto line = [](const RedirectSpec& redirect, const char* authority) { return location_line(redirect, authority, "/p", "q", true); };
  CHECK_EQ(line({"https", "", kPortOfScheme, {}}, "a.test:8080"), "location: https://a.test/p?q\r\n");
  CHECK_EQ(line({"http", "", kPortOfRequest, {}}, "a.test:8080"), "location: http://a.test:8080/p?q\r\n");
  CHECK_EQ(line({"http", "b.test", 81, {}}, "a.test"), "location: http://b.test:81/p?q\r\n");
  CHECK_EQ(line({"http", "", kPortOfScheme, {}}, "[fd00::1]:8080"), "location: http://[fd00::1]/p?q\r\n");
  CHECK_EQ(line({"http", "", kPortOfRequest, {}}, "[fd00::1]"), "location: http://[fd00::1]/p?q\r\n");
}

TEST("changes say any method to who shows no credentials") {
  const CorsLines open(CorsSpec{false, {"*"}, {"*"}, {}, 0});
  CHECK_EQ(open.of_preflight("http://a", {"PUT", "x"}),
           "access-control-allow-origin: http://a\r\naccess-control-allow-methods: *\r\naccess-control-allow-headers: *\r\n");
  const CorsLines trusting(CorsSpec{true, {"*"}, {"*"}, {"x-a", "x-b"}, 60});
  CHECK_EQ(trusting.of_preflight("http://a", {"PUT", "x"}),
           "access-control-allow-origin: http://a\r\naccess-control-allow-credentials: true\r\n"
           "access-control-expose-headers: x-a, x-b\r\naccess-control-max-age: 60\r\naccess-control-allow-methods: PUT\r\n"
           "access-control-allow-headers: x\r\n");
  CHECK(!trusting.names_exposed());
  CHECK(CorsLines(CorsSpec{true, {"*"}, {"*"}, {"*"}, 0}).names_exposed());
  CHECK_EQ(CorsLines(CorsSpec{false, {}, {}, {"*"}, 0}).of_answer("http://a"),
           "access-control-allow-origin: http://a\r\naccess-control-expose-headers: *\r\n");
}

}  // namespace
}  // namespace weft::test
