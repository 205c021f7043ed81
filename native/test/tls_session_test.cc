// Two sessions back to back in memory: handshakes, verification, resumption, rotation, truncation, tampering. No sockets.
#include "core/tls/tls_session.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstring>

#include "check.h"
#include "core/tls/peer_identity.h"
#include "core/tls/tls_context.h"
#include "tls_pki.h"

namespace weft {
namespace {

using Step = TlsSession::Step;

const test::Authority& authority() {
  static const test::Authority made;
  return made;
}

std::vector<uint8_t> ticket_keys(uint8_t current, uint8_t previous, uint8_t next) {
  std::vector<uint8_t> keys;
  for (const uint8_t fill : {current, previous, next}) keys.insert(keys.end(), kTicketKeyBytes, fill);
  return keys;
}

TlsContextSpec server_spec(const std::string& sans = "DNS:a.test") {
  const test::Leaf leaf = authority().leaf(sans);
  TlsContextSpec spec;
  spec.certificates = {{{}, leaf.chain, leaf.key}};
  spec.ticket_keys = ticket_keys(1, 2, 3);
  return spec;
}

TlsContextSpec client_spec() {
  TlsContextSpec spec;
  spec.role = TlsRole::kClient;
  spec.trust = authority().pem();
  return spec;
}

std::shared_ptr<TlsContext> build(const TlsContextSpec& spec) {
  std::string error;
  std::shared_ptr<TlsContext> context = TlsContext::build(spec, &error);
  CHECK_EQ(error, "");
  return context;
}

EndpointTls endpoint(std::shared_ptr<TlsContext> context, std::string server_name = "a.test", std::vector<PeerMatch> accepts = {}) {
  EndpointTls tls{std::move(context), std::move(server_name), std::move(accepts), 0};
  tls.set_key();
  return tls;
}

// A client, a server, and what lies between them.
struct Pair {
  std::unique_ptr<TlsSession> client;
  std::unique_ptr<TlsSession> server;
  TlsWire wire;
  std::string to_server;
  std::string to_client;

  Pair(const EndpointTls& client_tls, std::shared_ptr<const TlsContext> server_context)
      : client(TlsSession::connect(client_tls, "peer")), server(TlsSession::accept(std::move(server_context))) {}

  template <typename Do>
  auto at(TlsSession* end, Do act) {
    std::string& in = end == client.get() ? to_client : to_server;
    std::string& out = end == client.get() ? to_server : to_client;
    const std::string input = std::move(in);
    in.clear();
    wire.input = reinterpret_cast<const uint8_t*>(input.data());
    wire.input_size = input.size();
    wire.output_size = 0;
    auto result = act();
    in.insert(0, input.substr(input.size() - wire.input_size));
    out.append(reinterpret_cast<const char*>(wire.output.get()), wire.output_size);
    return result;
  }
  Step shake(TlsSession* end) {
    return at(end, [&] { return end->handshake(&wire); });
  }
  // Both ends' last step.
  std::pair<Step, Step> run() {
    Step a = Step::WantsInput;
    Step b = Step::WantsInput;
    for (int i = 0; i < 10 && (a != Step::Done || b != Step::Done) && a != Step::Failed && b != Step::Failed; i++) {
      a = shake(client.get());
      b = shake(server.get());
    }
    // An alert of the server's reaches the client.
    if (b == Step::Failed && a == Step::Done) a = receive(client.get()) == "failed" ? Step::Failed : a;
    if (b == Step::Failed && a == Step::WantsInput) a = shake(client.get());
    if (a == Step::Failed && b == Step::WantsInput) b = shake(server.get());
    return {a, b};
  }
  bool shakes_hands() {
    const auto [a, b] = run();
    return a == Step::Done && b == Step::Done;
  }
  bool send(TlsSession* end, const std::string& first, const std::string& second = {}) {
    return at(end, [&] { return end->write(&wire, first.data(), first.size(), second.data(), second.size()); });
  }
  // What could be read; "end" or "failed" behind it.
  std::string receive(TlsSession* end, size_t piece = 4096) {
    std::string got;
    std::string buffer(piece, '\0');
    for (;;) {
      const int64_t count = at(end, [&] {
        const bool is_dry = end->is_dry(wire);
        const int64_t result = end->read(&wire, reinterpret_cast<uint8_t*>(buffer.data()), buffer.size());
        CHECK(!is_dry || result == TlsSession::kWantsInput);
        return result;
      });
      if (count > 0) {
        got.append(buffer, 0, static_cast<size_t>(count));
        continue;
      }
      return got + (count == TlsSession::kEnd ? "end" : count == TlsSession::kFailed ? "failed" : "");
    }
  }
  // TLS 1.3 tickets come after the handshake.
  void settle() {
    receive(client.get());
    receive(server.get());
  }
};

TEST("TLS: bytes go both ways, in pieces of any size") {
  Pair pair(endpoint(build(client_spec())), build(server_spec()));
  CHECK(pair.shakes_hands());
  CHECK_EQ(std::string(pair.client->version()), "TLSv1.3");
  CHECK_EQ(std::string(pair.client->cipher()), "TLS_AES_128_GCM_SHA256");
  CHECK_EQ(pair.server->server_name(), "a.test");
  const std::string big(200'000, 'x');
  CHECK(pair.send(pair.client.get(), "head ", big));
  CHECK(pair.receive(pair.server.get(), 777) == "head " + big);
  CHECK(pair.send(pair.server.get(), "", "answer"));
  CHECK_EQ(pair.receive(pair.client.get()), "answer");
}

TEST("TLS: a ciphertext cut at every byte is read the same") {
  Pair pair(endpoint(build(client_spec())), build(server_spec()));
  CHECK(pair.shakes_hands());
  pair.settle();
  CHECK(pair.send(pair.client.get(), "hello"));
  const std::string all = std::move(pair.to_server);
  std::string got;
  for (const char byte : all) {
    pair.to_server = std::string(1, byte);
    got += pair.receive(pair.server.get());
  }
  CHECK_EQ(got, "hello");
  CHECK(pair.server->is_dry(pair.wire));
}

TEST("TLS: close_notify is an end, a missing one is not") {
  Pair pair(endpoint(build(client_spec())), build(server_spec()));
  CHECK(pair.shakes_hands());
  pair.settle();
  CHECK(pair.send(pair.server.get(), "body"));
  pair.at(pair.server.get(), [&] { return pair.server->close_notify(&pair.wire), 0; });
  CHECK(!pair.send(pair.server.get(), "more"));
  CHECK_EQ(pair.receive(pair.client.get()), "bodyend");
  CHECK_EQ(pair.receive(pair.client.get()), "end");
}

// OpenSSL's own client before a session of ours, for what a TlsSession would never do.
struct RawClient {
  SSL_CTX* ctx = SSL_CTX_new(TLS_client_method());
  SSL* ssl = SSL_new(ctx);
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  std::unique_ptr<TlsSession> server;
  TlsWire wire;

  explicit RawClient(int version, const TlsContextSpec& spec = server_spec()) : server(TlsSession::accept(build(spec))) {
    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    SSL_set_min_proto_version(ssl, version);
    SSL_set_max_proto_version(ssl, version);
    SSL_set_tlsext_host_name(ssl, "a.test");
    for (int i = 0; i < 10 && (SSL_do_handshake(ssl) != 1 || !server->is_established()); i++)
      pass([&] { return server->handshake(&wire); });
    CHECK(server->is_established());
  }
  ~RawClient() {
    SSL_free(ssl);
    SSL_CTX_free(ctx);
  }
  // What the client has said goes to the server, and its answer back.
  template <typename Do>
  void pass(Do act) {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(out, &bytes);
    const std::string said(bytes, static_cast<size_t>(size));
    (void)BIO_reset(out);
    wire.input = reinterpret_cast<const uint8_t*>(said.data());
    wire.input_size = said.size();
    wire.output_size = 0;
    act();
    BIO_write(in, wire.output.get(), static_cast<int>(wire.output_size));
  }
  int64_t read() {
    uint8_t bytes[32 * 1024];
    int64_t last = 0, sum = 0;
    pass([&] {
      while ((last = server->read(&wire, bytes, sizeof(bytes))) > 0) sum += last;
    });
    return last == TlsSession::kWantsInput ? sum : last;
  }
  void update_key() {
    CHECK_EQ(SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    CHECK_EQ(SSL_do_handshake(ssl), 1);
  }
  void send(size_t count) {
    const std::string bytes(count, 'b');
    CHECK_EQ(SSL_write(ssl, bytes.data(), static_cast<int>(count)), static_cast<int>(count));
  }
};

TEST("TLS: key updates are taken in measure; a flood of them ends the session, whatever trickles between them") {
  RawClient client(TLS1_3_VERSION);
  for (uint64_t i = 0; i < TlsSession::kMaxAsides; i++) client.update_key();
  client.send(10);
  CHECK_EQ(client.read(), 10);
  // Who sends much may update its keys often.
  for (int i = 0; i < 10; i++) {
    for (int piece = 0; piece < 4; piece++) client.send(16'384);
    CHECK_EQ(client.read(), 65'536);
    client.update_key();
    CHECK_EQ(client.read(), 0);
  }
  for (uint64_t i = 0; i < TlsSession::kMaxAsides; i++) {
    client.update_key();
    client.send(1);
  }
  CHECK_EQ(client.read(), TlsSession::kFailed);
  CHECK(client.server->failure() == TlsFailure::Flood);
}

TEST("TLS: a client of TLS 1.2 that wants to renegotiate is told no, and goes on without or leaves") {
  RawClient client(TLS1_2_VERSION);
  CHECK_EQ(SSL_renegotiate(client.ssl), 1);
  SSL_do_handshake(client.ssl);
  CHECK_EQ(client.read(), 0);
  // The client takes no_renegotiation for the end; the server has not begun anything.
  CHECK_EQ(SSL_do_handshake(client.ssl), -1);
  CHECK_EQ(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_NO_RENEGOTIATION);
  ERR_clear_error();
  CHECK(client.server->failure() == TlsFailure::None);
}

TEST("TLS: a changed byte fails the stream") {
  Pair pair(endpoint(build(client_spec())), build(server_spec()));
  CHECK(pair.shakes_hands());
  pair.settle();
  CHECK(pair.send(pair.client.get(), "hello"));
  pair.to_server.back() ^= 1;
  CHECK_EQ(pair.receive(pair.server.get()), "failed");
  CHECK(pair.server->failure() == TlsFailure::BadRecord);
  CHECK_EQ(pair.receive(pair.client.get()), "failed");
  CHECK(pair.client->failure() == TlsFailure::PeerAlert);
}

TEST("TLS: what is not TLS is named so") {
  Pair pair(endpoint(build(client_spec())), build(server_spec()));
  pair.to_server = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
  CHECK(pair.shake(pair.server.get()) == Step::Failed);
  CHECK(pair.server->failure() == TlsFailure::NotTls);
}

TEST("TLS: the server's order decides the application protocol; nothing in common is refused") {
  TlsContextSpec server = server_spec();
  server.alpn = {"h2", "http/1.1"};
  TlsContextSpec client = client_spec();
  client.alpn = {"http/1.1", "h2"};
  Pair pair(endpoint(build(client)), build(server));
  CHECK(pair.shakes_hands());
  CHECK_EQ(std::string(pair.client->alpn()), "h2");
  CHECK_EQ(std::string(pair.server->alpn()), "h2");
  client.alpn = {"spdy/3"};
  Pair other(endpoint(build(client)), build(server));
  CHECK(other.run().second == Step::Failed);
  CHECK(other.server->failure() == TlsFailure::Negotiation);
  CHECK(other.client->failure() == TlsFailure::PeerAlert);
}

TEST("TLS: the certificate follows the server name: exact, one label of wildcard, default, or refusal") {
  TlsContextSpec spec = server_spec("DNS:default.test");
  const test::Leaf exact = authority().leaf("DNS:a.test");
  const test::Leaf wildcard = authority().leaf("DNS:*.w.test");
  spec.certificates.push_back({{"a.test"}, exact.chain, exact.key});
  spec.certificates.push_back({{"*.w.test"}, wildcard.chain, wildcard.key});
  const auto client = build(client_spec());
  const auto server = build(spec);
  for (const char* name : {"a.test", "x.w.test", "default.test"}) CHECK(Pair(endpoint(client, name), server).shakes_hands());
  // Two labels are the default's, whose certificate carries another name.
  Pair two(endpoint(client, "x.y.w.test"), server);
  CHECK(two.run().first == Step::Failed);
  CHECK(two.client->failure() == TlsFailure::WrongIdentity);
  spec.certificates.erase(spec.certificates.begin());
  Pair none(endpoint(client, "other.test"), build(spec));
  CHECK(none.run().second == Step::Failed);
  CHECK(none.server->failure() == TlsFailure::UnknownServerName);
}

TEST("TLS: the client trusts its bundle alone") {
  const test::Authority other("Another");
  TlsContextSpec spec = client_spec();
  spec.trust = other.pem();
  Pair pair(endpoint(build(spec)), build(server_spec()));
  CHECK(pair.run().first == Step::Failed);
  CHECK(pair.client->failure() == TlsFailure::UntrustedCertificate);
  CHECK(pair.server->failure() == TlsFailure::PeerAlert);
}

TEST("TLS: the chain is sent as it was given, whatever the trust bundle holds") {
  TlsContextSpec spec = server_spec();
  spec.trust = authority().pem();
  spec.client_certificates = ClientCertificates::kOptional;
  const RawClient client(TLS1_3_VERSION, spec);
  CHECK_EQ(sk_X509_num(SSL_get_peer_cert_chain(client.ssl)), 1);
}

TEST("TLS: an expired certificate is named so") {
  TlsContextSpec spec = server_spec();
  const test::Leaf old = authority().leaf("DNS:a.test", -7200, -3600);
  spec.certificates = {{{}, old.chain, old.key}};
  Pair pair(endpoint(build(client_spec())), build(spec));
  CHECK(pair.run().first == Step::Failed);
  CHECK(pair.client->failure() == TlsFailure::ExpiredCertificate);
}

struct Mutual {
  const char* client_sans;
  ClientCertificates mode;
  std::vector<PeerMatch> accepts;
  TlsFailure failure;
  const char* identity;
};

TEST("TLS: client certificates by mode and identity") {
  using Kind = PeerMatch::Kind;
  const char* const cart = "URI:spiffe://td.test/ns/shop/sa/cart";
  const std::vector<Mutual> cases = {
      {cart, ClientCertificates::kRequired, {}, TlsFailure::None, "spiffe://td.test/ns/shop/sa/cart"},
      {cart, ClientCertificates::kOptional, {}, TlsFailure::None, "spiffe://td.test/ns/shop/sa/cart"},
      {cart, ClientCertificates::kNone, {}, TlsFailure::None, ""},
      {nullptr, ClientCertificates::kOptional, {}, TlsFailure::None, ""},
      {nullptr, ClientCertificates::kRequired, {}, TlsFailure::NoCertificate, ""},
      {cart, ClientCertificates::kRequired, {{Kind::kTrustDomain, "td.test"}}, TlsFailure::None, "spiffe://td.test/ns/shop/sa/cart"},
      {cart, ClientCertificates::kRequired, {{Kind::kTrustDomain, "td.tes"}}, TlsFailure::WrongIdentity, ""},
      {cart, ClientCertificates::kOptional, {{Kind::kSpiffeId, "spiffe://td.test/ns/shop/sa/car"}}, TlsFailure::WrongIdentity, ""},
      {"DNS:c.test", ClientCertificates::kRequired, {{Kind::kDnsName, "c.test"}}, TlsFailure::None, ""},
      {"DNS:c.test", ClientCertificates::kRequired, {{Kind::kTrustDomain, "c.test"}}, TlsFailure::WrongIdentity, ""},
      // Two URIs are no SVID (X509-SVID 2).
      {"URI:spiffe://td.test/a,URI:spiffe://td.test/b", ClientCertificates::kRequired, {}, TlsFailure::None, ""},
  };
  for (const Mutual& item : cases) {
    TlsContextSpec server = server_spec();
    server.trust = authority().pem();
    server.client_certificates = item.mode;
    server.accepts = item.accepts;
    TlsContextSpec client = client_spec();
    if (item.client_sans != nullptr) {
      const test::Leaf leaf = authority().leaf(item.client_sans);
      client.certificates = {{{}, leaf.chain, leaf.key}};
    }
    Pair pair(endpoint(build(client)), build(server));
    CHECK_EQ(pair.shakes_hands(), item.failure == TlsFailure::None);
    CHECK(pair.server->failure() == item.failure);
    CHECK_EQ(item.failure == TlsFailure::None ? pair.server->peer_identity() : "", item.identity);
  }
}

TEST("TLS: a client certificate of another authority is refused, also where it is optional") {
  const test::Authority other("Another");
  const test::Leaf leaf = other.leaf("URI:spiffe://td.test/a");
  TlsContextSpec server = server_spec();
  server.trust = authority().pem();
  server.client_certificates = ClientCertificates::kOptional;
  TlsContextSpec client = client_spec();
  client.certificates = {{{}, leaf.chain, leaf.key}};
  Pair pair(endpoint(build(client)), build(server));
  CHECK(pair.run().second == Step::Failed);
  CHECK(pair.server->failure() == TlsFailure::UntrustedCertificate);
}

TEST("TLS: under fallback whoever comes is let in, and only who is verified has an identity, resumed or not") {
  const test::Authority other("Another");
  struct Case {
    test::Leaf leaf;
    const char* identity;
  };
  const Case cases[] = {
      {authority().leaf("URI:spiffe://td.test/a"), "spiffe://td.test/a"},
      {authority().leaf("URI:spiffe://td.test/a", -7200, -3600), ""},
      {other.leaf("URI:spiffe://td.test/a"), ""},
      {{}, ""},
  };
  for (const auto& [leaf, identity] : cases) {
    TlsContextSpec spec = server_spec();
    spec.trust = authority().pem();
    spec.client_certificates = ClientCertificates::kFallback;
    TlsContextSpec client = client_spec();
    if (!leaf.chain.empty()) client.certificates = {{{}, leaf.chain, leaf.key}};
    const EndpointTls to = endpoint(build(client));
    const auto server = build(spec);
    for (const bool resumed : {false, true}) {
      Pair pair(to, server);
      CHECK(pair.shakes_hands());
      pair.settle();
      CHECK_EQ(pair.server->is_resumed(), resumed);
      CHECK_EQ(pair.server->peer_identity(), identity);
    }
  }
}

TEST("TLS: versions and cipher suites are those of the certificate that answers") {
  TlsContextSpec spec = server_spec("DNS:any.test");
  const auto add = [&](const std::string& host, const TlsLimits& limits) {
    const test::Leaf leaf = authority().leaf("DNS:" + host);
    spec.certificates.push_back({{host}, leaf.chain, leaf.key, limits});
  };
  add("old.test", {TlsVersion::k12, TlsVersion::k12, {}});
  add("chacha.test", {TlsVersion::k12, TlsVersion::k13, {"TLS_CHACHA20_POLY1305_SHA256"}});
  add("aes.test", {TlsVersion::k12, TlsVersion::k13, {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}});
  const auto client = build(client_spec());
  const auto server = build(spec);
  const auto agreed = [&](const char* host) {
    Pair pair(endpoint(client, host), server);
    CHECK(pair.shakes_hands());
    return std::string(pair.server->version()) + " " + pair.server->cipher();
  };
  CHECK_EQ(agreed("any.test"), "TLSv1.3 TLS_AES_128_GCM_SHA256");
  CHECK_EQ(agreed("old.test"), "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256");
  CHECK_EQ(agreed("chacha.test"), "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256");
  CHECK_EQ(agreed("aes.test"), "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384");
  // The first certificate's limits are no other's.
  std::swap(spec.certificates[0], spec.certificates[1]);
  const auto swapped = build(spec);
  Pair free(endpoint(client, "any.test"), swapped);
  CHECK(free.shakes_hands());
  CHECK_EQ(std::string(free.server->version()), "TLSv1.3");
  // Those who speak only what is not spoken.
  spec.certificates = {spec.certificates[1]};
  spec.certificates[0].limits.min_version = TlsVersion::k13;
  const auto strict = build(spec);
  EndpointTls to = endpoint(client, "any.test");
  SSL_CTX_set_max_proto_version(client->base(), TLS1_2_VERSION);
  Pair old(to, strict);
  CHECK(old.run().second == Step::Failed);
  CHECK(old.server->failure() == TlsFailure::Version);
}

TEST("TLS: a ticket of weaker limits is not honoured") {
  TlsContextSpec spec = server_spec();
  const auto client = build(client_spec());
  Pair one(endpoint(client), build(spec));
  CHECK(one.shakes_hands());
  one.settle();
  spec.certificates[0].limits.cipher_suites = {"TLS_AES_128_GCM_SHA256"};
  Pair again(endpoint(client), build(spec));
  CHECK(again.shakes_hands());
  CHECK(!again.server->is_resumed());
}

TEST("TLS: of names that pass and names with certificates the most specific decides") {
  TlsContextSpec spec = server_spec();
  spec.certificates[0].server_names = {"a.w.test", "*.x.w.test"};
  spec.passthrough = {"*.w.test", "b.x.w.test", "c.test"};
  const auto named = build(spec);
  for (const char* name : {"b.w.test", "C.test.", "b.x.w.test", "deep.er.w.test"}) CHECK(named->passes(name));
  for (const char* name : {"", "a.w.test", "A.w.test.", "a.x.w.test", "deep.er.x.w.test", "w.test", "other.test"})
    CHECK(!named->passes(name));
  CHECK(named->for_server_name("b.w.test") == nullptr);
  spec.passthrough = {""};
  const auto rest = build(spec);
  for (const char* name : {"", "other.test", "x.w.test"}) CHECK(rest->passes(name));
  CHECK(!rest->passes("a.w.test"));
  CHECK(rest->for_server_name("") == nullptr);
}

TEST("TLS: the endpoint's identities decide, not the server name") {
  const auto server = build(server_spec("URI:spiffe://td.test/b"));
  const auto client = build(client_spec());
  const std::vector<PeerMatch> b = {{PeerMatch::Kind::kSpiffeId, "spiffe://td.test/b"}};
  const std::vector<PeerMatch> c = {{PeerMatch::Kind::kSpiffeId, "spiffe://td.test/c"}};
  CHECK(Pair(endpoint(client, "a.test", b), server).shakes_hands());
  Pair wrong(endpoint(client, "a.test", c), server);
  CHECK(wrong.run().first == Step::Failed);
  CHECK(wrong.client->failure() == TlsFailure::WrongIdentity);
}

// Two engines' contexts have the same certificate and the keys that each was given.
bool resumes(const std::vector<uint8_t>& issuing, const std::vector<uint8_t>& accepting) {
  TlsContextSpec first = server_spec();
  TlsContextSpec second = first;
  first.ticket_keys = issuing;
  second.ticket_keys = accepting;
  const auto client = build(client_spec());
  Pair one(endpoint(client), build(first));
  CHECK(one.shakes_hands());
  CHECK(one.send(one.server.get(), "x"));
  one.settle();
  CHECK_EQ(client->sessions().size(), 1u);
  Pair two(endpoint(client), build(second));
  CHECK(two.shakes_hands());
  CHECK_EQ(two.client->is_resumed(), two.server->is_resumed());
  return two.server->is_resumed();
}

TEST("TLS: another engine resumes by the current, the previous and the next ticket key, and by no other") {
  CHECK(resumes(ticket_keys(1, 2, 3), ticket_keys(1, 2, 3)));
  CHECK(resumes(ticket_keys(1, 2, 3), ticket_keys(3, 1, 4)));
  CHECK(resumes(ticket_keys(3, 1, 4), ticket_keys(1, 2, 3)));
  CHECK(!resumes(ticket_keys(1, 2, 3), ticket_keys(5, 4, 6)));
}

TEST("TLS: rotated keys hold from the next handshake on") {
  const auto server = build(server_spec());
  const auto client = build(client_spec());
  const auto connect = [&] {
    Pair pair(endpoint(client), server);
    CHECK(pair.shakes_hands());
    pair.settle();
    return pair.server->is_resumed();
  };
  CHECK(!connect());
  CHECK(connect());
  TicketKeys keys;
  const auto rotate = [&](uint8_t a, uint8_t b, uint8_t c) {
    const std::vector<uint8_t> bytes = ticket_keys(a, b, c);
    memcpy(&keys, bytes.data(), sizeof(keys));
    CHECK(server->set_ticket_keys(keys));
  };
  rotate(3, 1, 7);
  CHECK(connect());
  rotate(7, 3, 8);
  CHECK(connect());
  rotate(9, 10, 11);
  CHECK(!connect());
}

TEST("TLS: a ticket is worth nothing under another trust or other accepted identities") {
  TlsContextSpec spec = server_spec();
  spec.trust = authority().pem();
  spec.client_certificates = ClientCertificates::kRequired;
  const test::Leaf leaf = authority().leaf("URI:spiffe://td.test/a");
  TlsContextSpec client_with_certificate = client_spec();
  client_with_certificate.certificates = {{{}, leaf.chain, leaf.key}};
  const auto client = build(client_with_certificate);
  Pair one(endpoint(client), build(spec));
  CHECK(one.shakes_hands());
  one.settle();
  Pair again(endpoint(client), build(spec));
  CHECK(again.shakes_hands());
  again.settle();
  CHECK(again.server->is_resumed());
  CHECK_EQ(again.server->peer_identity(), "spiffe://td.test/a");
  spec.accepts = {{PeerMatch::Kind::kSpiffeId, "spiffe://td.test/b"}};
  Pair other(endpoint(client), build(spec));
  CHECK(other.run().second == Step::Failed);
  CHECK(!other.server->is_resumed());
  CHECK(other.server->failure() == TlsFailure::WrongIdentity);
}

TEST("TLS: sessions are kept apart by what the endpoint must be, and given out once") {
  const auto client = build(client_spec());
  const auto server = build(server_spec("DNS:a.test,DNS:b.test"));
  Pair one(endpoint(client, "a.test"), server);
  CHECK(one.shakes_hands());
  one.settle();
  Pair other(endpoint(client, "b.test"), server);
  CHECK(other.shakes_hands());
  CHECK(!other.server->is_resumed());
  Pair first(endpoint(client, "a.test"), server);
  Pair second(endpoint(client, "a.test"), server);
  CHECK(first.shakes_hands());
  CHECK(second.shakes_hands());
  CHECK(first.server->is_resumed());
  CHECK(!second.server->is_resumed());
}

// What the server says of the ticket that it has just given; the session stays where it is.
uint64_t ticket_seconds(const TlsContext& client, const TlsSession& session) {
  SSL_SESSION* ticket = client.sessions().take(session.session_key());
  CHECK(ticket != nullptr);
  const uint64_t seconds = SSL_SESSION_get_ticket_lifetime_hint(ticket);
  client.sessions().put(session.session_key(), ticket);
  return seconds;
}

TEST("TLS: a ticket lasts no longer than what was verified for it, however often it is renewed") {
  TlsContextSpec spec = server_spec();
  spec.trust = authority().pem();
  for (const auto mode : {ClientCertificates::kRequired, ClientCertificates::kOptional, ClientCertificates::kFallback}) {
    for (const TlsVersion version : {TlsVersion::k12, TlsVersion::k13}) {
      spec.client_certificates = mode;
      spec.certificates[0].limits.max_version = version;
      const auto server = build(spec);
      const test::Leaf leaf = authority().leaf("URI:spiffe://td.test/a", -60, 600);
      TlsContextSpec with_certificate = client_spec();
      with_certificate.certificates = {{{}, leaf.chain, leaf.key}};
      const auto client = build(with_certificate);
      for (const bool resumed : {false, true, true}) {
        Pair pair(endpoint(client), server);
        CHECK(pair.shakes_hands());
        pair.settle();
        CHECK_EQ(pair.server->is_resumed(), resumed);
        CHECK_EQ(pair.server->peer_identity(), "spiffe://td.test/a");
        const uint64_t seconds = ticket_seconds(*client, *pair.client);
        CHECK(seconds > 500);
        CHECK(seconds <= 600);
      }
    }
  }
}

TEST("TLS: a session of a server certificate that has expired since is not offered: the one of now is looked at") {
  const test::Leaf former = authority().leaf("DNS:a.test", -7200, -3600);
  TlsContextSpec spec = server_spec();
  spec.certificates = {{{}, former.chain, former.key}};
  // Who looks at no certificate has a session of one that has expired.
  TlsContextSpec careless = client_spec();
  careless.verifies_server = false;
  const auto taker = build(careless);
  Pair one(endpoint(taker), build(spec));
  CHECK(one.shakes_hands());
  one.settle();
  const auto client = build(client_spec());
  Pair two(endpoint(client), build(server_spec()));
  client->sessions().put(two.client->session_key(), taker->sessions().take(one.client->session_key()));
  CHECK(two.shakes_hands());
  CHECK(!two.client->is_resumed());
}

TEST("TLS: the cache of sessions is bounded") {
  SessionCache cache;
  for (size_t i = 0; i < SessionCache::kMaxSessions + 10; i++) cache.put("peer" + std::to_string(i), SSL_SESSION_new());
  CHECK_EQ(cache.size(), SessionCache::kMaxSessions);
  CHECK(cache.take("peer0") == nullptr);
  SSL_SESSION* kept = cache.take("peer100");
  CHECK(kept != nullptr);
  SSL_SESSION_free(kept);
}

TEST("TLS: a bad spec is refused with what is wrong") {
  const auto error_of = [](TlsContextSpec spec) {
    std::string error;
    CHECK(TlsContext::build(spec, &error) == nullptr);
    return error.substr(0, error.find('('));
  };
  TlsContextSpec spec = server_spec();
  spec.certificates.clear();
  CHECK_EQ(error_of(spec), "certificates: a server needs one");
  spec = server_spec();
  spec.certificates[0].key = authority().leaf("DNS:x").key;
  CHECK_EQ(error_of(spec), "certificates[0].key: key values mismatch");
  spec = server_spec();
  spec.certificates[0].chain = "nonsense";
  CHECK_EQ(error_of(spec), "certificates[0].chain: no PEM certificate in it ");
  spec = server_spec();
  spec.client_certificates = ClientCertificates::kRequired;
  CHECK_EQ(error_of(spec), "trust: without it no peer can be verified");
  spec.trust = "nonsense";
  CHECK_EQ(error_of(spec), "trust: no PEM certificate in it");
  spec = server_spec();
  spec.ticket_keys.resize(5);
  CHECK_EQ(error_of(spec), "ticketKeys: expected 3 x 80 bytes");
  spec = server_spec();
  spec.certificates[0].limits.cipher_suites = {"TLS_RSA_WITH_RC4_128_MD5"};
  CHECK_EQ(error_of(spec), "limits: no cipher suite is called TLS_RSA_WITH_RC4_128_MD5");
  spec.certificates[0].limits = {TlsVersion::k13, TlsVersion::k13, {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}};
  CHECK_EQ(error_of(spec), "limits: no version of TLS is left");
  spec = server_spec();
  spec.trust = authority().pem();
  spec.client_certificates = ClientCertificates::kFallback;
  spec.accepts = {{PeerMatch::Kind::kTrustDomain, "td.test"}};
  CHECK_EQ(error_of(spec), "accepts: nobody is refused by clientCertificates fallback");
}

TEST("TLS: SPIFFE IDs are checked to the letter") {
  for (const char* id : {"spiffe://td", "spiffe://td.test/a", "spiffe://t-d_1/ns/x/sa/Y.z"}) CHECK(is_spiffe_id(id));
  for (const char* id : {"", "spiffe://", "spiffe://TD/a", "spiffe://td/", "spiffe://td//a", "spiffe://td/./a", "spiffe://td/a/..",
                         "spiffe://td:1/a", "spiffe://u@td/a", "spiffe://td/a?b", "spiffe://td/a%20", "https://td/a"}) {
    CHECK(!is_spiffe_id(id));
  }
}

TEST("TLS: what is told of a certificate is one element of Envoy's list, whatever its names say") {
  const test::Authority authority;
  const auto told = [&](const std::string& sans) {
    const test::Leaf leaf = authority.leaf(sans);
    BIO* bio = BIO_new_mem_buf(leaf.chain.data(), static_cast<int>(leaf.chain.size()));
    X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    std::pair<std::string, std::string> texts{forwarded_certificate(certificate), name_of(certificate)};
    X509_free(certificate);
    BIO_free(bio);
    constexpr size_t kHash = sizeof("Hash=") - 1 + 64;
    CHECK_EQ(texts.first.find_first_not_of("0123456789abcdef", sizeof("Hash=") - 1), kHash);
    texts.first.erase(0, kHash);
    return texts;
  };
  const std::string subject = ";Subject=\"CN=leaf\"";
  CHECK_EQ(told("").first, subject);
  CHECK_EQ(told("").second, "CN=leaf");
  CHECK_EQ(told("DNS:a.test,URI:spiffe://td/x,DNS:b.test").first, subject + ";URI=spiffe://td/x;DNS=a.test;DNS=b.test");
  CHECK_EQ(told("DNS:a.test,URI:spiffe://td/x").second, "spiffe://td/x");
  CHECK_EQ(told("IP:127.0.0.1,DNS:a.test").second, "a.test");
  // What could end the element, or the field, is quoted or left out.
  CHECK_EQ(told("URI:urn:x;By=spiffe://td/admin").first, subject + ";URI=\"urn:x;By=spiffe://td/admin\"");
  CHECK_EQ(told("URI:urn:x\";By=y,DNS:a b,DNS:c.test").first, subject + ";DNS=c.test");
  CHECK_EQ(told("URI:urn:x\";By=y").second, "CN=leaf");
  CHECK_EQ(told("URI:urn:" + std::string(4000, 'x') + ",DNS:c.test").first, subject + ";DNS=c.test");
}

TEST("TLS: hundreds of sessions leave nothing behind") {
  const auto server = build(server_spec());
  const auto client = build(client_spec());
  for (int i = 0; i < 300; i++) {
    Pair pair(endpoint(client), server);
    // Some end in their handshake.
    if (i % 3 == 0) {
      pair.shake(pair.client.get());
      continue;
    }
    CHECK(pair.shakes_hands());
    pair.settle();
  }
}

}  // namespace
}  // namespace weft
