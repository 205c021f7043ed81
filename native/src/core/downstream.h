// A connection from a client, before anything is known of its protocol: where it came from, where it wanted to go, on which listener.
#pragma once
#include "core/batch.h"
#include "core/connection.h"
#include "core/options.h"
#include "core/shared.h"
#include "core/socket.h"
#include "core/upstream_target.h"

namespace weft {

// What connections keep of their listener, which may be gone before them.
struct ListenerInfo {
  int32_t id = 0;
  ListenerKind kind = ListenerKind::Gateway;
  // A connection to it was made straight to the listener. 0: all were captured, whatever port they were to.
  uint16_t port = 0;
  Forwarding forwarding;
  // Null: the proxy's own namespace.
  SharedScope scope;

  bool is_captured() const { return kind != ListenerKind::Gateway; }
};

// What the handshake, or the ClientHello that passed through, told of the client.
struct ClientSecurity {
  // TLS ends here; false: it passes through.
  bool terminated = false;
  // As sent; empty: none.
  std::string server_name;
  // Verified SPIFFE ID; empty: none.
  std::string identity;
  // TLS1_2_VERSION or TLS1_3_VERSION; 0: it passes through.
  uint16_t tls_version = 0;
  // It showed a certificate, and that was verified.
  bool has_certificate = false;
  // What that calls its owner, for logs.
  std::string certificate_name;
  // Complete X-Forwarded-Client-Cert; empty: there is none, or the listener tells nothing of it.
  std::string certificate_line;
};

struct DownstreamOrigin {
  // Not null.
  Shared<ListenerInfo> listener;
  // Null: plain text.
  Shared<ClientSecurity> security;
  Peer client;
  // Original destination of captured traffic; unset on gateway listeners until reached() was asked for.
  Peer destination;
  TenantId tenant = 0;
  // What connections into the listener's scope are bound to.
  ScopeSource scope_source = ScopeSource::Any;
  // Two bits of one byte: with another an idle connection has eight more. Its protocol was declared by nobody: what it is sent to speaks
  // the same, unless that is declared.
  bool detected : 1 = false;
  // Who connects now is let in otherwise, or by nobody: see Downstream::retire().
  bool retired : 1 = false;
};

class Downstream : public Connection {
 public:
  Downstream(Reactor* reactor, int fd, const DownstreamOrigin& origin) : Connection(reactor, fd, origin.tenant), origin_(origin) {}
  int32_t listener_id() const override { return origin_.listener->id; }
  const DownstreamOrigin& origin() const { return origin_; }
  // The decision on what this connection put into the batch.
  virtual void on_decision(const Batch::Pending& pending, const Decision& decision) = 0;
  TargetContext target_context(StreamKind kind) const;
  // The original destination, or of a gateway's listener this end of the connection: the kernel is asked for it once.
  const Peer& reached();
  // What it was let in by holds no more (Reactor::retire_connections()): leaves as when the engine drains.
  void retire();

 protected:
  // Ids of this connection's addresses in the tables of now.
  DescriptorContext descriptor_context(const struct Exchange* exchange);
  // Bytes of an HTTP/1 request that was kept, for the next descriptor: in the arena, its head parsed. Null: there is no room now.
  const uint8_t* stage_request(const uint8_t* bytes, size_t size);

  // What is under way ends, and nothing new begins.
  bool is_leaving() const;
  uint64_t idle_timeout_ms() const;

  DownstreamOrigin origin_;
  // Endpoint that was chosen, and perhaps dialled, while the protocol was not known yet; until the first request asks for it. -1: none.
  int32_t dialled_ = -1;

 private:
  int32_t ids_generation_ = -1;
  int32_t destination_id_ = -1;
  int32_t source_id_ = -1;
  int32_t server_name_id_ = -1;
  int32_t identity_id_ = -1;
};

}  // namespace weft
