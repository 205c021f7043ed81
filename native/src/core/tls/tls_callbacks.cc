// See tls_callbacks.h. SSL's app data is the TlsSession.
#include "core/tls/tls_callbacks.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "core/tls/peer_identity.h"
#include "core/tls/tls_context.h"
#include "core/tls/tls_session.h"

namespace weft {

namespace {

TlsSession* session_of(const SSL* ssl) { return static_cast<TlsSession*>(SSL_get_app_data(ssl)); }

// RFC 6066 3: a list with one host_name. False: malformed.
bool parse_server_name(const uint8_t* bytes, size_t size, std::string_view* name) {
  if (size < 5) return false;
  const size_t list = size_t{bytes[0]} << 8 | bytes[1];
  const size_t length = size_t{bytes[3]} << 8 | bytes[4];
  if (list + 2 != size || bytes[2] != TLSEXT_NAMETYPE_host_name || length + 5 > size) return false;
  *name = {reinterpret_cast<const char*>(bytes) + 5, length};
  return true;
}

// Before anything is negotiated, so that the certificate's own context decides all of it.
int on_client_hello(SSL* ssl, int* alert, void*) {
  TlsSession* session = session_of(ssl);
  const uint8_t* extension = nullptr;
  size_t size = 0;
  std::string_view name;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &extension, &size) == 1 && !parse_server_name(extension, size, &name)) {
    *alert = SSL_AD_DECODE_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
  }
  SSL_CTX* chosen = session->context().for_server_name(name);
  if (chosen == nullptr) {
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    session->set_failure(TlsFailure::UnknownServerName, "no certificate for server name \"" + std::string(name.substr(0, 255)) + "\"");
    return SSL_CLIENT_HELLO_ERROR;
  }
  if (chosen != SSL_get_SSL_CTX(ssl)) SSL_set_SSL_CTX(ssl, chosen);
  // The versions are what it does not take over.
  SSL_set_min_proto_version(ssl, static_cast<int>(SSL_CTX_get_min_proto_version(chosen)));
  SSL_set_max_proto_version(ssl, static_cast<int>(SSL_CTX_get_max_proto_version(chosen)));
  return SSL_CLIENT_HELLO_SUCCESS;
}

// Without it SSL_get_servername() knows nothing of resumed sessions.
int on_server_name(SSL*, int*, void*) { return SSL_TLSEXT_ERR_OK; }

// Ours is the order that counts. A client that offers only others is refused (RFC 7301 3.2).
int on_alpn(SSL* ssl, const uint8_t** out, uint8_t* out_size, const uint8_t* offered, unsigned offered_size, void*) {
  TlsSession* session = session_of(ssl);
  const std::string& ours = session->context().alpn();
  if (ours.empty()) return SSL_TLSEXT_ERR_NOACK;
  uint8_t* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const uint8_t*>(ours.data()), static_cast<unsigned>(ours.size()), offered,
                            offered_size) != OPENSSL_NPN_NEGOTIATED) {
    session->set_failure(TlsFailure::Negotiation, "no application protocol in common");
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

const EVP_CIPHER* ticket_cipher() {
  // Fetched once: an implicit fetch a ticket is dear.
  static EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr);
  return cipher;
}

bool use_ticket_key(const uint8_t* key, const uint8_t* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, bool encrypt) {
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, const_cast<uint8_t*>(key) + 16, 32),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end(),
  };
  return EVP_CipherInit_ex(cipher, ticket_cipher(), nullptr, key + 48, iv, encrypt ? 1 : 0) == 1 &&
         EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

int on_ticket_key(SSL* ssl, uint8_t* name, uint8_t* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, int encrypt) {
  TicketKeys keys = session_of(ssl)->context().ticket_keys();
  int result = encrypt != 0 ? -1 : 0;
  if (encrypt != 0) {
    const uint8_t* key = keys[0].data();
    memcpy(name, key, 16);
    if (RAND_bytes(iv, 16) == 1 && use_ticket_key(key, iv, cipher, mac, true)) result = 1;
  } else {
    for (size_t i = 0; i < keys.size(); i++) {
      if (memcmp(name, keys[i].data(), 16) != 0) continue;
      // 2: good, and to be replaced: by one of the current key; in TLS 1.3 always, since clients use a ticket once.
      const int good = i == 0 && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
      result = use_ticket_key(keys[i].data(), iv, cipher, mac, false) ? good : -1;
      break;
    }
  }
  OPENSSL_cleanse(&keys, sizeof(keys));
  return result;
}

long seconds_left(const X509* certificate) {
  int days = 0;
  int seconds = 0;
  if (ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate)) != 1) return 0;
  return long{days} * 86'400 + seconds;
}

// A ticket stands for the certificates that were verified, so it ends with the first of them. Who resumes by one that has ended shakes
// hands anew, with the certificate of now; and resuming, for which TLS 1.3 gives a new ticket, makes nothing last longer: else a client
// that comes once an hour would be whom an authority vouched for long ago.
int on_ticket_made(SSL* ssl, void*) {
  SSL_SESSION* ticket = SSL_get_session(ssl);
  long left = SSL_SESSION_get_timeout(ticket);
  if (SSL_session_reused(ssl) == 1) {
    if (SSL_version(ssl) != TLS1_3_VERSION) return 1;
    left = std::min(left, static_cast<long>(session_of(ssl)->ticket_end_s() - time(nullptr)));
  } else if (const STACK_OF(X509)* chain = SSL_get0_verified_chain(ssl); SSL_get_verify_result(ssl) == X509_V_OK) {
    for (int i = 0; i < sk_X509_num(chain); i++) left = std::min(left, seconds_left(sk_X509_value(chain, i)));
  }
  SSL_SESSION_set_timeout(ticket, std::max(left, 0L));
  return 1;
}

// What OpenSSL does by itself, but for the note.
SSL_TICKET_RETURN on_ticket_read(SSL* ssl, SSL_SESSION* ticket, const unsigned char*, size_t, SSL_TICKET_STATUS status, void*) {
  if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) return SSL_TICKET_RETURN_IGNORE_RENEW;
  session_of(ssl)->set_ticket_end_s(int64_t{SSL_SESSION_get_time(ticket)} + SSL_SESSION_get_timeout(ticket));
  return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

// OpenSSL's own verification of the chain, then who it is.
int on_verify(X509_STORE_CTX* store, void*) {
  if (X509_verify_cert(store) != 1) return 0;
  const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  TlsSession* session = session_of(ssl);
  if (session->accepts(X509_STORE_CTX_get0_cert(store))) return 1;
  X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

int on_verify_and_fall_back(X509_STORE_CTX* store, void*) {
  if (X509_verify_cert(store) != 1 && X509_STORE_CTX_get_error(store) == X509_V_OK) X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
  return 1;
}

int on_new_session(SSL* ssl, SSL_SESSION* ticket) {
  TlsSession* session = session_of(ssl);
  if (session->session_key().empty() || SSL_SESSION_is_resumable(ticket) != 1) return 0;
  session->context().sessions().put(session->session_key(), ticket);
  // 1: the reference is ours now.
  return 1;
}

// Called for every handshake message, not for every record. A refused renegotiation shows itself by our alert alone.
void on_state(const SSL* ssl, int where, int) {
  if ((where & SSL_CB_EXIT) != 0 || where == SSL_CB_WRITE_ALERT) session_of(ssl)->note_aside();
}

}  // namespace

void watch_for_floods(SSL_CTX* ctx) { SSL_CTX_set_info_callback(ctx, on_state); }

void set_server_callbacks(SSL_CTX* ctx, bool own_ticket_keys) {
  SSL_CTX_set_client_hello_cb(ctx, on_client_hello, nullptr);
  SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
  SSL_CTX_set_alpn_select_cb(ctx, on_alpn, nullptr);
  if (own_ticket_keys) SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket_key);
}

void bound_tickets(SSL_CTX* ctx) { SSL_CTX_set_session_ticket_cb(ctx, on_ticket_made, on_ticket_read, nullptr); }

void set_client_callbacks(SSL_CTX* ctx) {
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(ctx, on_new_session);
}

void set_verification(SSL_CTX* ctx, bool falls_back) {
  SSL_CTX_set_cert_verify_callback(ctx, falls_back ? on_verify_and_fall_back : on_verify, nullptr);
}

}  // namespace weft
