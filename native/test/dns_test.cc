// What of DNS is understood and answered (sniff/dns.h); everything else must be left to the resolver.
#include "core/sniff/dns.h"

#include <cstring>
#include <string>

#include "check.h"

namespace weft {
namespace {

using Bytes = std::string;

Bytes number(unsigned value) { return {static_cast<char>(value >> 8), static_cast<char>(value & 255)}; }

Bytes labels(std::initializer_list<std::string> all) {
  Bytes name;
  for (const std::string& label : all) name += static_cast<char>(label.size()) + label;
  return name + '\0';
}

const Bytes kName = labels({"Catalog", "shop", "svc"});

Bytes header(unsigned flags, unsigned questions, unsigned extra = 0) {
  return number(0x1234) + number(flags) + number(questions) + number(0) + number(0) + number(extra);
}

Bytes query(const Bytes& name, unsigned type, unsigned of_class = 1) { return header(0x0100, 1) + name + number(type) + number(of_class); }

Bytes opt(unsigned size, char version = 0, const Bytes& data = "") {
  return Bytes(1, '\0') + number(41) + number(size) + Bytes{0, version, 0, 0} + number(static_cast<unsigned>(data.size())) + data;
}

Bytes query_with(const Bytes& extra) { return header(0x0100, 1, 1) + kName + number(1) + number(1) + extra; }

bool parse(const Bytes& bytes, DnsQuestion* out) {
  // On the heap and exactly as large, so that a sanitizer sees whoever reads on.
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  return parse_dns_question(copy.data(), copy.size(), out);
}

bool is_understood(const Bytes& bytes) {
  DnsQuestion question;
  return parse(bytes, &question);
}

TEST("dns: a question for an address is understood, its name in lower case") {
  DnsQuestion question;
  CHECK(parse(query(kName, 1), &question));
  CHECK_EQ(std::string(question.name()), "catalog.shop.svc");
  CHECK(!question.v6);
  CHECK_EQ(question.edns_size, 0);
  CHECK(parse(query(kName, 28), &question));
  CHECK(question.v6);
  // AD and CD, which stub resolvers set.
  CHECK(parse(header(0x0130, 1) + kName + number(1) + number(1), &question));
  CHECK(parse(query_with(opt(4096)), &question));
  CHECK_EQ(question.edns_size, 4096);
  CHECK(parse(query_with(opt(100, 0, number(10) + number(8) + "cookies!")), &question));
  CHECK_EQ(question.edns_size, 512);
}

TEST("dns: no other message is") {
  const Bytes longest = labels({Bytes(63, 'a'), Bytes(63, 'b'), Bytes(63, 'c'), Bytes(61, 'd')});
  CHECK(is_understood(query(longest, 1)));
  const std::pair<const char*, Bytes> others[] = {
      {"empty", ""},
      {"a header alone", header(0x0100, 1)},
      {"a response", header(0x8100, 1) + kName + number(1) + number(1)},
      {"an update", header(0x2800, 1) + kName + number(1) + number(1)},
      {"truncated", header(0x0300, 1) + kName + number(1) + number(1)},
      {"authoritative", header(0x0500, 1) + kName + number(1) + number(1)},
      {"no question", header(0x0100, 0)},
      {"two questions", header(0x0100, 2) + kName + number(1) + number(1) + kName + number(1) + number(1)},
      {"SRV", query(kName, 33)},
      {"HTTPS", query(kName, 65)},
      {"ANY", query(kName, 255)},
      {"class CHAOS", query(kName, 1, 3)},
      {"class ANY", query(kName, 1, 255)},
      {"the root", query(Bytes(1, '\0'), 1)},
      {"a compressed name", query(Bytes("\xc0\x0c", 2), 1)},
      {"a label of 64", query(labels({Bytes(64, 'a')}), 1)},
      {"a name of 254", query(labels({Bytes(63, 'a'), Bytes(63, 'b'), Bytes(63, 'c'), Bytes(62, 'd')}), 1)},
      {"a dot in a label", query(labels({"catalog.shop", "svc"}), 1)},
      {"a byte behind it", query(kName, 1) + "x"},
      {"an answer count", number(1) + number(0x0100) + number(1) + number(1) + number(0) + number(0) + kName + number(1) + number(1)},
      {"an authority count", number(1) + number(0x0100) + number(1) + number(0) + number(1) + number(0) + kName + number(1) + number(1)},
      {"EDNS of version 1", query_with(opt(1232, 1))},
      {"OPT that is announced and missing", query_with("")},
      {"OPT with a name", query_with(kName + opt(1232).substr(1))},
      {"OPT longer than the message", query_with(opt(1232).substr(0, 9) + number(1))},
      {"a byte behind OPT", query_with(opt(1232) + "x")},
      {"another record in its place", query_with(Bytes(1, '\0') + number(250) + number(255) + Bytes(4, '\0') + number(0))},
      {"two of them", header(0x0100, 1, 2) + kName + number(1) + number(1) + opt(1232) + opt(1232)},
  };
  for (const auto& [what, bytes] : others) {
    if (is_understood(bytes)) test::fail(__FILE__, __LINE__, what);
  }
}

TEST("dns: of a query that is cut anywhere nothing is understood") {
  const Bytes whole = query_with(opt(1232, 0, number(10) + number(8) + "cookies!"));
  CHECK(is_understood(whole));
  for (size_t size = 0; size < whole.size(); size++) CHECK(!is_understood(whole.substr(0, size)));
}

Bytes answer(const Bytes& bytes, const std::vector<const char*>& addresses) {
  DnsQuestion question;
  CHECK(parse(bytes, &question));
  std::vector<Address> parsed;
  for (const char* text : addresses) {
    Address address;
    parse_address(text, &address);
    parsed.push_back(address);
  }
  // No more than was promised is written.
  std::vector<uint8_t> out(kMaxDnsAnswer);
  const size_t size = write_dns_answer(reinterpret_cast<const uint8_t*>(bytes.data()), question, parsed, out.data());
  return {reinterpret_cast<const char*>(out.data()), size};
}

TEST("dns: an answer repeats the question as it was asked and has the addresses of its family, with OPT where the query had it") {
  const Bytes question = kName + number(1) + number(1);
  const Bytes record = number(0xc00c) + number(1) + number(1) + number(0) + number(5) + number(4);
  const auto head = [](unsigned answers, unsigned extra) {
    return number(0x1234) + number(0x8180) + number(1) + number(answers) + number(0) + number(extra);
  };
  CHECK_EQ(answer(query(kName, 1), {"10.96.0.1", "fd00::1", "10.96.0.2"}),
           head(2, 0) + question + record + Bytes("\x0a\x60\x00\x01", 4) + record + Bytes("\x0a\x60\x00\x02", 4));
  CHECK_EQ(answer(query_with(opt(4096)), {"fd00::1"}), head(0, 1) + question + opt(1232));
}

TEST("dns: as many addresses as a plain query takes, no more") {
  const std::vector<const char*> many(200, "fd00::1");
  const Bytes plain = answer(query(kName, 28), many);
  CHECK(plain.size() <= 512 && plain.size() > 512 - 28);
  CHECK_EQ(static_cast<uint8_t>(plain[7]), static_cast<uint8_t>((plain.size() - query(kName, 28).size()) / 28));
  const std::vector<const char*> v4(200, "10.0.0.1");
  const Bytes large = answer(query_with(opt(65'535)), v4);
  CHECK(large.size() <= kMaxDnsAnswer && large.size() > kMaxDnsAnswer - 16);
}

}  // namespace
}  // namespace weft
