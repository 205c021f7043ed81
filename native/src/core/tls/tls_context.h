// A TLS configuration ready for handshakes: certificates by server name, trust, ALPN, ticket keys, and the client's cache of sessions.
// Shared by all workers and immutable but for ticket keys and sessions, which are guarded. Sessions keep the context they began with, so
// that a listener's may be swapped at any time.
#pragma once
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tls/tls_spec.h"

struct ssl_ctx_st;
struct ssl_st;
struct ssl_session_st;

namespace weft {

// Certificate by server name: exact before "*." (one label) before the default. Names may also be another's: their TLS passes through.
class CertificateTable {
 public:
  static constexpr size_t kNone = SIZE_MAX;
  static constexpr size_t kPassed = SIZE_MAX - 1;
  void add(const std::string& server_name, size_t certificate);
  void set_default(size_t certificate) { default_ = certificate; }
  // `server_name` as sent, any case; kNone if nothing serves it.
  size_t find(std::string_view server_name) const;
  // Whether the most specific name that covers it, by any number of labels, was added as kPassed.
  bool passes(std::string_view server_name) const;

 private:
  std::unordered_map<std::string, size_t> exact_;
  // With the dot: ".example.com".
  std::unordered_map<std::string, size_t> wildcards_;
  size_t default_ = kNone;
};

// Sessions to resume, by peer; least recently added leave first. Each is given out once (RFC 8446 C.4).
class SessionCache {
 public:
  static constexpr size_t kMaxSessions = 1024;
  ~SessionCache();
  // Takes ownership.
  void put(const std::string& peer, struct ssl_session_st* session);
  // Ownership goes to the caller; null if there is none.
  struct ssl_session_st* take(const std::string& peer);
  size_t size() const;

 private:
  struct Entry {
    std::string peer;
    struct ssl_session_st* session;
  };
  using Entries = std::list<Entry>;
  void erase(Entries::iterator at);

  mutable std::mutex mutex_;
  Entries entries_;
  std::unordered_multimap<std::string, Entries::iterator> by_peer_;
};

class TlsContext {
 public:
  // Null, with what is wrong and where in `error`.
  static std::shared_ptr<TlsContext> build(const TlsContextSpec& spec, std::string* error);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  TlsRole role() const { return spec_.role; }
  // Of the process, never given again.
  uint64_t serial() const { return serial_; }
  const std::vector<PeerMatch>& accepts() const { return spec_.accepts; }
  bool asks_for_certificates() const { return spec_.client_certificates != ClientCertificates::kNone; }
  // Whether clients are asked for certificates as by the other, and those vouched for by the same.
  bool lets_in_as(const TlsContext& other) const;
  bool falls_back() const { return spec_.client_certificates == ClientCertificates::kFallback || !spec_.verifies_server; }
  // Wire format of RFC 7301.
  const std::string& alpn() const { return alpn_; }
  struct ssl_ctx_st* base() const {
    return contexts_.front();
  }
  // Whether the TLS of that name ends elsewhere.
  bool passes(std::string_view server_name) const { return certificates_.passes(server_name); }
  // Null: no certificate for that name.
  struct ssl_ctx_st* for_server_name(std::string_view name) const;
  SessionCache& sessions() const { return sessions_; }

  // Every worker uses them from the next handshake on. False: tickets of this context are OpenSSL's.
  bool set_ticket_keys(const TicketKeys& keys);
  TicketKeys ticket_keys() const;

 private:
  TlsContext() = default;
  struct ssl_ctx_st* make_context(const TlsLimits& limits, std::string* error) const;
  bool load_certificate(struct ssl_ctx_st* ctx, const TlsCertificateSpec& certificate, std::string* error) const;
  bool load_trust(struct ssl_ctx_st* ctx, std::string* error) const;
  bool add_certificates(std::string* error);

  TlsContextSpec spec_;
  uint64_t serial_ = 0;
  std::string alpn_;
  std::vector<struct ssl_ctx_st*> contexts_;
  CertificateTable certificates_;
  mutable SessionCache sessions_;
  mutable std::mutex ticket_mutex_;
  TicketKeys ticket_keys_{};
};

}  // namespace weft
