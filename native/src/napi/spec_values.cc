// See spec_values.h.
#include "napi/spec_values.h"

#include "core/records.h"
#include "core/table_registry.h"
#include "core/tenant_scheduler.h"
#include "core/tls/tls_context.h"

namespace weft {

namespace {
constexpr int64_t kDayMs = 86'400'000;
}

void SpecReader::fail(const std::string& path, const char* expected) {
  if (error_.empty()) error_ = path + ": expected " + expected;
}

Napi::Value SpecReader::field(const Napi::Object& object, const char* name) {
  Napi::Value value = object.Get(name);
  return value.IsEmpty() ? env_.Undefined() : value;
}

std::string SpecReader::text(const Napi::Object& object, const char* name) {
  const Napi::Value value = field(object, name);
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  fail(name, "a string");
  return {};
}

int64_t SpecReader::integer(const Napi::Object& object, const char* name, int64_t least, int64_t most) {
  const Napi::Value value = field(object, name);
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0.5;
  const auto whole = static_cast<int64_t>(number);
  if (static_cast<double>(whole) == number && whole >= least && whole <= most) return whole;
  fail(name, ("an integer from " + std::to_string(least) + " to " + std::to_string(most)).c_str());
  return least;
}

bool SpecReader::flag(const Napi::Object& object, const char* name) {
  const Napi::Value value = field(object, name);
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  fail(name, "true or false");
  return false;
}

Address SpecReader::address(const Napi::Object& object, const char* name) {
  Address parsed;
  if (!parse_address(text(object, name), &parsed)) fail(name, "an IPv4 or IPv6 address");
  return parsed;
}

template <typename Read>
void SpecReader::each(const Napi::Object& object, const char* name, Read read) {
  const Napi::Value value = field(object, name);
  if (!value.IsArray()) return fail(name, "an array");
  const auto list = value.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length() && ok(); i++) {
    Napi::HandleScope scope(env_);
    const Napi::Value item = list.Get(i);
    read(item);
    if (!ok()) error_ = std::string(name) + "[" + std::to_string(i) + "]." + error_;
  }
}

std::vector<std::string> SpecReader::texts(const Napi::Object& object, const char* name) {
  std::vector<std::string> found;
  each(object, name, [&](const Napi::Value& item) {
    if (!item.IsString()) return fail("", "a string");
    found.push_back(item.As<Napi::String>().Utf8Value());
  });
  return found;
}

std::vector<int32_t> SpecReader::integers(const Napi::Object& object, const char* name, int64_t least, int64_t most) {
  std::vector<int32_t> found;
  each(object, name, [&](const Napi::Value& item) {
    const double number = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : 0.5;
    const auto whole = static_cast<int64_t>(number);
    if (static_cast<double>(whole) != number || whole < least || whole > most) return fail("", "an integer in range");
    found.push_back(static_cast<int32_t>(whole));
  });
  return found;
}

std::vector<HeaderPair> SpecReader::pairs(const Napi::Object& object, const char* name) {
  std::vector<HeaderPair> found;
  each(object, name, [&](const Napi::Value& item) {
    if (!item.IsArray()) return fail("", "a [name, value] pair");
    const auto pair = item.As<Napi::Array>();
    const Napi::Value first = pair.Get(0u);
    const Napi::Value second = pair.Get(1u);
    if (!first.IsString() || !second.IsString()) return fail("", "a [name, value] pair");
    found.emplace_back(first.As<Napi::String>().Utf8Value(), second.As<Napi::String>().Utf8Value());
  });
  return found;
}

std::shared_ptr<const ConnectionPolicy> SpecReader::connection_policy(const Napi::Value& value) {
  if (!value.IsObject()) return nullptr;
  const auto item = value.As<Napi::Object>();
  const auto limit = [&](const char* name) { return static_cast<int32_t>(integer(item, name, -1, INT32_MAX)); };
  const auto amount = [&](const char* name) { return static_cast<uint32_t>(integer(item, name, 0, INT32_MAX)); };
  ConnectionPolicy policy;
  policy.service = static_cast<int32_t>(integer(item, "service", 0, INT32_MAX));
  policy.max_connections = limit("maxConnections");
  policy.max_pending = limit("maxPending");
  policy.max_endpoint_connections = limit("maxEndpointConnections");
  policy.max_endpoint_pending = limit("maxEndpointPending");
  policy.max_requests = amount("maxRequests");
  policy.max_streams = amount("maxStreams");
  policy.connect_timeout_ms = amount("connectTimeoutMs");
  policy.idle_timeout_ms = amount("idleTimeoutMs");
  policy.tcp_idle_timeout_ms = amount("tcpIdleTimeoutMs");
  policy.max_duration_ms = amount("maxDurationMs");
  policy.keepalive_time_s = amount("keepaliveTimeS");
  policy.keepalive_interval_s = amount("keepaliveIntervalS");
  policy.keepalive_probes = amount("keepaliveProbes");
  return std::make_shared<const ConnectionPolicy>(policy);
}

TableSpec SpecReader::table_spec(const Napi::Value& value) {
  TableSpec spec;
  if (!value.IsObject()) return fail("tables", "an object"), spec;
  const auto object = value.As<Napi::Object>();
  spec.generation = static_cast<int32_t>(integer(object, "generation", 0, INT32_MAX));
  spec.hosts = texts(object, "hosts");
  spec.paths = texts(object, "paths");
  spec.sources = texts(object, "sources");
  spec.identities = texts(object, "identities");
  const auto each_object = [&](const char* name, auto read) {
    each(object, name, [&](const Napi::Value& item) {
      if (!item.IsObject()) return fail("", "an object");
      read(item.As<Napi::Object>());
    });
  };
  each_object("predicates", [&](const Napi::Object& item) {
    const std::string kind = text(item, "kind");
    if (kind != "header" && kind != "query" && kind != "method" && kind != "grpcMethod")
      fail("kind", "header, query, method or grpcMethod");
    const PredicateKind parsed = kind == "header"       ? PredicateKind::kHeader
                                 : kind == "query"      ? PredicateKind::kQuery
                                 : kind == "grpcMethod" ? PredicateKind::kGrpcMethod
                                                        : PredicateKind::kMethod;
    spec.predicates.push_back({parsed, text(item, "name"), text(item, "value")});
  });
  each_object("values", [&](const Napi::Object& item) {
    const std::string kind = text(item, "kind");
    if (kind != "header" && kind != "query" && kind != "clientAddress") fail("kind", "header, query or clientAddress");
    const PredicateKind parsed = kind == "header"  ? PredicateKind::kHeader
                                 : kind == "query" ? PredicateKind::kQuery
                                                   : PredicateKind::kClientAddress;
    spec.values.push_back({parsed, text(item, "name")});
  });
  each_object("destinations", [&](const Napi::Object& item) {
    const auto port = static_cast<uint16_t>(integer(item, "port", 1, 65535));
    spec.destinations.push_back({text(item, "address"), port, protocol(item)});
  });
  each_object("names", [&](const Napi::Object& item) { spec.names.push_back({text(item, "name"), texts(item, "addresses")}); });
  each_object("endpoints", [&](const Napi::Object& item) {
    const auto id = static_cast<int32_t>(integer(item, "id", 0, Tables::kMaxEndpointId));
    const auto port = static_cast<uint16_t>(integer(item, "port", 1, 65535));
    const Protocol spoken = protocol(item);
    if (spoken == Protocol::kHttp || spoken == Protocol::kDetect || spoken == Protocol::kDetectFirst)
      fail("protocol", "http1, http2 or opaque");
    spec.endpoints.push_back({id, text(item, "address"), port, endpoint_tls(field(item, "tls")), spoken, proxy_announcement(item),
                              connection_policy(field(item, "connections"))});
  });
  each_object("mutations", [&](const Napi::Object& item) {
    spec.mutations.push_back({texts(item, "remove"), pairs(item, "set"), pairs(item, "add")});
  });
  each_object("localReplies", [&](const Napi::Object& item) {
    LocalReplySpec reply;
    reply.headers = pairs(item, "headers");
    reply.body = text(item, "body");
    const Napi::Value redirect = field(item, "redirect");
    if (redirect.IsObject()) {
      const auto to = redirect.As<Napi::Object>();
      reply.redirect = RedirectSpec{text(to, "scheme"), text(to, "host"), static_cast<int32_t>(integer(to, "port", kPortOfRequest, 65535)),
                                    path_change(to)};
    }
    reply.grpc_status = static_cast<int32_t>(integer(item, "grpcStatus", -1, 16));
    reply.reason = static_cast<int32_t>(integer(item, "reason", 0, 255));
    spec.local_replies.push_back(std::move(reply));
  });
  each_object("rewrites", [&](const Napi::Object& item) { spec.rewrites.push_back({text(item, "authority"), path_change(item)}); });
  each_object("cors", [&](const Napi::Object& item) {
    spec.cors.push_back({flag(item, "credentials"), texts(item, "methods"), texts(item, "headers"), texts(item, "expose"),
                         static_cast<int32_t>(integer(item, "maxAge", 0, INT32_MAX))});
  });
  each_object("retries", [&](const Napi::Object& item) {
    RetrySpec retry;
    retry.statuses = integers(item, "statuses", 100, 599);
    retry.grpc_statuses = integers(item, "grpcStatuses", 1, 16);
    retry.connect_failure = flag(item, "connectFailure");
    retry.refused = flag(item, "refused");
    retry.reset = flag(item, "reset");
    retry.rate_limited = flag(item, "rateLimited");
    retry.any_method = flag(item, "anyMethod");
    retry.heeds_retry_after = flag(item, "heedsRetryAfter");
    retry.headers = texts(item, "headers");
    retry.request_names_headers = flag(item, "requestNamesHeaders");
    retry.backoff_ms = static_cast<uint32_t>(integer(item, "backoffMs", 0, INT32_MAX));
    spec.retries.push_back(std::move(retry));
  });
  spec.source_twins = integers(object, "sourceTwins", -1, INT32_MAX);
  spec.source_tenants = integers(object, "sourceTenants", 0, kMaxTenants - 1);
  spec.destination_tenants = integers(object, "destinationTenants", 0, kMaxTenants - 1);
  spec.listener_tenants = integers(object, "listenerTenants", 0, kMaxTenants - 1);
  spec.tenant_weights = integers(object, "tenantWeights", 0, TenantScheduler::kMaxWeight);
  return spec;
}

PathChange SpecReader::path_change(const Napi::Object& object) {
  const Napi::Value value = field(object, "path");
  if (value.IsNull()) return {};
  if (!value.IsObject()) return fail("path", "an object or null"), PathChange{};
  const auto change = value.As<Napi::Object>();
  return {text(change, "value"), static_cast<uint32_t>(integer(change, "skip", 0, INT32_MAX)), flag(change, "keepsRest")};
}

ProxyAnnouncement SpecReader::proxy_announcement(const Napi::Object& endpoint) {
  if (!field(endpoint, "proxyProtocol").IsString()) return ProxyAnnouncement::kNone;
  const std::string version = text(endpoint, "proxyProtocol");
  if (version != "v1" && version != "v2") fail("proxyProtocol", "v1, v2 or null");
  return version == "v1" ? ProxyAnnouncement::kV1 : ProxyAnnouncement::kV2;
}

Protocol SpecReader::protocol(const Napi::Object& object) {
  const std::string name = text(object, "protocol");
  if (name == "opaque") return Protocol::kOpaque;
  if (name == "detect") return Protocol::kDetect;
  if (name == "detect-first") return Protocol::kDetectFirst;
  if (name == "http2") return Protocol::kHttp2;
  if (name == "http") return Protocol::kHttp;
  if (name != "http1") fail("protocol", "http1, http2, http, opaque, detect or detect-first");
  return Protocol::kHttp1;
}

std::vector<PeerMatch> SpecReader::peer_matches(const Napi::Object& object, const char* name) {
  std::vector<PeerMatch> found;
  each(object, name, [&](const Napi::Value& item) {
    if (!item.IsObject()) return fail("", "an object");
    const auto match = item.As<Napi::Object>();
    const std::string kind = text(match, "kind");
    if (kind != "spiffeId" && kind != "trustDomain" && kind != "dnsName") fail("kind", "spiffeId, trustDomain or dnsName");
    const PeerMatch::Kind parsed = kind == "spiffeId"      ? PeerMatch::Kind::kSpiffeId
                                   : kind == "trustDomain" ? PeerMatch::Kind::kTrustDomain
                                                           : PeerMatch::Kind::kDnsName;
    found.push_back({parsed, text(match, "value")});
  });
  return found;
}

TlsLimits SpecReader::tls_limits(const Napi::Value& value) {
  TlsLimits limits;
  if (value.IsNull()) return limits;
  if (!value.IsObject()) return fail("limits", "an object or null"), limits;
  const auto object = value.As<Napi::Object>();
  const auto version = [&](const char* name) {
    const std::string found = text(object, name);
    if (found != "1.2" && found != "1.3") fail(name, "1.2 or 1.3");
    return found == "1.3" ? TlsVersion::k13 : TlsVersion::k12;
  };
  limits.min_version = version("minVersion");
  limits.max_version = version("maxVersion");
  limits.cipher_suites = texts(object, "cipherSuites");
  return limits;
}

TlsContextSpec SpecReader::tls_context_spec(const Napi::Value& value) {
  TlsContextSpec spec;
  if (!value.IsObject()) return fail("context", "an object"), spec;
  const auto object = value.As<Napi::Object>();
  const std::string role = text(object, "role");
  if (role != "server" && role != "client") fail("role", "server or client");
  spec.role = role == "client" ? TlsRole::kClient : TlsRole::kServer;
  each(object, "certificates", [&](const Napi::Value& item) {
    if (!item.IsObject()) return fail("", "an object");
    const auto certificate = item.As<Napi::Object>();
    spec.certificates.push_back({texts(certificate, "serverNames"), text(certificate, "chain"), text(certificate, "key"),
                                 tls_limits(field(certificate, "limits"))});
  });
  spec.passthrough = texts(object, "passthrough");
  if (!field(object, "trust").IsNull()) spec.trust = text(object, "trust");
  spec.alpn = texts(object, "alpn");
  const std::string clients = text(object, "clientCertificates");
  if (clients != "none" && clients != "optional" && clients != "required" && clients != "fallback")
    fail("clientCertificates", "none, optional, required or fallback");
  spec.client_certificates = clients == "required"   ? ClientCertificates::kRequired
                             : clients == "optional" ? ClientCertificates::kOptional
                             : clients == "fallback" ? ClientCertificates::kFallback
                                                     : ClientCertificates::kNone;
  spec.verifies_server = flag(object, "verifiesServer");
  spec.accepts = peer_matches(object, "accepts");
  const Napi::Value keys = field(object, "ticketKeys");
  if (keys.IsNull()) return spec;
  if (!keys.IsTypedArray() || keys.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    fail("ticketKeys", "a Uint8Array of 240 bytes or null");
    return spec;
  }
  const auto bytes = keys.As<Napi::Uint8Array>();
  if (bytes.ByteLength() != sizeof(TicketKeys)) return fail("ticketKeys", "a Uint8Array of 240 bytes or null"), spec;
  spec.ticket_keys.assign(bytes.Data(), bytes.Data() + bytes.ByteLength());
  return spec;
}

std::shared_ptr<TlsContext> SpecReader::tls_context(const Napi::Object& object, TlsRole role) {
  const auto handle = static_cast<uint32_t>(integer(object, "context", 0, UINT32_MAX));
  std::shared_ptr<TlsContext> context = TlsContextRegistry::instance().find(handle);
  if (context == nullptr || context->role() != role) {
    fail("context",
         role == TlsRole::kServer ? "a handle of createTlsContext() with role server" : "a handle of createTlsContext() with role client");
    return nullptr;
  }
  return context;
}

std::shared_ptr<const ListenerTls> SpecReader::listener_tls(const Napi::Value& value) {
  if (value.IsNull()) return nullptr;
  if (!value.IsObject()) return fail("tls", "an object or null"), nullptr;
  const auto object = value.As<Napi::Object>();
  auto tls = std::make_shared<ListenerTls>();
  const std::string mode = text(object, "mode");
  if (mode != "terminate" && mode != "permissive" && mode != "passthrough" && mode != "by-server-name")
    fail("tls.mode", "terminate, permissive, passthrough or by-server-name");
  tls->mode = mode == "passthrough"      ? TlsMode::kPassthrough
              : mode == "permissive"     ? TlsMode::kPermissive
              : mode == "by-server-name" ? TlsMode::kByServerName
                                         : TlsMode::kTerminate;
  if (tls->mode != TlsMode::kPassthrough) tls->context = tls_context(object, TlsRole::kServer);
  return tls;
}

std::shared_ptr<const EndpointTls> SpecReader::endpoint_tls(const Napi::Value& value) {
  if (value.IsNull()) return nullptr;
  if (!value.IsObject()) return fail("tls", "an object or null"), nullptr;
  const auto object = value.As<Napi::Object>();
  auto tls = std::make_shared<EndpointTls>();
  tls->context = tls_context(object, TlsRole::kClient);
  if (!field(object, "serverName").IsNull()) tls->server_name = text(object, "serverName");
  tls->accepts = peer_matches(object, "accepts");
  if (tls->accepts.empty() && tls->server_name.empty()) fail("tls.accepts", "an identity, or a serverName to verify");
  if (ok()) tls->set_key();
  return tls;
}

PodScope SpecReader::pod_scope(const Napi::Value& value) {
  PodScope pod;
  if (!value.IsObject()) return fail("pod", "an object"), pod;
  const auto object = value.As<Napi::Object>();
  pod.key = integer(object, "key", 0, int64_t{1} << 53);
  pod.netns = static_cast<int>(integer(object, "netns", 0, INT32_MAX));
  pod.sockets = static_cast<int>(integer(object, "sockets", 0, INT32_MAX));
  pod.mark = static_cast<uint32_t>(integer(object, "mark", 1, UINT32_MAX));
  return pod;
}

Forwarding SpecReader::forwarding(const Napi::Value& value) {
  Forwarding forwarding;
  if (value.IsNull()) return forwarding;
  if (!value.IsObject()) return fail("forwarding", "an object or null"), forwarding;
  const auto object = value.As<Napi::Object>();
  forwarding.trusted_hops = static_cast<int32_t>(integer(object, "trustedHops", 0, kMaxTrustedHops));
  constexpr std::string_view kModes[] = {"sanitize", "forward-only", "append-forward", "sanitize-set", "always-forward-only"};
  const auto mode = std::find(std::begin(kModes), std::end(kModes), text(object, "clientCert"));
  if (mode == std::end(kModes))
    return fail("clientCert", "sanitize, forward-only, append-forward, sanitize-set or always-forward-only"), forwarding;
  forwarding.client_cert = static_cast<ForwardClientCert>(mode - std::begin(kModes));
  return forwarding;
}

void SpecReader::read_listener_settings(const Napi::Value& value, ListenerSettings* settings) {
  if (!value.IsObject()) return fail("listener", "an object");
  const auto object = value.As<Napi::Object>();
  settings->tls = listener_tls(field(object, "tls"));
  settings->forwarding = forwarding(field(object, "forwarding"));
  settings->proxy_protocol = flag(object, "proxyProtocol");
}

ListenerSpec SpecReader::listener_spec(const Napi::Value& value) {
  ListenerSpec spec;
  if (!value.IsObject()) return fail("listener", "an object"), spec;
  const auto object = value.As<Napi::Object>();
  const std::string kind = text(object, "kind");
  if (kind == "host-outbound" || kind == "host-inbound") spec.place = ListenerPlace::kHost;
  if (kind == "pod-outbound" || kind == "pod-inbound") {
    spec.place = ListenerPlace::kPod;
    spec.pod = pod_scope(field(object, "pod"));
  }
  if (kind == "outbound" || kind == "host-outbound" || kind == "pod-outbound") {
    spec.kind = ListenerKind::Outbound;
  } else if (kind == "inbound" || kind == "host-inbound" || kind == "pod-inbound") {
    spec.kind = ListenerKind::Inbound;
  } else if (kind == "dns") {
    spec.kind = ListenerKind::Dns;
  } else if (kind != "gateway") {
    fail("kind", "gateway, outbound, inbound, dns, host-outbound, host-inbound, pod-outbound or pod-inbound");
  }
  spec.id = static_cast<int32_t>(integer(object, "id", 0, INT32_MAX));
  spec.address = address(object, "address");
  spec.port = static_cast<uint16_t>(integer(object, "port", 0, 65535));
  spec.protocol = protocol(object);
  read_listener_settings(value, &spec);
  const Napi::Value sockmap = field(object, "sockmap");
  if (sockmap.IsObject()) {
    spec.sockmap = text(sockmap.As<Napi::Object>(), "map");
    spec.sockmap_key = static_cast<uint32_t>(integer(sockmap.As<Napi::Object>(), "key", 0, UINT32_MAX));
  }
  return spec;
}

uint32_t SpecReader::limit(const Napi::Object& limits, const char* name, int64_t least, int64_t most) {
  return static_cast<uint32_t>(integer(limits, name, least, most));
}

EngineOptions SpecReader::engine_options(const Napi::Object& options) {
  EngineOptions read;
  const Napi::Value limits_value = field(options, "limits");
  const Napi::Value hairpin = field(options, "hairpin");
  if (!limits_value.IsObject() || !hairpin.IsObject()) return fail("limits, hairpin", "objects"), read;
  const auto limits = limits_value.As<Napi::Object>();
  read.limits.max_connections = limit(limits, "maxConnections", 1, 10'000'000);
  read.limits.max_head_bytes = limit(limits, "maxHeadBytes", 1024, 65536);
  read.limits.max_headers = limit(limits, "maxHeaders", 1, static_cast<int64_t>(http1::kMaxFields));
  read.limits.max_buffered_bytes = limit(limits, "maxBufferedBytes", 4096, 4 << 20);
  read.limits.max_idle_per_endpoint = limit(limits, "maxIdlePerEndpoint", 0, 100'000);
  read.limits.max_streams = limit(limits, "maxStreams", 1, 1000);
  read.limits.header_timeout_ms = limit(limits, "headerTimeoutMs", 1, kDayMs);
  read.limits.idle_timeout_ms = limit(limits, "idleTimeoutMs", 1, kDayMs);
  read.limits.stream_idle_timeout_ms = limit(limits, "streamIdleTimeoutMs", 1, kDayMs);
  read.limits.upstream_idle_timeout_ms = limit(limits, "upstreamIdleTimeoutMs", 1, kDayMs);
  read.limits.connect_timeout_ms = limit(limits, "connectTimeoutMs", 1, kDayMs);
  read.limits.request_timeout_ms = limit(limits, "requestTimeoutMs", 0, kDayMs);
  read.limits.tcp_idle_timeout_ms = limit(limits, "tcpIdleTimeoutMs", 0, kDayMs);
  read.limits.detect_timeout_ms = limit(limits, "detectTimeoutMs", 0, kDayMs);
  read.limits.max_deferred = limit(limits, "maxDeferred", 0, kMaxDeferred);
  read.limits.deferred_timeout_ms = limit(limits, "deferredTimeoutMs", 1, kDayMs);
  read.limits.max_tenant_connections = limit(limits, "maxTenantConnections", 0, 10'000'000);
  read.limits.max_tenant_requests = limit(limits, "maxTenantRequests", 0, 10'000'000);
  read.limits.max_tenant_buffered_bytes = limit(limits, "maxTenantBufferedBytes", 0, 4'000'000'000);
  read.hairpin_v4 = address(hairpin.As<Napi::Object>(), "v4");
  read.hairpin_v6 = address(hairpin.As<Napi::Object>(), "v6");
  if (field(options, "via").IsString()) read.via = text(options, "via");
  const Napi::Value heartbeat = field(options, "heartbeat");
  if (heartbeat.IsObject()) {
    const auto object = heartbeat.As<Napi::Object>();
    read.heartbeat.map = text(object, "map");
    read.heartbeat.slots = static_cast<uint32_t>(integer(object, "slots", 1, 4096));
    read.heartbeat.slot = static_cast<uint32_t>(integer(object, "slot", 0, read.heartbeat.slots - 1));
  }
  const Napi::Value host = field(options, "host");
  if (host.IsObject()) {
    const auto object = host.As<Napi::Object>();
    read.host.netns = static_cast<int>(integer(object, "netns", 0, INT32_MAX));
    read.host.sockets = static_cast<int>(integer(object, "sockets", 0, INT32_MAX));
    read.host.mark = static_cast<uint32_t>(integer(object, "mark", 1, UINT32_MAX));
    read.host.flows = text(object, "flows");
  }
  return read;
}

}  // namespace weft
