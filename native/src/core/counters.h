// The engine's counters: one double each in memory that other threads read (EngineOptions.counters). One writer, so no atomics:
// an aligned double is read whole on every machine we run on. Names are exported by counterNames() in this order.
#pragma once
#include <cstddef>

namespace weft {

// Why something was shed (overload.h): OVERLOAD_REASONS of agent/native/engine.ts. X(identifier, name)
#define WEFT_OVERLOAD_REASONS(X) \
  X(Memory, "memory")            \
  X(Descriptors, "descriptors")  \
  X(LoopDelay, "loop_delay")

#define WEFT_SHED_COUNTERS(X, Reason, reason)                 \
  X(ShedIdleClients##Reason, "shed_idle_clients_" reason)     \
  X(ShedIdleUpstreams##Reason, "shed_idle_upstreams_" reason) \
  X(ShedConnections##Reason, "shed_connections_" reason)      \
  X(ShedRequests##Reason, "shed_requests_" reason)

// X(identifier, name). "…_open" are gauges; the others only grow.
#define WEFT_COUNTERS(X)                                        \
  X(DownstreamAccepted, "downstream_accepted")                  \
  X(DownstreamOpen, "downstream_open")                          \
  X(DownstreamRefusedLimit, "downstream_refused_limit")         \
  X(AcceptErrors, "accept_errors")                              \
  X(AcceptPausedNoDescriptors, "accept_paused_no_descriptors")  \
  X(Requests, "requests")                                       \
  X(RequestsRefusedMalformed, "requests_refused_malformed")     \
  X(RequestsRefusedHeadSize, "requests_refused_head_size")      \
  X(RequestsRefusedBody, "requests_refused_body")               \
  X(RequestsRefusedUnsupported, "requests_refused_unsupported") \
  X(Responses1xx, "responses_1xx")                              \
  X(Responses2xx, "responses_2xx")                              \
  X(Responses3xx, "responses_3xx")                              \
  X(Responses4xx, "responses_4xx")                              \
  X(Responses5xx, "responses_5xx")                              \
  X(LocalReplies, "local_replies")                              \
  X(OpaqueConnections, "opaque_connections")                    \
  X(OpaqueOpen, "opaque_open")                                  \
  X(DetectedHttp1, "detected_http1")                            \
  X(DetectedHttp2, "detected_http2")                            \
  X(DetectedTls, "detected_tls")                                \
  X(DetectedOpaque, "detected_opaque")                          \
  X(DetectedServerFirst, "detected_server_first")               \
  X(TimeoutsDetect, "timeouts_detect")                          \
  X(Upgrades, "upgrades")                                       \
  X(UpstreamConnects, "upstream_connects")                      \
  X(UpstreamConnectFailures, "upstream_connect_failures")       \
  X(UpstreamReuses, "upstream_reuses")                          \
  X(UpstreamOpen, "upstream_open")                              \
  X(UpstreamIdleOpen, "upstream_idle_open")                     \
  X(UpstreamResets, "upstream_resets")                          \
  X(UpstreamProtocolErrors, "upstream_protocol_errors")         \
  X(RetriesStale, "retries_stale")                              \
  X(RetriesDecided, "retries_decided")                          \
  X(RetriesExhausted, "retries_exhausted")                      \
  X(LoadReports, "load_reports")                                \
  X(LoadReportsUnusable, "load_reports_unusable")               \
  X(Hedges, "hedges")                                           \
  X(HedgesWon, "hedges_won")                                    \
  X(MirrorsSent, "mirrors_sent")                                \
  X(MirrorsDropped, "mirrors_dropped")                          \
  X(DownstreamResets, "downstream_resets")                      \
  X(TimeoutsHeader, "timeouts_header")                          \
  X(TimeoutsIdle, "timeouts_idle")                              \
  X(TimeoutsConnect, "timeouts_connect")                        \
  X(TimeoutsRequest, "timeouts_request")                        \
  X(TimeoutsAttempt, "timeouts_attempt")                        \
  X(TimeoutsAnswer, "timeouts_answer")                          \
  X(TimeoutsTcpIdle, "timeouts_tcp_idle")                       \
  X(TimeoutsUpstreamIdle, "timeouts_upstream_idle")             \
  X(TimeoutsDeferred, "timeouts_deferred")                      \
  X(DnsQueries, "dns_queries")                                  \
  X(DnsAnswered, "dns_answered")                                \
  X(DnsForwarded, "dns_forwarded")                              \
  X(DnsFailures, "dns_failures")                                \
  X(Deferred, "deferred")                                       \
  X(DeferredOpen, "deferred_open")                              \
  X(DeferredOverflows, "deferred_overflows")                    \
  X(TlsHandshakesFull, "tls_handshakes_full")                   \
  X(TlsHandshakesResumed, "tls_handshakes_resumed")             \
  X(TlsHandshakeCpuUs, "tls_handshake_cpu_us")                  \
  X(TlsHandshakeStepsAside, "tls_handshake_steps_aside")        \
  X(TlsTruncated, "tls_failures_truncated")                     \
  X(TlsNotTls, "tls_failures_not_tls")                          \
  X(TlsVersion, "tls_failures_version")                         \
  X(TlsNegotiation, "tls_failures_negotiation")                 \
  X(TlsUnknownServerName, "tls_failures_unknown_server_name")   \
  X(TlsNoCertificate, "tls_failures_no_certificate")            \
  X(TlsUntrusted, "tls_failures_untrusted")                     \
  X(TlsExpired, "tls_failures_expired")                         \
  X(TlsWrongIdentity, "tls_failures_wrong_identity")            \
  X(TlsPeerAlert, "tls_failures_peer_alert")                    \
  X(TlsBadRecord, "tls_failures_bad_record")                    \
  X(TlsProtocol, "tls_failures_protocol")                       \
  X(TlsTimedOut, "tls_failures_timed_out")                      \
  X(TlsFlood, "tls_failures_flood")                             \
  X(OpeningsRefusedProxy, "openings_refused_proxy_header")      \
  X(Http2ConnectionsOpen, "http2_connections_open")             \
  X(Http2StreamsOpen, "http2_streams_open")                     \
  X(Http2ProtocolErrors, "http2_protocol_errors")               \
  X(Http2StreamErrors, "http2_stream_errors")                   \
  X(Http2RefusedStreams, "http2_refused_streams")               \
  X(Http2RapidResets, "http2_closed_rapid_reset")               \
  X(Http2ControlFloods, "http2_closed_control_flood")           \
  X(Http2BlockFloods, "http2_closed_block_flood")               \
  X(Http2UpstreamGoaways, "http2_upstream_goaways")             \
  X(Http2UpstreamRefusals, "http2_upstream_refusals")           \
  X(UpstreamWaits, "upstream_waits")                            \
  X(UpstreamWaitOverflows, "upstream_wait_overflows")           \
  X(BytesDownstreamReceived, "bytes_downstream_received")       \
  X(BytesDownstreamSent, "bytes_downstream_sent")               \
  WEFT_SHED_COUNTERS(X, Memory, "memory")                       \
  WEFT_SHED_COUNTERS(X, Descriptors, "descriptors")             \
  WEFT_SHED_COUNTERS(X, LoopDelay, "loop_delay")                \
  X(AccessLogRecords, "access_log_records")                     \
  X(AccessLogDropped, "access_log_dropped")                     \
  X(DecideCalls, "decide_calls")                                \
  X(DecideFailures, "decide_failures")                          \
  X(Ticks, "ticks")

enum class Counter : size_t {
#define X(identifier, name) identifier,
  WEFT_COUNTERS(X)
#undef X
      Count
};

inline constexpr const char* kCounterNames[] = {
#define X(identifier, name) name,
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
