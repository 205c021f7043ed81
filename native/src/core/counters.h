// The engine's counters: one double each in memory that other threads read (EngineOptions.counters). One writer, so no atomics:
// an aligned double is read whole on every machine we run on. Names and help are exported by counterNames() and counterHelp() in this
// order.
#pragma once
#include <cstddef>

namespace weft {

// Why something was shed (overload.h): OVERLOAD_REASONS of agent/native/engine.ts. X(identifier, name)
#define WEFT_OVERLOAD_REASONS(X) \
  X(Memory, "memory")            \
  X(Descriptors, "descriptors")  \
  X(LoopDelay, "loop_delay")

#define WEFT_SHED_COUNTERS(X, Reason, reason, resource)                                                                         \
  X(ShedIdleClients##Reason, "shed_idle_clients_" reason, "Idle connections of clients closed for want of " resource ".")       \
  X(ShedIdleUpstreams##Reason, "shed_idle_upstreams_" reason, "Idle connections to upstreams closed for want of " resource ".") \
  X(ShedConnections##Reason, "shed_connections_" reason, "New connections refused for want of " resource ".")                   \
  X(ShedRequests##Reason, "shed_requests_" reason, "Requests refused for want of " resource " (503).")

// X(identifier, name, help). "…_open" are gauges; the others only grow. The help is what Prometheus shows.
#define WEFT_COUNTERS(X)                                                                                                               \
  X(DownstreamAccepted, "downstream_accepted", "Connections accepted.")                                                                \
  X(DownstreamOpen, "downstream_open", "Connections of clients.")                                                                      \
  X(DownstreamRefusedLimit, "downstream_refused_limit", "Connections closed at once: --max-connections, or a tenant's share of them.") \
  X(AcceptErrors, "accept_errors", "Calls to accept() that failed.")                                                                   \
  X(AcceptPausedNoDescriptors, "accept_paused_no_descriptors", "Times that accepting paused because no descriptor was left.")          \
  X(Requests, "requests", "Heads of requests received.")                                                                               \
  X(RequestsRefusedMalformed, "requests_refused_malformed", "Requests refused for their syntax (400).")                                \
  X(RequestsRefusedHeadSize, "requests_refused_head_size", "Requests refused for the size of their head (431).")                       \
  X(RequestsRefusedBody, "requests_refused_body", "Requests refused for their body: its framing, or more of it than may be kept.")     \
  X(RequestsRefusedUnsupported, "requests_refused_unsupported", "Requests refused for what is not spoken here (501, 505 and alike).")  \
  X(Responses1xx, "responses_1xx", "Interim responses passed on.")                                                                     \
  X(Responses2xx, "responses_2xx", "Responses with a status of 2xx, ours too.")                                                        \
  X(Responses3xx, "responses_3xx", "Responses with a status of 3xx, ours too.")                                                        \
  X(Responses4xx, "responses_4xx", "Responses with a status of 4xx, ours too.")                                                        \
  X(Responses5xx, "responses_5xx", "Responses with a status of 5xx, ours too.")                                                        \
  X(LocalReplies, "local_replies", "Responses of the proxy's own, in place of an upstream's.")                                         \
  X(OpaqueConnections, "opaque_connections", "Connections relayed as TCP.")                                                            \
  X(OpaqueOpen, "opaque_open", "Connections relayed as TCP now.")                                                                      \
  X(DetectedHttp1, "detected_http1", "Connections to undeclared ports found to be HTTP/1.")                                            \
  X(DetectedHttp2, "detected_http2", "Connections to undeclared ports found to be HTTP/2.")                                            \
  X(DetectedTls, "detected_tls", "Connections to undeclared ports found to be TLS.")                                                   \
  X(DetectedOpaque, "detected_opaque", "Connections to undeclared ports found to be none of these.")                                   \
  X(DetectedServerFirst, "detected_server_first", "Connections to undeclared ports whose server spoke first.")                         \
  X(TimeoutsDetect, "timeouts_detect",                                                                                                 \
    "Connections to undeclared ports whose client said too little within --detect-timeout-ms: relayed as TCP.")                        \
  X(Upgrades, "upgrades", "Tunnels opened: WebSocket and other upgrades, CONNECT.")                                                    \
  X(UpstreamConnects, "upstream_connects", "Connections begun to upstreams.")                                                          \
  X(UpstreamConnectFailures, "upstream_connect_failures", "Connections to upstreams that could not be made.")                          \
  X(UpstreamReuses, "upstream_reuses", "Requests sent on a connection that there was.")                                                \
  X(UpstreamOpen, "upstream_open", "Connections to upstreams.")                                                                        \
  X(UpstreamIdleOpen, "upstream_idle_open", "Connections to upstreams that wait for a request.")                                       \
  X(UpstreamResets, "upstream_resets", "Connections and streams that upstreams broke off.")                                            \
  X(UpstreamProtocolErrors, "upstream_protocol_errors", "Answers of upstreams that break the protocol, or a limit.")                   \
  X(RetriesStale, "retries_stale", "Requests sent again because a pooled connection had ended before it took them.")                   \
  X(RetriesDecided, "retries_decided", "Attempts after the first, by policy.")                                                         \
  X(RetriesExhausted, "retries_exhausted", "Requests whose last attempt failed like those before it.")                                 \
  X(LoadReports, "load_reports", "Reports of load taken from answers (ORCA).")                                                         \
  X(LoadReportsUnusable, "load_reports_unusable", "Reports of load that could not be read.")                                           \
  X(Hedges, "hedges", "Second attempts begun beside a first that was slow.")                                                           \
  X(HedgesWon, "hedges_won", "Second attempts whose answer came first.")                                                               \
  X(MirrorsSent, "mirrors_sent", "Copies of requests sent to mirrors.")                                                                \
  X(MirrorsDropped, "mirrors_dropped", "Copies of requests not sent: too large, or too many under way.")                               \
  X(DownstreamResets, "downstream_resets", "Connections and streams of clients broken off by us.")                                     \
  X(TimeoutsHeader, "timeouts_header", "Connections whose client took too long for a head (408).")                                     \
  X(TimeoutsIdle, "timeouts_idle", "Connections and streams of clients that were idle for too long.")                                  \
  X(TimeoutsConnect, "timeouts_connect", "Connections to upstreams that took too long to be made.")                                    \
  X(TimeoutsRequest, "timeouts_request", "Requests whose route's timeout ended (504).")                                                \
  X(TimeoutsAttempt, "timeouts_attempt", "Attempts whose own timeout ended.")                                                          \
  X(TimeoutsAnswer, "timeouts_answer", "Requests whose upstream was silent for too long (504).")                                       \
  X(TimeoutsTcpIdle, "timeouts_tcp_idle", "Relayed connections and tunnels that were idle for too long.")                              \
  X(TimeoutsUpstreamIdle, "timeouts_upstream_idle", "Pooled connections closed because nobody needed them.")                           \
  X(TimeoutsDuration, "timeouts_duration", "Connections to upstreams, and relayed ones, that lasted as long as their service allows.") \
  X(TimeoutsDeferred, "timeouts_deferred", "Decisions that somebody else was asked for and that came too late (504).")                 \
  X(DnsQueries, "dns_queries", "DNS queries captured.")                                                                                \
  X(DnsAnswered, "dns_answered", "DNS queries answered here.")                                                                         \
  X(DnsForwarded, "dns_forwarded", "DNS queries passed on.")                                                                           \
  X(DnsFailures, "dns_failures", "DNS queries and answers that could not be sent.")                                                    \
  X(Deferred, "deferred", "Decisions that somebody else was asked for.")                                                               \
  X(DeferredOpen, "deferred_open", "Decisions that somebody else is being asked for.")                                                 \
  X(DeferredOverflows, "deferred_overflows", "Requests refused because too many decisions wait (503).")                                \
  X(TlsHandshakesFull, "tls_handshakes_full", "TLS handshakes completed, without those that resumed a session.")                       \
  X(TlsHandshakesResumed, "tls_handshakes_resumed", "TLS handshakes completed that resumed a session.")                                \
  X(TlsHandshakeCpuUs, "tls_handshake_cpu_us", "CPU time of TLS handshakes, microseconds.")                                            \
  X(TlsHandshakeStepsAside, "tls_handshake_steps_aside", "Steps of TLS handshakes taken beside the worker's thread.")                  \
  X(TlsTruncated, "tls_failures_truncated", "TLS failures: the peer ended the connection in the middle.")                              \
  X(TlsNotTls, "tls_failures_not_tls", "TLS failures: what came is no TLS.")                                                           \
  X(TlsVersion, "tls_failures_version", "TLS failures: no version that both allow.")                                                   \
  X(TlsNegotiation, "tls_failures_negotiation", "TLS failures: no cipher, group or protocol that both allow.")                         \
  X(TlsUnknownServerName, "tls_failures_unknown_server_name", "TLS failures: no listener has the server name.")                        \
  X(TlsNoCertificate, "tls_failures_no_certificate", "TLS failures: the peer showed no certificate.")                                  \
  X(TlsUntrusted, "tls_failures_untrusted", "TLS failures: no authority that is trusted vouches for the peer's certificate.")          \
  X(TlsExpired, "tls_failures_expired", "TLS failures: the peer's certificate is not valid now.")                                      \
  X(TlsWrongIdentity, "tls_failures_wrong_identity", "TLS failures: the peer's certificate has another name than it must have.")       \
  X(TlsPeerAlert, "tls_failures_peer_alert", "TLS failures: the peer sent an alert.")                                                  \
  X(TlsBadRecord, "tls_failures_bad_record", "TLS failures: a record that could not be decrypted or read.")                            \
  X(TlsProtocol, "tls_failures_protocol", "TLS failures: any other breach of the protocol.")                                           \
  X(TlsTimedOut, "tls_failures_timed_out", "TLS failures: the handshake took too long.")                                               \
  X(TlsFlood, "tls_failures_flood", "TLS failures: too many messages behind the handshake.")                                           \
  X(OpeningsRefusedProxy, "openings_refused_proxy_header", "Connections refused for their PROXY protocol header.")                     \
  X(Http2ConnectionsOpen, "http2_connections_open", "HTTP/2 connections of clients.")                                                  \
  X(Http2StreamsOpen, "http2_streams_open", "HTTP/2 streams of clients.")                                                              \
  X(Http2ProtocolErrors, "http2_protocol_errors", "HTTP/2 connections ended by us for what the peer sent.")                            \
  X(Http2StreamErrors, "http2_stream_errors", "HTTP/2 streams reset by us for what the peer sent.")                                    \
  X(Http2RefusedStreams, "http2_refused_streams", "HTTP/2 streams refused beyond the limit.")                                          \
  X(Http2RapidResets, "http2_closed_rapid_reset", "HTTP/2 connections ended for resetting too many streams (CVE-2023-44487).")         \
  X(Http2ControlFloods, "http2_closed_control_flood", "HTTP/2 connections ended for too many frames that carry nothing.")              \
  X(Http2BlockFloods, "http2_closed_block_flood", "HTTP/2 connections ended for endless header blocks (CVE-2024-27316 and alike).")    \
  X(Http2UpstreamGoaways, "http2_upstream_goaways", "GOAWAY frames of upstreams.")                                                     \
  X(Http2UpstreamRefusals, "http2_upstream_refusals", "HTTP/2 streams that upstreams refused.")                                        \
  X(UpstreamWaits, "upstream_waits", "Requests that waited for a stream or a connection.")                                             \
  X(UpstreamWaitOverflows, "upstream_wait_overflows", "Requests refused because too many wait for a stream or a connection (503).")    \
  X(BytesDownstreamReceived, "bytes_downstream_received", "Bytes received from clients, as their exchanges end.")                      \
  X(BytesDownstreamSent, "bytes_downstream_sent", "Bytes sent to clients, as their exchanges end.")                                    \
  WEFT_SHED_COUNTERS(X, Memory, "memory", "memory")                                                                                    \
  WEFT_SHED_COUNTERS(X, Descriptors, "descriptors", "descriptors")                                                                     \
  WEFT_SHED_COUNTERS(X, LoopDelay, "loop_delay", "time of the event loop")                                                             \
  X(AccessLogRecords, "access_log_records", "Records of the access log.")                                                              \
  X(AccessLogDropped, "access_log_dropped", "Records of the access log dropped because the worker's ring was full.")                   \
  X(DecideCalls, "decide_calls", "Batches handed to the decision.")                                                                    \
  X(DecideFailures, "decide_failures", "Batches whose decision failed: all of their requests had 503.")                                \
  X(Ticks, "ticks", "Times that a worker looked for events.")

enum class Counter : size_t {
#define X(identifier, name, help) identifier,
  WEFT_COUNTERS(X)
#undef X
      Count
};

inline constexpr const char* kCounterNames[] = {
#define X(identifier, name, help) name,
    WEFT_COUNTERS(X)
#undef X
};

inline constexpr const char* kCounterHelp[] = {
#define X(identifier, name, help) help,
    WEFT_COUNTERS(X)
#undef X
};

// Does not own the memory.
class Counters {
 public:
  Counters() = default;
  explicit Counters(double* slots) : slots_(slots) {}
  void add(Counter counter, double amount = 1) { slots_[static_cast<size_t>(counter)] += amount; }
  double get(Counter counter) const { return slots_[static_cast<size_t>(counter)]; }

 private:
  double* slots_ = nullptr;
};

}  // namespace weft
