// Request smuggling through the whole reactor: hundreds of ways to write a request that two parsers might read differently, against an
// upstream that keeps every byte. What arrives must be refused whole or read one way only, and what follows must not be poisoned.
#include <vector>

#include "core/body_relay.h"
#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::Peer1;

// A request, what it hides included.
struct Attack {
  std::string name;
  std::string bytes;
};

constexpr char kHidden[] = "GET /hidden HTTP/1.1\r\nHost: a.test\r\nX: ";

std::vector<std::string> transfer_encodings() {
  std::vector<std::string> all;
  for (const std::string& name :
       std::vector<std::string>{"Transfer-Encoding", "transfer-encoding", "Transfer-encoding", "TRANSFER-ENCODING", "Transfer_Encoding",
                                "Transfer-Encoding ", " Transfer-Encoding", "Transfer-Encoding\t", "X: y\nTransfer-Encoding",
                                "X: y\rTransfer-Encoding", "\x0bTransfer-Encoding", "Transfer\xc4\xb1-Encoding"}) {
    for (const std::string& value : std::vector<std::string>{" chunked",
                                                             "chunked",
                                                             "\tchunked",
                                                             " Chunked",
                                                             " CHUNKED",
                                                             " chunked ",
                                                             " chunked\t",
                                                             " \x0b"
                                                             "chunked",
                                                             " xchunked",
                                                             " chunked, chunked",
                                                             " chunked, identity",
                                                             " identity, chunked",
                                                             " gzip, chunked",
                                                             " identity",
                                                             " \"chunked\"",
                                                             " chunked;q=1",
                                                             " ,chunked",
                                                             " chunked,",
                                                             "\r\n chunked",
                                                             " chu\nnked"}) {
      all.push_back(name + ":" + value + "\r\n");
    }
  }
  all.push_back("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n");
  all.push_back("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n");
  all.push_back("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n");
  all.push_back("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n");
  return all;
}

std::vector<std::string> lengths(size_t hidden) {
  const std::string n = std::to_string(hidden);
  std::vector<std::string> all;
  for (const std::string& value : std::vector<std::string>{" " + n,
                                                           n,
                                                           " +" + n,
                                                           " -" + n,
                                                           " 0" + n,
                                                           " " + n + " ",
                                                           " " + n + ",",
                                                           " " + n + ", " + n,
                                                           " " + n + ", 0",
                                                           " 0, " + n,
                                                           " 0x" + n,
                                                           " " + n + ".0",
                                                           " " + n + "e0",
                                                           " " + n + ";",
                                                           " 18446744073709551616",
                                                           " 99999999999999999999",
                                                           " \x0b" + n,
                                                           " " + n + "\x0c",
                                                           std::string(" "),
                                                           std::string(" 1 2"),
                                                           "\r\n " + n,
                                                           " '" + n + "'"}) {
    all.push_back("Content-Length:" + value + "\r\n");
  }
  for (const std::string& line :
       std::vector<std::string>{"Content-Length: 0\r\nContent-Length: " + n, "Content-Length: " + n + "\r\nContent-Length: 0",
                                "Content-Length: " + n + "\r\nContent-Length: " + n, "Content-Length : " + n, "Content_Length: " + n,
                                "Content-Length\t: " + n, " Content-Length: " + n, "X: y\nContent-Length: " + n}) {
    all.push_back(line + "\r\n");
  }
  return all;
}

std::vector<Attack> attacks() {
  std::vector<Attack> all;
  const std::string chunked = std::string("0\r\n\r\n") + kHidden;
  const std::string start = "POST / HTTP/1.1\r\nHost: a.test\r\n";
  for (const std::string& encoding : transfer_encodings()) {
    all.push_back({"TE " + encoding, start + encoding + "\r\n" + chunked});
    all.push_back(
        {"CL.TE " + encoding, start + "Content-Length: " + std::to_string(chunked.size()) + "\r\n" + encoding + "\r\n" + chunked});
    all.push_back({"TE.CL " + encoding, start + encoding + "Content-Length: 4\r\n\r\n" + chunked});
  }
  for (const std::string& length : lengths(sizeof(kHidden) - 1)) {
    all.push_back({"CL " + length, start + length + "\r\n" + kHidden});
    all.push_back({"GET CL " + length, "GET / HTTP/1.1\r\nHost: a.test\r\n" + length + "\r\n" + kHidden});
  }
  for (const std::string& size : std::vector<std::string>{"0x0",
                                                          "+0",
                                                          "-0",
                                                          " 0",
                                                          "0 ",
                                                          "00000000000000000000",
                                                          "0;a=b",
                                                          "0;a=\"b\r\n\"",
                                                          "0\n",
                                                          "0;\n",
                                                          "",
                                                          "g",
                                                          "0\r",
                                                          "1\r\nZ",
                                                          "ffffffffffffffff1",
                                                          "0;\x01",
                                                          "0\t;a",
                                                          "5\r\nhelloX",
                                                          "5\r\nhell",
                                                          "1\r\nZ\n0",
                                                          "0\r\nContent-Length: 5",
                                                          "0\r\nTransfer-Encoding: chunked",
                                                          "0\r\nHost: b",
                                                          "0\r\n X: folded",
                                                          "0\r\nX : y",
                                                          "0\r\nX"}) {
    all.push_back({"chunk " + size, start + "Transfer-Encoding: chunked\r\n\r\n" + size + "\r\n\r\n" + kHidden});
  }
  for (const std::string& line : std::vector<std::string>{"POST / HTTP/1.1\n",
                                                          "POST  / HTTP/1.1\r\n",
                                                          "POST /  HTTP/1.1\r\n",
                                                          "POST / HTTP/1.1 \r\n",
                                                          "POST / HTTP/1.10\r\n",
                                                          "POST / HTTP/01.1\r\n",
                                                          "POST / http/1.1\r\n",
                                                          "POST / HTTP/2.0\r\n",
                                                          "POST /\r\n",
                                                          "POST\t/\tHTTP/1.1\r\n",
                                                          " POST / HTTP/1.1\r\n",
                                                          "POST / HTTP/1.1\r\r\n",
                                                          "POST http://b.test/ HTTP/1.1\r\n",
                                                          "POST http://a@b.test/ HTTP/1.1\r\n",
                                                          "POST http:///x HTTP/1.1\r\n",
                                                          "POST //b.test/ HTTP/1.1\r\n",
                                                          "POST https://b.test/ HTTP/1.1\r\n",
                                                          "POST b.test:80 HTTP/1.1\r\n",
                                                          "POST * HTTP/1.1\r\n",
                                                          "POST /\x7f HTTP/1.1\r\n",
                                                          "POST /#x HTTP/1.1\r\n",
                                                          "P\x80ST / HTTP/1.1\r\n",
                                                          "POST /a\x0b"
                                                          "b HTTP/1.1\r\n",
                                                          "\r\nPOST / HTTP/1.1\r\n",
                                                          "\r\n\r\nPOST / HTTP/1.1\r\n",
                                                          "\nPOST / HTTP/1.1\r\n"}) {
    all.push_back({"line " + line, line + "Host: a.test\r\nContent-Length: " + std::to_string(sizeof(kHidden) - 1) + "\r\n\r\n" + kHidden});
  }
  for (const std::string& host : std::vector<std::string>{
           "Host: a.test\r\nHost: b.test", "Host: a.test, b.test", "Host: a.test\r\n b.test", "Host : a.test", "Host:", "X: y",
           "Host: a.test/x", "Host: a@b", "Host: a.test:80:81", "Host: a.test:99999", "Host: a\tb", "Host: [::1", "Host: a%00",
           "Host: a.test#b", "Host: a.test?b", "Host: a\\b", "hOsT: a.test", "Host:\ta.test\t"}) {
    all.push_back({"host " + host, "POST / HTTP/1.1\r\n" + host + "\r\nContent-Length: 0\r\n\r\n" + kHidden});
  }
  for (const std::string& field : std::vector<std::string>{std::string("X: a\0b", 6),
                                                           "X: a\rb",
                                                           "X: a\nb",
                                                           std::string("X\0: a", 5),
                                                           "X a: b",
                                                           ": b",
                                                           "X",
                                                           "X: a\r\n\tb",
                                                           "X: a\r\n b",
                                                           "Connection: content-length",
                                                           "Connection: transfer-encoding",
                                                           "Connection: host",
                                                           "Connection: close, x-y",
                                                           "Expect: 100-continue",
                                                           "Expect: x",
                                                           "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
                                                           "Upgrade: websocket\r\nConnection: upgrade",
                                                           "Proxy-Connection: keep-alive",
                                                           "Keep-Alive: x",
                                                           "TE: trailers",
                                                           "Trailer: content-length"}) {
    all.push_back({"field " + field, start + field + "\r\nContent-Length: " + std::to_string(sizeof(kHidden) - 1) + "\r\n\r\n" + kHidden});
  }
  return all;
}

// The upstream's reading: it tells what any server would agree on from what only some would. Returns how many
// requests it sees in `bytes`, or -1 if what it sees could be read differently by another.
int read_as_lax_origin(const std::string& bytes, std::vector<std::string>* targets) {
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t end = bytes.find("\r\n\r\n", at);
    if (end == std::string::npos) return -1;
    const std::string head = bytes.substr(at, end + 2 - at);
    for (size_t i = 0; i < head.size(); i++) {
      const bool crlf = head[i] == '\r' ? i + 1 < head.size() && head[i + 1] == '\n' : head[i] != '\n' || (i > 0 && head[i - 1] == '\r');
      if (!crlf || head[i] == 0 || head[i] == 0x0b || head[i] == 0x0c) return -1;
    }
    size_t lengths = 0, encodings = 0, hosts = 0, length = 0;
    targets->push_back(head.substr(0, head.find("\r\n")));
    for (size_t line = head.find("\r\n") + 2; line < head.size();) {
      const size_t stop = head.find("\r\n", line);
      const std::string text = head.substr(line, stop - line);
      line = stop + 2;
      const size_t colon = text.find(':');
      if (colon == std::string::npos || colon == 0 || text[0] == ' ' || text[0] == '\t' || text[colon - 1] == ' ' ||
          text[colon - 1] == '\t')
        return -1;
      std::string name = text.substr(0, colon);
      for (char& c : name) c = static_cast<char>(tolower(c));
      const std::string value = text.substr(colon + 1);
      if (name == "content-length") {
        lengths++;
        length = std::stoul(value);
        if (value != " " + std::to_string(length)) return -1;
      }
      if (name == "transfer-encoding") {
        encodings++;
        if (value != " chunked") return -1;
      }
      hosts += name == "host";
    }
    if (lengths + encodings > 1 || hosts != 1) return -1;
    at = end + 4;
    if (encodings == 0) {
      if (bytes.size() - at < length) return -1;
      at += length;
      continue;
    }
    http1::BodyReader reader({http1::Framing::kChunked});
    for (;;) {
      const http1::BodyStep step = reader.next(reinterpret_cast<const uint8_t*>(bytes.data()) + at, bytes.size() - at);
      at += step.consumed;
      if (step.status == http1::BodyStatus::kDone) break;
      if (step.status != http1::BodyStatus::kPayload) return -1;
    }
  }
  return static_cast<int>(targets->size());
}

// Sends one attack and then, as another client, an innocent request; upstreams answer every request that a lax origin sees.
void check_attack(Bench& bench, const Attack& attack) {
  std::vector<std::unique_ptr<Peer1>> upstreams;
  Peer1 client(Peer1::dial(bench.port));
  client.send(attack.bytes);
  bool ambiguous = false;
  const auto serve = [&] {
    for (int turn = 0; turn < 6; turn++) {
      bench.reactor->run_once(0);
      const int fd = accept4(bench.upstream_listener, nullptr, nullptr, SOCK_NONBLOCK);
      if (fd >= 0) upstreams.push_back(std::make_unique<Peer1>(fd));
      for (auto& upstream : upstreams) {
        upstream->read();
        std::vector<std::string> targets;
        const int count = read_as_lax_origin(upstream->received, &targets);
        if (count < 0 || upstream->received.empty()) continue;
        for (const std::string& line : targets) {
          upstream->send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(line.size()) + "\r\n\r\n" + line);
          // The hidden request is whole only if something completed its last field.
          ambiguous = ambiguous || line.find("/hidden") != std::string::npos;
        }
        upstream->received.clear();
      }
    }
  };
  serve();
  for (const auto& upstream : upstreams) {
    // What lies there without being a whole request: the engine may still stream a body, but never half a head.
    ambiguous = ambiguous || upstream->received.find("/hidden HTTP/1.1\r\nhost") != std::string::npos;
  }
  Peer1 victim(Peer1::dial(bench.port));
  victim.send("GET /victim HTTP/1.1\r\nHost: a.test\r\n\r\n");
  serve();
  victim.read();
  const bool own = victim.received.find("\r\n\r\nGET /victim HTTP/1.1") != std::string::npos;
  if (ambiguous || !own) test::fail(__FILE__, __LINE__, "smuggled by: " + attack.name + "\n  victim got " + victim.received);
  client.close();
  victim.close();
  bench.run([&] { return bench.reactor->open_downstream() == 0; });
  if (bench.outstanding[0] != 0) test::fail(__FILE__, __LINE__, "not given back: " + attack.name);
}

TEST("smuggling: whatever a client writes, the next request on the same upstream connection is its own") {
  EngineLimits limits;
  Bench bench(limits);
  const std::vector<Attack> all = attacks();
  CHECK(all.size() >= 300);
  for (const Attack& attack : all) check_attack(bench, attack);
  // Not everything was refused, and victims did come on a connection that an attack had used.
  CHECK(bench.counter(Counter::UpstreamReuses) > 50);
}

}  // namespace
}  // namespace weft
