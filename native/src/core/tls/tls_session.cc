// See tls_session.h. The only file that calls SSL_read and SSL_write.
#include "core/tls/tls_session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>

#include "core/tables/tables.h"
#include "core/tls/peer_identity.h"
#include "core/tls/tls_context.h"

namespace weft {

// OpenSSL's end of the wire: takes from `input`, appends to `output`, never blocks.
struct WireBio {
  static TlsWire* wire_of(BIO* bio) { return static_cast<TlsSession*>(BIO_get_data(bio))->wire_; }

  static int read(BIO* bio, char* out, int wanted) {
    BIO_clear_retry_flags(bio);
    TlsWire* wire = wire_of(bio);
    if (wire == nullptr || wire->input_size == 0) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const size_t count = std::min(static_cast<size_t>(wanted), wire->input_size);
    memcpy(out, wire->input, count);
    wire->input += count;
    wire->input_size -= count;
    return static_cast<int>(count);
  }

  static int write(BIO* bio, const char* bytes, int count) {
    BIO_clear_retry_flags(bio);
    TlsWire* wire = wire_of(bio);
    // More than a call may make: the session fails, nothing is cut.
    if (wire == nullptr || wire->output_size + static_cast<size_t>(count) > TlsWire::kBytes) return -1;
    memcpy(wire->output.get() + wire->output_size, bytes, static_cast<size_t>(count));
    wire->output_size += static_cast<size_t>(count);
    return count;
  }

  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static const BIO_METHOD* method() {
    static const BIO_METHOD* const made = [] {
      BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weft wire");
      BIO_meth_set_read(method, read);
      BIO_meth_set_write(method, write);
      BIO_meth_set_ctrl(method, control);
      return method;
    }();
    return made;
  }
};

namespace {

// Far below what TlsWire has left over above kMaxWrite.
constexpr size_t kMaxHeld = 4096;

// What others on this thread left there would be taken for ours.
void clear_errors() {
  if (ERR_peek_error() != 0) ERR_clear_error();
}

TlsFailure failure_of_certificate(long result) {
  switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return TlsFailure::ExpiredCertificate;
    case X509_V_ERR_APPLICATION_VERIFICATION:
      return TlsFailure::WrongIdentity;
    default:
      return TlsFailure::UntrustedCertificate;
  }
}

TlsFailure failure_of_reason(int reason) {
  // Alerts that came stand above 1000 (SSL_AD_REASON_OFFSET).
  if (reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) return TlsFailure::PeerAlert;
  switch (reason) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
      return TlsFailure::NotTls;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
      return TlsFailure::Version;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return TlsFailure::Negotiation;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return TlsFailure::NoCertificate;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return TlsFailure::UntrustedCertificate;
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
    case SSL_R_BAD_RECORD_TYPE:
      return TlsFailure::BadRecord;
    default:
      return TlsFailure::Protocol;
  }
}

}  // namespace

TlsWire::TlsWire() : input_memory(new uint8_t[kBytes]), output(new uint8_t[kBytes]), gather(new uint8_t[kGather]) {}

std::unique_ptr<TlsSession> TlsSession::accept(std::shared_ptr<const TlsContext> context) {
  std::unique_ptr<TlsSession> session(new TlsSession());
  session->context_ = std::move(context);
  session->awaits_input_ = true;
  return session;
}

std::unique_ptr<TlsSession> TlsSession::connect(const EndpointTls& tls, std::string_view peer) {
  std::unique_ptr<TlsSession> session(new TlsSession());
  session->context_ = tls.context;
  session->endpoint_ = std::make_unique<EndpointTls>(tls);
  // Another name or identity at the same address is another peer.
  session->session_key_.assign(peer);
  session->session_key_.append(reinterpret_cast<const char*>(&tls.key), sizeof(tls.key));
  return session;
}

// With the first step of the handshake, by whichever thread takes it: see Reactor::drop_tls().
bool TlsSession::begin() {
  if (ssl_ != nullptr) return true;
  if (!attach(context_->base())) return false;
  if (endpoint_ == nullptr) {
    SSL_set_accept_state(ssl_);
    return true;
  }
  Address literal;
  // RFC 6066 3: no addresses in SNI.
  if (!endpoint_->server_name.empty() && !parse_address(endpoint_->server_name, &literal))
    SSL_set_tlsext_host_name(ssl_, endpoint_->server_name.c_str());
  offer_session();
  SSL_set_connect_state(ssl_);
  return true;
}

bool TlsSession::attach(SSL_CTX* ctx) {
  ssl_ = SSL_new(ctx);
  BIO* bio = ssl_ == nullptr ? nullptr : BIO_new(WireBio::method());
  if (bio == nullptr) return false;
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_app_data(ssl_, this);
  return true;
}

TlsSession::~TlsSession() {
  if (ssl_ == nullptr) return;
  // Without this OpenSSL calls the session bad, since the peer's close_notify was not awaited, and forgets it.
  if (established_ && failure_ == TlsFailure::None) SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(ssl_);
}

TlsSession::Step TlsSession::handshake(TlsWire* wire) {
  if (failure_ != TlsFailure::None) return Step::Failed;
  if (established_) return Step::Done;
  clear_errors();
  if (!begin()) {
    set_failure(TlsFailure::Protocol, "out of memory");
    return Step::Failed;
  }
  wire_ = wire;
  awaits_input_ = false;
  const int result = SSL_do_handshake(ssl_);
  wire_ = nullptr;
  if (result == 1) {
    finish_handshake();
    return Step::Done;
  }
  const int error = SSL_get_error(ssl_, result);
  awaits_input_ = error == SSL_ERROR_WANT_READ;
  if (awaits_input_) return Step::WantsInput;
  record_failure(error);
  return Step::Failed;
}

bool TlsSession::may_hold_output(const TlsWire& wire) const {
  return endpoint_ == nullptr && SSL_version(ssl_) == TLS1_3_VERSION && output_left.empty() && wire.output_size <= kMaxHeld;
}

void TlsSession::load_left_input(TlsWire* wire) {
  const size_t size = std::min(input_left.size(), TlsWire::kBytes);
  if (size != 0) memcpy(wire->input_memory.get(), input_left.data(), size);
  wire->input = wire->input_memory.get();
  wire->input_size = size;
  wire->output_size = 0;
  if (size != 0) input_left.consume(size);
}

void TlsSession::handshake_alone(TlsWire* wire) {
  load_left_input(wire);
  handshake(wire);
  input_left.append(wire->input, wire->input_size);
  output_left.append(wire->output.get(), wire->output_size);
}

void TlsSession::finish_handshake() {
  established_ = true;
  // TLS 1.2 servers give no new ticket to a session that was resumed with a good one.
  if (session_key_.empty() || SSL_session_reused(ssl_) != 1 || SSL_version(ssl_) != TLS1_2_VERSION) return;
  if (SSL_SESSION* again = SSL_get1_session(ssl_)) context_->sessions().put(session_key_, again);
}

// A resumed session brings the server's certificate of then, which may have expired: the one of now is asked for instead. Neither the chain
// nor who it is needs a second look, since the key of the cache binds sessions to their trust and to what is accepted.
void TlsSession::offer_session() {
  while (SSL_SESSION* known = context_->sessions().take(session_key_)) {
    X509* certificate = SSL_SESSION_get0_peer(known);
    const bool is_good = context_->falls_back() || (certificate != nullptr && X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0);
    if (is_good) SSL_set_session(ssl_, known);
    SSL_SESSION_free(known);
    if (is_good) return;
  }
}

bool TlsSession::accepts(X509* certificate) {
  const bool named = endpoint_ != nullptr && (!endpoint_->accepts.empty() || !endpoint_->server_name.empty());
  bool good = context_->accepts().empty() || has_identity(certificate, context_->accepts());
  if (good && named) {
    good = endpoint_->accepts.empty() ? has_host(certificate, endpoint_->server_name) : has_identity(certificate, endpoint_->accepts);
  }
  if (!good) {
    const std::string id = spiffe_id_of(certificate);
    set_failure(TlsFailure::WrongIdentity, id.empty() ? "the certificate has none of the accepted identities" : id + " is not accepted");
  }
  return good;
}

void TlsSession::set_failure(TlsFailure failure, std::string text) {
  if (failure_ != TlsFailure::None) return;
  failure_ = failure;
  failure_text_ = std::move(text);
}

void TlsSession::note_aside() {
  if (!established_ || ++asides_ <= kMaxAsides + bytes_read_ / kBytesPerAside) return;
  set_failure(TlsFailure::Flood, "too many messages behind the handshake");
  // OpenSSL goes on while there is input.
  if (wire_ != nullptr) wire_->input_size = 0;
}

void TlsSession::mark_truncated() { set_failure(TlsFailure::Truncated, "the peer closed without close_notify"); }

void TlsSession::record_failure(int error) {
  const unsigned long code = ERR_peek_error();
  const long verified = SSL_get_verify_result(ssl_);
  const int reason = ERR_GET_REASON(code);
  if (error == SSL_ERROR_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK) {
    set_failure(failure_of_certificate(verified), X509_verify_cert_error_string(verified));
  } else if (error == SSL_ERROR_SSL && code != 0) {
    const char* text = ERR_reason_error_string(code);
    set_failure(failure_of_reason(reason), text == nullptr ? "unknown OpenSSL reason" : text);
  } else {
    set_failure(TlsFailure::Protocol, "OpenSSL error " + std::to_string(error));
  }
  ERR_clear_error();
}

bool TlsSession::is_dry(const TlsWire& wire) const {
  return wire.input_size == 0 && failure_ == TlsFailure::None && !has_pending() && !peer_has_ended();
}

int64_t TlsSession::read(TlsWire* wire, uint8_t* out, size_t capacity) {
  if (failure_ != TlsFailure::None) return kFailed;
  clear_errors();
  wire_ = wire;
  const int count = SSL_read(ssl_, out, static_cast<int>(std::min<size_t>(capacity, 1 << 30)));
  wire_ = nullptr;
  if (count > 0) {
    bytes_read_ += static_cast<uint64_t>(count);
    return count;
  }
  if (failure_ != TlsFailure::None) return kFailed;
  const int error = SSL_get_error(ssl_, count);
  if (error == SSL_ERROR_WANT_READ) return kWantsInput;
  if (error == SSL_ERROR_ZERO_RETURN) return kEnd;
  record_failure(error);
  return kFailed;
}

bool TlsSession::write(TlsWire* wire, const void* first, size_t first_count, const void* second, size_t second_count) {
  if (failure_ != TlsFailure::None || closed_ || first_count + second_count > kMaxWrite) return false;
  clear_errors();
  wire_ = wire;
  int result = 1;
  const auto* rest = static_cast<const uint8_t*>(second);
  if (second_count != 0 && first_count < TlsWire::kGather) {
    // The two meet in one record.
    const size_t taken = std::min(second_count, TlsWire::kGather - first_count);
    memcpy(wire->gather.get(), first, first_count);
    memcpy(wire->gather.get() + first_count, rest, taken);
    result = SSL_write(ssl_, wire->gather.get(), static_cast<int>(first_count + taken));
    rest += taken;
    second_count -= taken;
  } else if (first_count != 0) {
    result = SSL_write(ssl_, first, static_cast<int>(first_count));
  }
  if (result > 0 && second_count != 0) result = SSL_write(ssl_, rest, static_cast<int>(second_count));
  wire_ = nullptr;
  if (result > 0) return true;
  record_failure(SSL_get_error(ssl_, result));
  return false;
}

void TlsSession::close_notify(TlsWire* wire) {
  if (!established_ || closed_ || failure_ != TlsFailure::None) return;
  closed_ = true;
  wire_ = wire;
  SSL_shutdown(ssl_);
  wire_ = nullptr;
  clear_errors();
}

bool TlsSession::has_pending() const { return SSL_has_pending(ssl_) == 1; }
bool TlsSession::peer_has_ended() const { return (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) != 0; }

std::string_view TlsSession::alpn() const {
  const uint8_t* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

std::string TlsSession::server_name() const {
  const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
  return name == nullptr ? std::string() : name;
}

X509* TlsSession::verified_peer() const { return SSL_get_verify_result(ssl_) == X509_V_OK ? SSL_get0_peer_certificate(ssl_) : nullptr; }

std::string TlsSession::peer_identity() const { return spiffe_id_of(verified_peer()); }

std::string TlsSession::peer_name() const {
  X509* certificate = verified_peer();
  return certificate == nullptr ? std::string() : name_of(certificate);
}

std::string TlsSession::forwarded_certificate_line() const {
  X509* certificate = verified_peer();
  return certificate == nullptr ? std::string() : "x-forwarded-client-cert: " + forwarded_certificate(certificate) + "\r\n";
}

bool TlsSession::is_resumed() const { return SSL_session_reused(ssl_) == 1; }
uint16_t TlsSession::version_number() const { return static_cast<uint16_t>(SSL_version(ssl_)); }
const char* TlsSession::version() const { return SSL_get_version(ssl_); }
const char* TlsSession::cipher() const { return SSL_get_cipher_name(ssl_); }

}  // namespace weft
