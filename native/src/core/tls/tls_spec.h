// What a TLS configuration is made of, as TypeScript gives it (TlsContextSpec, EndpointTlsSpec of agent/native/engine-tables.ts), and why
// TLS fails. Names no OpenSSL type, so that everything may include it.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace weft {

class TlsContext;

enum class TlsRole : uint8_t { kServer, kClient };
// kOptional: one that is sent must be good. kFallback: whoever shows none, or one that can't be verified, is let in, without identity.
enum class ClientCertificates : uint8_t { kNone, kOptional, kRequired, kFallback };

enum class TlsVersion : uint8_t { k12, k13 };

// What a handshake may agree on.
struct TlsLimits {
  TlsVersion min_version = TlsVersion::k12;
  TlsVersion max_version = TlsVersion::k13;
  // By their names at IANA, in order of preference. Empty: all that there are. A version that none is for is not spoken.
  std::vector<std::string> cipher_suites;
};

// One identity, or a set of them, that a peer's certificate may have.
struct PeerMatch {
  // kTrustDomain: any SPIFFE ID of it.
  enum class Kind : uint8_t { kSpiffeId, kTrustDomain, kDnsName };
  Kind kind = Kind::kSpiffeId;
  std::string value;
  bool operator==(const PeerMatch&) const = default;
};

struct TlsCertificateSpec {
  // Lower case; "*.example.com" for one label. None: for clients that name no other (or nothing).
  std::vector<std::string> server_names;
  // PEM, leaf first.
  std::string chain;
  std::string key;
  // Server: of handshakes that this certificate answers.
  TlsLimits limits = {};
};

// Current, previous, next: each a 16-byte name, a 32-byte HMAC key and a 32-byte AES key.
inline constexpr size_t kTicketKeyBytes = 80;
inline constexpr size_t kTicketKeys = 3;
using TicketKeys = std::array<std::array<uint8_t, kTicketKeyBytes>, kTicketKeys>;

struct TlsContextSpec {
  TlsRole role = TlsRole::kServer;
  std::vector<TlsCertificateSpec> certificates;
  // Server names whose TLS ends elsewhere, as those of certificates; "*." stands for any number of labels here, "" for all other names.
  std::vector<std::string> passthrough;
  // PEM; the only roots that are trusted. Empty: a server that asks for no certificates.
  std::string trust;
  // In order of preference.
  std::vector<std::string> alpn;
  ClientCertificates client_certificates = ClientCertificates::kNone;
  // Client: false: whoever answers is spoken to, whatever its certificate; `trust` is not looked at.
  bool verifies_server = true;
  // Any one suffices; empty: whoever the trust bundle vouches for (client: the endpoint's names decide).
  std::vector<PeerMatch> accepts;
  // Empty: keys of OpenSSL's own, known to this context alone.
  std::vector<uint8_t> ticket_keys;
};

// How one endpoint is spoken to.
struct EndpointTls {
  std::shared_ptr<const TlsContext> context;
  // Sent as SNI; empty: none.
  std::string server_name;
  // Any one suffices; empty: the certificate must carry server_name.
  std::vector<PeerMatch> accepts;
  // Equal exactly (but for hash collisions) if connections may be shared; not 0.
  uint64_t key = 0;

  void set_key();
};

// X(identifier, name): why a handshake or a stream failed. Order shared with TLS_FAILURES of agent/native/engine-tables.ts.
#define WEFT_TLS_FAILURES(X)                  \
  X(None, "")                                 \
  X(Truncated, "truncated")                   \
  X(NotTls, "not-tls")                        \
  X(Version, "version")                       \
  X(Negotiation, "negotiation")               \
  X(UnknownServerName, "unknown-server-name") \
  X(NoCertificate, "no-certificate")          \
  X(UntrustedCertificate, "untrusted")        \
  X(ExpiredCertificate, "expired")            \
  X(WrongIdentity, "wrong-identity")          \
  X(PeerAlert, "peer-alert")                  \
  X(BadRecord, "bad-record")                  \
  X(Protocol, "protocol")                     \
  X(TimedOut, "timed-out")                    \
  X(Flood, "flood")

enum class TlsFailure : uint8_t {
#define X(identifier, name) identifier,
  WEFT_TLS_FAILURES(X)
#undef X
      Count
};
const char* tls_failure_name(TlsFailure failure);

}  // namespace weft
