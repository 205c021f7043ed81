// JavaScript values → the engine's own structs. Reads what agent/native/engine.ts and engine-tables.ts declare; the first thing that is not
// so makes ok() false.
#pragma once
#include <napi.h>

#include <string>

#include "core/options.h"

namespace weft {

class SpecReader {
 public:
  explicit SpecReader(Napi::Env env) : env_(env) {}
  bool ok() const { return error_.empty(); }
  const std::string& error() const { return error_; }

  TableSpec table_spec(const Napi::Value& value);
  ListenerSpec listener_spec(const Napi::Value& value);
  // Of it, what can be set while it listens.
  void read_listener_settings(const Napi::Value& value, ListenerSettings* settings);
  TlsContextSpec tls_context_spec(const Napi::Value& value);
  // Null for null.
  std::shared_ptr<const ListenerTls> listener_tls(const Napi::Value& value);
  // Without the shared memory, which the engine keeps references to.
  EngineOptions engine_options(const Napi::Object& options);

 private:
  void fail(const std::string& path, const char* expected);
  Napi::Value field(const Napi::Object& object, const char* name);
  std::string text(const Napi::Object& object, const char* name);
  int64_t integer(const Napi::Object& object, const char* name, int64_t least, int64_t most);
  std::shared_ptr<const EndpointTls> endpoint_tls(const Napi::Value& value);
  std::shared_ptr<const ConnectionPolicy> connection_policy(const Napi::Value& value);
  std::shared_ptr<TlsContext> tls_context(const Napi::Object& object, TlsRole role);
  TlsLimits tls_limits(const Napi::Value& value);
  std::vector<PeerMatch> peer_matches(const Napi::Object& object, const char* name);
  PathChange path_change(const Napi::Object& object);
  ProxyAnnouncement proxy_announcement(const Napi::Object& endpoint);
  Protocol protocol(const Napi::Object& object);
  Forwarding forwarding(const Napi::Value& value);
  PodScope pod_scope(const Napi::Value& value);
  bool flag(const Napi::Object& object, const char* name);
  Address address(const Napi::Object& object, const char* name);
  std::vector<std::string> texts(const Napi::Object& object, const char* name);
  std::vector<int32_t> integers(const Napi::Object& object, const char* name, int64_t least, int64_t most);
  std::vector<HeaderPair> pairs(const Napi::Object& object, const char* name);
  template <typename Read>
  void each(const Napi::Object& object, const char* name, Read read);
  uint32_t limit(const Napi::Object& limits, const char* name, int64_t least, int64_t most);

  Napi::Env env_;
  std::string error_;
};

}  // namespace weft
