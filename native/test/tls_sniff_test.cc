// First bytes: ClientHello cut anywhere, protocol detection, PROXY protocol headers of both versions.
#include <cstring>

#include "check.h"
#include "core/sniff/client_hello.h"
#include "core/sniff/protocol.h"
#include "core/sniff/proxy_protocol.h"

namespace weft {
namespace {

using Bytes = std::string;

Bytes number(size_t value, int width) {
  Bytes bytes;
  for (int i = width - 1; i >= 0; i--) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}
Bytes vector(const Bytes& content, int width) { return number(content.size(), width) + content; }
Bytes extension(size_t type, const Bytes& body) { return number(type, 2) + vector(body, 2); }
Bytes server_name(const Bytes& name) { return extension(0, vector(Bytes(1, '\0') + vector(name, 2), 2)); }
Bytes alpn() { return extension(16, vector(vector("h2", 1) + vector("http/1.1", 1), 2)); }

Bytes message(const Bytes& extensions) {
  const Bytes body = number(0x0303, 2) + Bytes(32, 'r') + vector(Bytes(32, 's'), 1) + vector(number(0x1301, 2), 2) +
                     vector(Bytes(1, '\0'), 1) + vector(extensions, 2);
  return Bytes(1, '\1') + vector(body, 3);
}
Bytes record(const Bytes& content) { return Bytes("\x16\x03\x01") + vector(content, 2); }

SniffStatus sniff(const Bytes& bytes, ClientHello* hello) {
  return sniff_client_hello(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), hello);
}

TEST("ClientHello: the name and the protocols, whatever the case and whatever follows") {
  ClientHello hello;
  const Bytes bytes = record(message(extension(43, Bytes(5, 'v')) + server_name("A.Example.Test") + alpn())) + "more";
  CHECK(sniff(bytes, &hello) == SniffStatus::kComplete);
  CHECK_EQ(std::string(hello.name()), "a.example.test");
  CHECK(hello.offers("h2"));
  CHECK(hello.offers("http/1.1"));
  CHECK(!hello.offers("http/1"));
  CHECK(sniff(record(message(alpn())), &hello) == SniffStatus::kComplete);
  CHECK_EQ(std::string(hello.name()), "");
}

TEST("ClientHello: every prefix is incomplete, and every cut into two records the same") {
  const Bytes whole = message(server_name("a.test") + alpn());
  ClientHello hello;
  const Bytes one = record(whole);
  for (size_t size = 0; size < one.size(); size++) CHECK(sniff(one.substr(0, size), &hello) == SniffStatus::kIncomplete);
  for (size_t cut = 1; cut < whole.size(); cut++) {
    const Bytes two = record(whole.substr(0, cut)) + record(whole.substr(cut));
    CHECK(sniff(two, &hello) == SniffStatus::kComplete);
    CHECK_EQ(std::string(hello.name()), "a.test");
    CHECK(sniff(two.substr(0, two.size() - 1), &hello) == SniffStatus::kIncomplete);
  }
  Bytes singles;
  for (const char byte : whole) singles += record(Bytes(1, byte));
  CHECK(sniff(singles, &hello) == SniffStatus::kComplete);
  CHECK_EQ(std::string(hello.name()), "a.test");
}

TEST("ClientHello: one that ends in the middle of its record is read as well") {
  ClientHello hello;
  const Bytes whole = message(server_name("a.test"));
  const Bytes bytes = Bytes("\x16\x03\x01") + number(whole.size() + 100, 2) + whole;
  CHECK(sniff(bytes, &hello) == SniffStatus::kComplete);
  CHECK_EQ(std::string(hello.name()), "a.test");
}

TEST("ClientHello: 15 KiB over records are read, more are refused before they have come") {
  ClientHello hello;
  const Bytes big = message(extension(21, Bytes(15'000, '\0')) + server_name("big.test"));
  Bytes cut;
  for (size_t at = 0; at < big.size(); at += 999) cut += record(big.substr(at, 999));
  CHECK(sniff(cut, &hello) == SniffStatus::kComplete);
  CHECK_EQ(std::string(hello.name()), "big.test");
  CHECK(sniff(record(message(extension(21, Bytes(16'400, '\0')))).substr(0, 20), &hello) == SniffStatus::kInvalid);
}

TEST("ClientHello: what is none is refused") {
  ClientHello hello;
  const Bytes good = record(message(server_name("a.test")));
  const auto invalid = [&](const Bytes& bytes) { return sniff(bytes, &hello) == SniffStatus::kInvalid; };
  CHECK(invalid("GET / HTTP/1.1\r\n"));
  CHECK(invalid(record(Bytes(1, '\2') + message("").substr(1))));
  CHECK(invalid(record("")));
  CHECK(invalid(record(message(server_name("a.test") + server_name("b.test")))));
  CHECK(invalid(record(message(alpn() + alpn()))));
  CHECK(invalid(record(message(server_name("")))));
  CHECK(invalid(record(message(server_name(Bytes("a\0b", 3))))));
  CHECK(invalid(record(message(server_name("a b")))));
  CHECK(invalid(record(message(server_name(Bytes(256, 'a'))))));
  CHECK(invalid(record(message(number(0, 2) + number(9, 2) + "x"))));
  CHECK(invalid(Bytes("\x16\x02") + good.substr(2)));
}

FirstBytes detect(const Bytes& bytes) { return detect_protocol(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()); }

TEST("Protocol detection: at every prefix undecided or right") {
  const std::pair<Bytes, FirstBytes> cases[] = {
      {"GET / HTTP/1.1\r\n", FirstBytes::kHttp1},
      {"PRIVATE /x HTTP/1.1\r\n", FirstBytes::kHttp1},
      {"M-SEARCH * HTTP/1.1\r\n", FirstBytes::kHttp1},
      {"CONNECT a.test:443 HTTP/1.1\r\n", FirstBytes::kHttp1},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FirstBytes::kHttp2},
      {record(message("")), FirstBytes::kTls},
      {"SSH-2.0-OpenSSH", FirstBytes::kOpaque},
      {"\r\n", FirstBytes::kOpaque},
      {Bytes(30, 'A'), FirstBytes::kOpaque},
      {Bytes("\x16\x02\x01\x02", 4), FirstBytes::kOpaque},
      {Bytes("\0\0\0\x08\x04\xd2\x16\x2f", 8), FirstBytes::kOpaque},
      {"A1 LOGIN x y\r\n", FirstBytes::kOpaque},
      {"GET HTTPS://a.test/ HTTP/1.1\r\n", FirstBytes::kHttp1},
      {Bytes(20, 'M') + " http://a.test/ HTTP/1.1\r\n", FirstBytes::kHttp1},
      {"CONNECT [::1]:443 HTTP/1.1\r\n", FirstBytes::kHttp1},
      {"NICK joe\r\n", FirstBytes::kOpaque},
      {"SET key value\r\n", FirstBytes::kOpaque},
      {"HELO http.test\r\n", FirstBytes::kOpaque},
      {"OPTIONS rtsp://a.test/ RTSP/1.0\r\n", FirstBytes::kOpaque},
  };
  for (const auto& [bytes, expected] : cases) {
    CHECK(detect(bytes) == expected);
    for (size_t size = 0; size < bytes.size(); size++) {
      const FirstBytes early = detect(bytes.substr(0, size));
      CHECK(early == FirstBytes::kUndecided || early == expected);
    }
  }
  CHECK(detect(Bytes(kFirstBytesNeeded, 'A')) != FirstBytes::kUndecided);
}

ProxyStatus parse(const Bytes& bytes, ProxyHeader* header) {
  return parse_proxy_header(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), header);
}

Peer peer(const char* address, uint16_t port) {
  Peer made;
  CHECK(parse_address(address, &made.address));
  made.port = port;
  return made;
}

TEST("PROXY protocol: what is written is read back, and every prefix is incomplete") {
  const std::pair<Peer, Peer> cases[] = {
      {peer("10.1.2.3", 65535), peer("192.0.2.1", 1)},
      {peer("2001:db8::1", 443), peer("fe80::2", 8443)},
      {peer("10.1.2.3", 5), peer("2001:db8::1", 6)},
      {peer("2001:db8::1", 5), peer("10.1.2.3", 6)},
  };
  for (const ProxyVersion version : {ProxyVersion::kV1, ProxyVersion::kV2}) {
    for (const auto& [source, destination] : cases) {
      uint8_t out[kProxyHeaderCapacity];
      const Bytes bytes(reinterpret_cast<char*>(out), write_proxy_header(version, source, destination, out));
      ProxyHeader header;
      CHECK(parse(bytes + "GET /", &header) == ProxyStatus::kComplete);
      CHECK_EQ(header.size, bytes.size());
      CHECK(!header.is_local && header.source == source && header.destination == destination);
      for (size_t size = 0; size < bytes.size(); size++) CHECK(parse(bytes.substr(0, size), &header) == ProxyStatus::kIncomplete);
    }
  }
}

TEST("PROXY protocol: local commands and foreign families keep the socket's addresses; TLVs are skipped") {
  const Bytes signature("\r\n\r\n\0\r\nQUIT\n", 12);
  ProxyHeader header;
  CHECK(parse(signature + Bytes("\x20\0\0\0", 4), &header) == ProxyStatus::kComplete);
  CHECK(header.is_local);
  CHECK(parse(signature + Bytes("\x21\x31\0\x02zz", 6), &header) == ProxyStatus::kComplete);
  CHECK(header.is_local);
  CHECK(parse(signature + Bytes("\x21\x11\0\x10\x0a\0\0\x01\x0a\0\0\x02\0\x50\0\x51tlvs", 20), &header) == ProxyStatus::kComplete);
  CHECK_EQ(header.size, 32u);
  CHECK_EQ(header.source.port, 80);
  CHECK(parse("PROXY UNKNOWN whatever stands here\r\n", &header) == ProxyStatus::kComplete);
  CHECK(header.is_local);
}

TEST("PROXY protocol: what is malformed is refused") {
  const Bytes signature("\r\n\r\n\0\r\nQUIT\n", 12);
  ProxyHeader header;
  for (const Bytes& bytes : {
           Bytes("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\n"),
           Bytes("PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n"),
           Bytes("PROXY TCP4 10.0.0.1 10.0.0.2 01 2\r\n"),
           Bytes("PROXY TCP4 10.0.0.1 10.0.0.2 1 65536\r\n"),
           Bytes("PROXY TCP4 10.0.0.1 10.0.0.2 1 2 3\r\n"),
           Bytes("PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n"),
           Bytes("PROXY TCP4 ::1 ::2 1 2\r\n"),
           Bytes("PROXY TCP5 10.0.0.1 10.0.0.2 1 2\r\n"),
           Bytes("PROXY TCP4 10.0.0.1\r10.0.0.2 1 2\r\n"),
           Bytes("PROXY UNKNOWN a\rb\r\n"),
           "PROXY " + Bytes(101, 'x'),
           signature + Bytes("\x11\x11\0\x0c", 4),
           signature + Bytes("\x22\x11\0\x0c", 4),
           signature + Bytes("\x21\x11\0\x04zzzz", 8),
       }) {
    CHECK(parse(bytes, &header) == ProxyStatus::kInvalid);
  }
  for (const Bytes& bytes : {Bytes("GET / HTTP/1.1\r\n"), Bytes("PROXX"), Bytes("\x16\x03\x01", 3)})
    CHECK(parse(bytes, &header) == ProxyStatus::kAbsent);
  CHECK(parse(signature + Bytes("\x21\x11\xff\xff", 4), &header) == ProxyStatus::kTooLong);
}

}  // namespace
}  // namespace weft
