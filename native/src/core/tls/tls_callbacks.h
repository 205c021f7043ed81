// What OpenSSL asks during a handshake: which certificate, which protocol, which ticket key, whether the peer is who it must be.
#pragma once

struct ssl_ctx_st;

namespace weft {

void set_server_callbacks(struct ssl_ctx_st* ctx, bool own_ticket_keys);
// Of a server that asks for certificates: tickets last no longer than what was verified for the first of them.
void bound_tickets(struct ssl_ctx_st* ctx);
void set_client_callbacks(struct ssl_ctx_st* ctx);
// Both roles: tells the session of what comes behind the handshake.
void watch_for_floods(struct ssl_ctx_st* ctx);
// Both roles: chain against the context's trust, then identity.
// `falls_back`: what is found wrong is kept as the verify result, and the handshake goes on.
void set_verification(struct ssl_ctx_st* ctx, bool falls_back);

}  // namespace weft
