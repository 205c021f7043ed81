// One TLS connection between two byte ranges: ciphertext that came in, ciphertext to send. Does no input or output of its own, knows no
// socket and no protocol. One thread at a time.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/byte_queue.h"
#include "core/tls/tls_spec.h"

struct ssl_st;
struct ssl_ctx_st;
struct x509_st;

namespace weft {

// Ciphertext of the call that is under way; one a reactor. `input` is consumed from its front, output is appended.
struct TlsWire {
  static constexpr size_t kBytes = 320 * 1024;
  // Gathers what stands in two ranges for one record.
  static constexpr size_t kGather = 16 * 1024;

  TlsWire();
  const uint8_t* input = nullptr;
  size_t input_size = 0;
  size_t output_size = 0;
  std::unique_ptr<uint8_t[]> input_memory;
  std::unique_ptr<uint8_t[]> output;
  std::unique_ptr<uint8_t[]> gather;
};

class TlsSession {
 public:
  enum class Step : uint8_t { Done, WantsInput, Failed };
  // Results of read() besides a count.
  static constexpr int64_t kEnd = 0;
  static constexpr int64_t kWantsInput = -1;
  static constexpr int64_t kFailed = -2;

  static std::unique_ptr<TlsSession> accept(std::shared_ptr<const TlsContext> context);
  // `peer`: whose sessions may be resumed; address and port.
  static std::unique_ptr<TlsSession> connect(const EndpointTls& tls, std::string_view peer);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Goes on with the handshake. Output may have come in every case: an alert, too, is to be sent.
  Step handshake(TlsWire* wire);
  // The same from input_left, which holds no more than a wire does, to output_left; what came of it the next handshake() says again.
  void handshake_alone(TlsWire* wire);
  // handshake() has nothing more to do.
  bool is_handshake_over() const { return established_ || failure_ != TlsFailure::None; }
  bool is_established() const { return established_; }
  // What the last step of the handshake wrote is a TLS 1.3 server's tickets and nothing else, for which nobody waits.
  bool may_hold_output(const TlsWire& wire) const;
  // The handshake goes no further without input: a server's before its first, either's after Step::WantsInput.
  bool awaits_input() const { return awaits_input_; }
  // read() would say kWantsInput.
  bool is_dry(const TlsWire& wire) const;
  // Decrypts; a count, kEnd after the peer's close_notify, kWantsInput or kFailed.
  int64_t read(TlsWire* wire, uint8_t* out, size_t capacity);
  // Encrypts all of it into as few records as can be. False: failed, or more than the wire holds.
  bool write(TlsWire* wire, const void* first, size_t first_count, const void* second, size_t second_count);
  // Plain bytes that write() takes at a time.
  static constexpr size_t kMaxWrite = TlsWire::kBytes - 16 * 1024;
  // Says that no more will be sent. Idempotent.
  void close_notify(TlsWire* wire);
  // Decrypted bytes wait inside.
  bool has_pending() const;
  // The peer's close_notify was read.
  bool peer_has_ended() const;

  // Why it failed; the text is OpenSSL's, for logs.
  TlsFailure failure() const { return failure_; }
  const std::string& failure_text() const { return failure_text_; }
  // A message of the peer's behind the handshake: KeyUpdate, ticket, attempt to renegotiate. Each costs us microseconds and it almost
  // nothing, so there are kMaxAsides of them and one more for every kBytesPerAside it sends in earnest.
  static constexpr uint64_t kMaxAsides = 256;
  static constexpr uint64_t kBytesPerAside = 64 * 1024;
  void note_aside();
  // The peer ended without close_notify.
  void mark_truncated();

  // Facts of the handshake; empty where there are none.
  std::string_view alpn() const;
  std::string server_name() const;
  // Whether the peer showed a certificate, and it was verified; and of that one, empty where there is none: its SPIFFE ID; what it calls
  // its owner (peer_identity.h); the line "x-forwarded-client-cert: …" CRLF about it.
  bool has_verified_peer() const { return verified_peer() != nullptr; }
  std::string peer_identity() const;
  std::string peer_name() const;
  std::string forwarded_certificate_line() const;
  bool is_resumed() const;
  const char* version() const;
  // TLS1_2_VERSION or TLS1_3_VERSION.
  uint16_t version_number() const;
  const char* cipher() const;

  // Ciphertext read but not used, and handshake bytes that the socket did not take, or that go with the first write behind the handshake:
  // the connection's to fill and empty.
  ByteQueue input_left;
  ByteQueue output_left;
  // Makes what input_left holds, as much as fits, the input of `wire`.
  void load_left_input(TlsWire* wire);
  bool handshake_begun = false;

  // For the callbacks of tls_context.cc.
  const TlsContext& context() const { return *context_; }
  const EndpointTls* endpoint() const { return endpoint_.get(); }
  const std::string& session_key() const { return session_key_; }
  void set_failure(TlsFailure failure, std::string text);
  // When the ticket ends that the peer resumes by; seconds since 1970.
  int64_t ticket_end_s() const { return ticket_end_s_; }
  void set_ticket_end_s(int64_t end_s) { ticket_end_s_ = end_s; }
  // Whether the verified certificate is one of those that may speak here; says why not.
  bool accepts(struct x509_st* certificate);

 private:
  friend struct WireBio;
  TlsSession() = default;
  bool begin();
  bool attach(struct ssl_ctx_st* ctx);
  void record_failure(int result);
  struct x509_st* verified_peer() const;
  void offer_session();
  void finish_handshake();

  struct ssl_st* ssl_ = nullptr;
  std::shared_ptr<const TlsContext> context_;
  std::unique_ptr<EndpointTls> endpoint_;
  std::string session_key_;
  std::string failure_text_;
  TlsWire* wire_ = nullptr;
  TlsFailure failure_ = TlsFailure::None;
  uint64_t asides_ = 0;
  uint64_t bytes_read_ = 0;
  int64_t ticket_end_s_ = 0;
  bool awaits_input_ = false;
  bool established_ = false;
  bool closed_ = false;
};

}  // namespace weft
