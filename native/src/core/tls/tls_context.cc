// See tls_context.h.
#include "core/tls/tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <tuple>

#include "core/http1/ascii.h"
#include "core/tables/byte_index.h"
#include "core/tls/peer_identity.h"
#include "core/tls/tls_callbacks.h"

namespace weft {

namespace {

struct CipherSuite {
  TlsVersion version;
  // At IANA, and what OpenSSL calls it.
  const char* name;
  const char* openssl;
};
// AES-128 first: half the handshakes' peers have AES in hardware, and 128 bits are enough (RFC 7525 4.2); ChaCha20 for clients that prefer
// it. Forward secret and authenticated encryption only. Known to TypeScript as TLS_CIPHER_SUITES of api/resources/tls-options.ts.
constexpr CipherSuite kCipherSuites[] = {
    {TlsVersion::k13, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"},
    {TlsVersion::k13, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"},
    {TlsVersion::k13, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"},
    {TlsVersion::k12, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {TlsVersion::k12, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {TlsVersion::k12, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {TlsVersion::k12, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {TlsVersion::k12, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {TlsVersion::k12, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
};
constexpr char kGroups[] = "X25519:P-256";
// Bounds how long a revoked or re-issued identity lives on in tickets (bound_tickets()).
constexpr long kSessionSeconds = 3600;
constexpr size_t kMaxCertificates = 1024;
constexpr size_t kMaxTrustAnchors = 1024;

std::string openssl_error() {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  return reason == nullptr ? "refused by OpenSSL" : reason;
}

// No prompt for the pass phrase of an encrypted key.
int no_pass_phrase(char*, int, int, void*) { return 0; }

struct Pem {
  explicit Pem(const std::string& text) : bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))) {}
  ~Pem() { BIO_free(bio); }
  Pem(const Pem&) = delete;
  X509* certificate() { return PEM_read_bio_X509(bio, nullptr, no_pass_phrase, nullptr); }
  EVP_PKEY* key() { return PEM_read_bio_PrivateKey(bio, nullptr, no_pass_phrase, nullptr); }
  BIO* bio;
};

std::string lowered(std::string_view text) {
  std::string copy(text);
  std::transform(copy.begin(), copy.end(), copy.begin(), http1::lower);
  return copy;
}

bool encode_alpn(const std::vector<std::string>& protocols, std::string* out, std::string* error) {
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255) return *error = "alpn: a protocol has 1 to 255 bytes", false;
    *out += static_cast<char>(protocol.size());
    *out += protocol;
  }
  return true;
}

// Those of one version, as OpenSSL lists them; empty: none.
std::string suites_of(TlsVersion version, const std::vector<std::string>& wanted) {
  std::string list;
  const auto add = [&](const CipherSuite& suite) {
    if (suite.version == version) list += (list.empty() ? "" : ":") + std::string(suite.openssl);
  };
  if (wanted.empty()) std::for_each(std::begin(kCipherSuites), std::end(kCipherSuites), add);
  for (const std::string& name : wanted) {
    const auto* found =
        std::find_if(std::begin(kCipherSuites), std::end(kCipherSuites), [&](const auto& each) { return name == each.name; });
    if (found != std::end(kCipherSuites)) add(*found);
  }
  return list;
}

bool set_limits(SSL_CTX* ctx, const TlsLimits& limits, std::string* error) {
  for (const std::string& name : limits.cipher_suites) {
    if (std::none_of(std::begin(kCipherSuites), std::end(kCipherSuites), [&](const auto& each) { return name == each.name; }))
      return *error = "limits: no cipher suite is called " + name, false;
  }
  const std::string suites12 = suites_of(TlsVersion::k12, limits.cipher_suites);
  const std::string suites13 = suites_of(TlsVersion::k13, limits.cipher_suites);
  const TlsVersion least = suites12.empty() ? TlsVersion::k13 : limits.min_version;
  const TlsVersion most = suites13.empty() ? TlsVersion::k12 : limits.max_version;
  if (least > most) return *error = "limits: no version of TLS is left", false;
  const auto number = [](TlsVersion version) { return version == TlsVersion::k12 ? TLS1_2_VERSION : TLS1_3_VERSION; };
  const bool good = SSL_CTX_set_min_proto_version(ctx, number(least)) == 1 && SSL_CTX_set_max_proto_version(ctx, number(most)) == 1 &&
                    (suites12.empty() || SSL_CTX_set_cipher_list(ctx, suites12.c_str()) == 1) &&
                    SSL_CTX_set_ciphersuites(ctx, suites13.c_str()) == 1;
  if (!good) *error = openssl_error();
  return good;
}

// Of whatever makes a ticket valid: one issued under another trust, or under weaker limits, must not be honoured.
void set_session_context(SSL_CTX* ctx, const TlsContextSpec& spec, const TlsLimits& limits) {
  std::string text = spec.trust + '\0' + std::to_string(static_cast<int>(spec.client_certificates));
  for (const PeerMatch& match : spec.accepts) text += '\0' + std::to_string(static_cast<int>(match.kind)) + match.value;
  text += '\0' + std::to_string(static_cast<int>(limits.min_version)) + std::to_string(static_cast<int>(limits.max_version));
  for (const std::string& suite : limits.cipher_suites) text += '\0' + suite;
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const uint8_t*>(text.data()), text.size(), digest);
  SSL_CTX_set_session_id_context(ctx, digest, sizeof(digest));
}

}  // namespace

const char* tls_failure_name(TlsFailure failure) {
  static constexpr const char* kNames[] = {
#define X(identifier, name) name,
      WEFT_TLS_FAILURES(X)
#undef X
  };
  return kNames[static_cast<size_t>(failure)];
}

void EndpointTls::set_key() {
  std::string text = server_name;
  for (const PeerMatch& match : accepts) text += '\0' + std::to_string(static_cast<int>(match.kind)) + match.value;
  key = std::max<uint64_t>(1, hash_bytes(text.data(), text.size(), context->serial() * 0x9e3779b97f4a7c15u));
}

void CertificateTable::add(const std::string& server_name, size_t certificate) {
  const std::string name = lowered(server_name);
  if (name.starts_with("*.")) {
    wildcards_.emplace(name.substr(1), certificate);
  } else {
    exact_.emplace(name, certificate);
  }
}

size_t CertificateTable::find(std::string_view server_name) const {
  if (server_name.empty()) return default_;
  std::string name = lowered(server_name);
  if (name.ends_with('.')) name.pop_back();
  if (const auto at = exact_.find(name); at != exact_.end()) return at->second;
  const size_t dot = name.find('.');
  if (dot != std::string::npos && dot != 0) {
    if (const auto at = wildcards_.find(name.substr(dot)); at != wildcards_.end()) return at->second;
  }
  return default_;
}

bool CertificateTable::passes(std::string_view server_name) const {
  if (server_name.empty()) return default_ == kPassed;
  std::string name = lowered(server_name);
  if (name.ends_with('.')) name.pop_back();
  if (const auto at = exact_.find(name); at != exact_.end()) return at->second == kPassed;
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    if (dot == 0) continue;
    if (const auto at = wildcards_.find(name.substr(dot)); at != wildcards_.end()) return at->second == kPassed;
  }
  return default_ == kPassed;
}

SessionCache::~SessionCache() {
  for (const Entry& entry : entries_) SSL_SESSION_free(entry.session);
}

void SessionCache::erase(Entries::iterator at) {
  const auto [begin, end] = by_peer_.equal_range(at->peer);
  for (auto link = begin; link != end; ++link) {
    if (link->second != at) continue;
    by_peer_.erase(link);
    break;
  }
  entries_.erase(at);
}

void SessionCache::put(const std::string& peer, SSL_SESSION* session) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (entries_.size() == kMaxSessions) {
    SSL_SESSION_free(entries_.front().session);
    erase(entries_.begin());
  }
  entries_.push_back({peer, session});
  by_peer_.emplace(peer, std::prev(entries_.end()));
}

SSL_SESSION* SessionCache::take(const std::string& peer) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto at = by_peer_.find(peer);
  if (at == by_peer_.end()) return nullptr;
  SSL_SESSION* session = at->second->session;
  erase(at->second);
  return session;
}

size_t SessionCache::size() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return entries_.size();
}

std::shared_ptr<TlsContext> TlsContext::build(const TlsContextSpec& spec, std::string* error) {
  static std::atomic<uint64_t> last_serial{0};
  std::shared_ptr<TlsContext> context(new TlsContext());
  context->spec_ = spec;
  context->serial_ = ++last_serial;
  ERR_clear_error();
  const bool is_server = spec.role == TlsRole::kServer;
  if (is_server && spec.certificates.empty()) return *error = "certificates: a server needs one", nullptr;
  if (!is_server && spec.certificates.size() > 1) return *error = "certificates: a client has at most one", nullptr;
  if (spec.certificates.size() > kMaxCertificates) return *error = "certificates: more than 1024", nullptr;
  if (spec.trust.empty() && ((!is_server && spec.verifies_server) || context->asks_for_certificates() || !spec.accepts.empty())) {
    return *error = "trust: without it no peer can be verified", nullptr;
  }
  if (spec.client_certificates == ClientCertificates::kFallback && !spec.accepts.empty()) {
    return *error = "accepts: nobody is refused by clientCertificates fallback", nullptr;
  }
  if (!spec.ticket_keys.empty() && spec.ticket_keys.size() != sizeof(TicketKeys)) {
    return *error = "ticketKeys: expected 3 x 80 bytes", nullptr;
  }
  if (!encode_alpn(spec.alpn, &context->alpn_, error) || !context->add_certificates(error)) return nullptr;
  if (!spec.ticket_keys.empty()) {
    memcpy(&context->ticket_keys_, spec.ticket_keys.data(), sizeof(TicketKeys));
    OPENSSL_cleanse(context->spec_.ticket_keys.data(), sizeof(TicketKeys));
  }
  // The keys live in OpenSSL from here.
  for (TlsCertificateSpec& certificate : context->spec_.certificates) OPENSSL_cleanse(certificate.key.data(), certificate.key.size());
  context->spec_.certificates.clear();
  return context;
}

TlsContext::~TlsContext() {
  for (SSL_CTX* ctx : contexts_) SSL_CTX_free(ctx);
  OPENSSL_cleanse(&ticket_keys_, sizeof(ticket_keys_));
}

bool TlsContext::add_certificates(std::string* error) {
  for (const std::string& name : spec_.passthrough) {
    if (name.empty()) {
      certificates_.set_default(CertificateTable::kPassed);
    } else {
      certificates_.add(name, CertificateTable::kPassed);
    }
  }
  const size_t count = std::max<size_t>(1, spec_.certificates.size());
  for (size_t i = 0; i < count; i++) {
    SSL_CTX* ctx = make_context(i < spec_.certificates.size() ? spec_.certificates[i].limits : TlsLimits{}, error);
    if (ctx == nullptr) return false;
    contexts_.push_back(ctx);
    if (i >= spec_.certificates.size()) break;
    const TlsCertificateSpec& certificate = spec_.certificates[i];
    if (!load_certificate(ctx, certificate, error)) {
      *error = "certificates[" + std::to_string(i) + "]." + *error;
      return false;
    }
    for (const std::string& name : certificate.server_names) certificates_.add(name, i);
    if (certificate.server_names.empty()) certificates_.set_default(i);
  }
  return true;
}

SSL_CTX* TlsContext::make_context(const TlsLimits& limits, std::string* error) const {
  const bool is_server = spec_.role == TlsRole::kServer;
  SSL_CTX* ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
  if (ctx == nullptr) return *error = openssl_error(), nullptr;
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  // Idle connections give their record buffers back; written ranges need not stay where they are between calls; the chain is sent as it was
  // given: otherwise each handshake looks for what is missing in it among the anchors that peers are verified against.
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_timeout(ctx, kSessionSeconds);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(ctx, 1);
  // 112 bits: RSA from 2048, no SHA-1 signatures.
  SSL_CTX_set_security_level(ctx, 2);
  set_session_context(ctx, spec_, limits);
  watch_for_floods(ctx);
  bool good = SSL_CTX_set1_groups_list(ctx, kGroups) == 1;
  if (is_server) {
    set_server_callbacks(ctx, !spec_.ticket_keys.empty());
  } else {
    set_client_callbacks(ctx);
    if (!alpn_.empty()) good = good && SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const uint8_t*>(alpn_.data()), alpn_.size()) == 0;
  }
  const bool verifies = !is_server || asks_for_certificates();
  if (verifies) {
    int mode = SSL_VERIFY_PEER;
    if (is_server && spec_.client_certificates == ClientCertificates::kRequired) mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ctx, mode, nullptr);
    set_verification(ctx, falls_back());
    if (is_server) bound_tickets(ctx);
  }
  if (!good) *error = openssl_error();
  good = good && set_limits(ctx, limits, error) && (!verifies || !spec_.verifies_server || load_trust(ctx, error));
  if (good) return ctx;
  SSL_CTX_free(ctx);
  return nullptr;
}

bool TlsContext::load_trust(SSL_CTX* ctx, std::string* error) const {
  X509_STORE* store = SSL_CTX_get_cert_store(ctx);
  // A bundle of intermediates is trusted as it stands (SPIFFE bundles name their anchors, roots or not).
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
  Pem pem(spec_.trust);
  size_t count = 0;
  while (X509* anchor = pem.certificate()) {
    if (++count <= kMaxTrustAnchors) {
      X509_STORE_add_cert(store, anchor);
      // Names that the client is told; it chooses its certificate by them.
      if (spec_.role == TlsRole::kServer) SSL_CTX_add_client_CA(ctx, anchor);
    }
    X509_free(anchor);
  }
  const unsigned long last = ERR_peek_last_error();
  const bool ended_well = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
  if (count == 0 || !ended_well) return *error = "trust: " + (count == 0 ? "no PEM certificate in it" : openssl_error()), false;
  ERR_clear_error();
  if (count > kMaxTrustAnchors) return *error = "trust: more than 1024 certificates", false;
  return true;
}

bool TlsContext::load_certificate(SSL_CTX* ctx, const TlsCertificateSpec& certificate, std::string* error) const {
  Pem chain(certificate.chain);
  X509* leaf = chain.certificate();
  if (leaf == nullptr) return *error = "chain: no PEM certificate in it (" + openssl_error() + ")", false;
  bool good = SSL_CTX_use_certificate(ctx, leaf) == 1;
  X509_free(leaf);
  while (good) {
    X509* issuer = chain.certificate();
    if (issuer == nullptr) break;
    good = SSL_CTX_add0_chain_cert(ctx, issuer) == 1;
    if (!good) X509_free(issuer);
  }
  if (!good) return *error = "chain: " + openssl_error(), false;
  ERR_clear_error();
  Pem key_pem(certificate.key);
  EVP_PKEY* key = key_pem.key();
  if (key == nullptr) return *error = "key: no PEM private key without pass phrase (" + openssl_error() + ")", false;
  good = SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
  EVP_PKEY_free(key);
  if (!good) *error = "key: " + openssl_error();
  return good;
}

bool TlsContext::lets_in_as(const TlsContext& other) const {
  const auto of = [](const TlsContextSpec& spec) { return std::tie(spec.client_certificates, spec.trust, spec.accepts); };
  return of(spec_) == of(other.spec_);
}

SSL_CTX* TlsContext::for_server_name(std::string_view name) const {
  const size_t index = certificates_.find(name);
  return index < contexts_.size() ? contexts_[index] : nullptr;
}

bool TlsContext::set_ticket_keys(const TicketKeys& keys) {
  if (spec_.ticket_keys.empty()) return false;
  const std::lock_guard<std::mutex> lock(ticket_mutex_);
  ticket_keys_ = keys;
  return true;
}

TicketKeys TlsContext::ticket_keys() const {
  const std::lock_guard<std::mutex> lock(ticket_mutex_);
  return ticket_keys_;
}

}  // namespace weft
