// The functions of agent/native/engine.ts, in its order. Converts and checks; decides nothing.
#include <fcntl.h>
#include <malloc.h>
#include <napi.h>
#include <unistd.h>

#include <cstring>
#include <span>

#include "core/batch.h"
#include "core/call.h"
#include "core/head_changes.h"
#include "core/http_exchange.h"
#include "core/request_lines.h"
#include "core/table_registry.h"
#include "core/tls/tls_context.h"
#include "napi/bindings.h"
#include "napi/engine_handle.h"
#include "napi/spec_values.h"

namespace weft {

namespace {

Napi::Value throw_type_error(Napi::Env env, const std::string& message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value throw_system_error(Napi::Env env, int error, const std::string& what) {
  Napi::Error thrown = Napi::Error::New(env, what + ": " + strerror(error));
  thrown.Set("code", Napi::String::New(env, uv_err_name(-error)));
  thrown.ThrowAsJavaScriptException();
  return env.Undefined();
}

// Texts of heads cross as strings of bytes.
std::string bytes_of(const Napi::Value& value) {
  size_t size = 0;
  napi_get_value_string_latin1(value.Env(), value, nullptr, 0, &size);
  std::string bytes(size, '\0');
  napi_get_value_string_latin1(value.Env(), value, bytes.data(), size + 1, &size);
  return bytes;
}

Napi::Value text_of(Napi::Env env, const std::string& bytes) {
  napi_value text;
  napi_create_string_latin1(env, bytes.data(), bytes.size(), &text);
  return {env, text};
}

Napi::Value become(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray()) return throw_type_error(info.Env(), "become(command): expected an array of strings");
  const auto array = info[0].As<Napi::Array>();
  std::vector<std::string> words;
  for (uint32_t i = 0; i < array.Length(); i++) words.push_back(array.Get(i).ToString().Utf8Value());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  // Node has marked what it was started with as its own.
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) fcntl(standard, F_SETFD, 0);
  execv(arguments[0], arguments.data());
  return throw_system_error(info.Env(), errno, words[0]);
}

Napi::Value create_tables(const Napi::CallbackInfo& info) {
  SpecReader reader(info.Env());
  const TableSpec spec = reader.table_spec(info[0]);
  if (!reader.ok()) return throw_type_error(info.Env(), "createTables: " + reader.error());
  std::string error;
  std::shared_ptr<const Tables> tables = Tables::build(spec, &error);
  if (tables == nullptr) return throw_type_error(info.Env(), "createTables: " + error);
  if (tables->predicate_words() > TableRegistry::kMaxPredicateWords)
    return throw_type_error(info.Env(), "createTables: predicates: more than 8192");
  return Napi::Number::New(info.Env(), TableRegistry::instance().add(std::move(tables)));
}

Napi::Value release_tables(const Napi::CallbackInfo& info) {
  if (info[0].IsNumber()) TableRegistry::instance().release(info[0].As<Napi::Number>().Uint32Value());
  return info.Env().Undefined();
}

// Of a described request's head, which is copied to the arena; its base is null if it is none: then `refused` is the status it is answered
// with.
struct DescribedHead {
  Batch batch;
  const uint8_t* base = nullptr;
  http1::RequestHead* head = nullptr;
  int refused = 431;

  DescribedHead(const Napi::Uint8Array& bytes, const http1::HeadLimits& limits) : head(&batch.next()->head) {
    uint8_t* room = batch.arena().peek(bytes.ByteLength());
    if (room == nullptr) return;
    memcpy(room, bytes.Data(), bytes.ByteLength());
    const http1::ParseResult parsed = http1::parse_request_head(room, bytes.ByteLength(), limits, head);
    if (parsed.status == http1::ParseStatus::kInvalid) refused = http1::head_error_status(parsed.error);
    if (parsed.status != http1::ParseStatus::kComplete) return;
    batch.arena().commit(bytes.ByteLength());
    base = room;
  }
};

http1::HeadLimits head_limits_of(const Napi::Value& value) {
  const auto limits = value.As<Napi::Object>();
  return {limits.Get("maxHeadBytes").ToNumber().Uint32Value(), limits.Get("maxHeaders").ToNumber().Uint32Value()};
}

// The words and bytes of a batch of one request, as an engine with these tables would hand it to TypeScript.
Napi::Value describe_request(const Napi::CallbackInfo& info) {
  const auto tables = info[0].IsNumber() ? TableRegistry::instance().find(info[0].As<Napi::Number>().Uint32Value()) : nullptr;
  if (tables == nullptr) return throw_type_error(info.Env(), "describeRequest: no such tables (released already?)");
  if (!info[1].IsObject() || !info[2].IsTypedArray() || !info[3].IsObject())
    return throw_type_error(info.Env(), "describeRequest: expected a connection, a head and its limits");
  const auto connection = info[1].As<Napi::Object>();
  DescribedHead request(info[2].As<Napi::Uint8Array>(), head_limits_of(info[3]));
  if (request.base == nullptr) return Napi::Number::New(info.Env(), request.refused);
  Batch& batch = request.batch;
  const auto word = [&](const char* name) { return connection.Get(name).ToNumber().Int32Value(); };
  DescriptorContext context;
  context.listener_id = word("listenerId");
  context.destination_id = word("destinationId");
  context.source_id = word("sourceId");
  if (connection.Get("serverName").IsString()) {
    context.server_name_id = tables->host(connection.Get("serverName").As<Napi::String>().Utf8Value());
    context.flags = kDescriptorTls;
  }
  if (connection.Get("clientIdentity").IsString())
    context.peer_identity_id = tables->identity(connection.Get("clientIdentity").As<Napi::String>().Utf8Value());
  Address client;
  if (connection.Get("clientAddress").IsString() && parse_address(connection.Get("clientAddress").As<Napi::String>().Utf8Value(), &client))
    context.client = &client;
  const std::string text = request_head_text(*request.head, request.base);
  batch.add_request(context, *tables, request.base, request.head->size);
  const Batch::Layout at = Batch::layout();
  const auto words = [&](size_t offset, size_t count) {
    Napi::Int32Array copy = Napi::Int32Array::New(info.Env(), count);
    memcpy(copy.Data(), batch.memory() + offset, count * sizeof(int32_t));
    return copy;
  };
  Napi::Uint8Array arena = Napi::Uint8Array::New(info.Env(), batch.arena().used());
  memcpy(arena.Data(), batch.memory() + at.arena, batch.arena().used());
  Napi::Object described = Napi::Object::New(info.Env());
  described.Set("descriptor", words(at.descriptors, kDescriptorWords));
  described.Set("predicates", words(at.predicates, tables->match_words()));
  described.Set("arena", arena);
  described.Set("head", text_of(info.Env(), text));
  return described;
}

// The head as the changes leave it, or a string that says what is wrong with them.
Napi::Value change_head(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || !info[1].IsString() || !info[2].IsObject())
    return throw_type_error(info.Env(), "changeHead: expected a head, changes and limits");
  const http1::HeadLimits limits = head_limits_of(info[2]);
  const DescribedHead request(info[0].As<Napi::Uint8Array>(), limits);
  if (request.base == nullptr) return throw_type_error(info.Env(), "changeHead: no head");
  HeadChanges changes;
  std::string error;
  if (!changes.parse(bytes_of(info[1]), &error)) return Napi::String::New(info.Env(), error);
  ByteQueue written;
  if (!rewrite_head(*request.head, request.base, changes, limits, &written)) return Napi::String::New(info.Env(), kNoHead.data());
  return Napi::Buffer<uint8_t>::Copy(info.Env(), written.data(), written.size());
}

Napi::Value create_tls_context(const Napi::CallbackInfo& info) {
  SpecReader reader(info.Env());
  const TlsContextSpec spec = reader.tls_context_spec(info[0]);
  if (!reader.ok()) return throw_type_error(info.Env(), "createTlsContext: " + reader.error());
  std::string error;
  std::shared_ptr<TlsContext> context = TlsContext::build(spec, &error);
  if (context == nullptr) return throw_type_error(info.Env(), "createTlsContext: " + error);
  return Napi::Number::New(info.Env(), TlsContextRegistry::instance().add(std::move(context)));
}

Napi::Value release_tls_context(const Napi::CallbackInfo& info) {
  if (info[0].IsNumber()) TlsContextRegistry::instance().release(info[0].As<Napi::Number>().Uint32Value());
  return info.Env().Undefined();
}

Napi::Value set_ticket_keys(const Napi::CallbackInfo& info) {
  std::shared_ptr<TlsContext> context;
  if (info[0].IsNumber()) context = TlsContextRegistry::instance().find(info[0].As<Napi::Number>().Uint32Value());
  if (context == nullptr) return throw_type_error(info.Env(), "setTicketKeys: no such context (released already?)");
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
      info[1].As<Napi::Uint8Array>().ByteLength() != sizeof(TicketKeys)) {
    return throw_type_error(info.Env(), "setTicketKeys: expected a Uint8Array of 240 bytes");
  }
  TicketKeys keys;
  memcpy(&keys, info[1].As<Napi::Uint8Array>().Data(), sizeof(keys));
  if (!context->set_ticket_keys(keys)) return throw_type_error(info.Env(), "setTicketKeys: the context was made without ticket keys");
  return info.Env().Undefined();
}

EngineHandle* handle_of(const Napi::CallbackInfo& info) { return static_cast<EngineHandle*>(info.Data()); }

Napi::Value listen(const Napi::CallbackInfo& info) {
  EngineHandle* engine = handle_of(info);
  SpecReader reader(info.Env());
  const ListenerSpec spec = reader.listener_spec(info[0]);
  if (!reader.ok()) return throw_type_error(info.Env(), "listen: " + reader.error());
  if (engine->reactor().is_closed()) return throw_type_error(info.Env(), "listen: the engine is closed");
  std::string step;
  const int port = engine->reactor().listen(spec, &step);
  if (port >= 0) return Napi::Number::New(info.Env(), port);
  const std::string address = info[0].As<Napi::Object>().Get("address").ToString().Utf8Value();
  return throw_system_error(info.Env(), -port, step + " " + address + " port " + std::to_string(spec.port));
}

Napi::Value adopt(const Napi::CallbackInfo& info) {
  EngineHandle* engine = handle_of(info);
  if (!info[1].IsNumber()) return throw_type_error(info.Env(), "adopt: expected a descriptor");
  const int fd = info[1].As<Napi::Number>().Int32Value();
  SpecReader reader(info.Env());
  const ListenerSpec spec = reader.listener_spec(info[0]);
  std::string step = reader.ok() ? "the engine is closed" : reader.error();
  if (!reader.ok() || engine->reactor().is_closed()) {
    close(fd);
    return throw_type_error(info.Env(), "adopt: " + step);
  }
  const int port = engine->reactor().adopt_listener(spec, fd, &step);
  if (port >= 0) return Napi::Number::New(info.Env(), port);
  const std::string address = info[0].As<Napi::Object>().Get("address").ToString().Utf8Value();
  return throw_system_error(info.Env(), -port, step + " " + address + " port " + std::to_string(spec.port));
}

Napi::Value share_listeners(const Napi::CallbackInfo& info) {
  Napi::Array list = Napi::Array::New(info.Env());
  uint32_t index = 0;
  for (const SharedListener& shared : handle_of(info)->reactor().share_listeners()) {
    Napi::Object item = Napi::Object::New(info.Env());
    item.Set("id", Napi::Number::New(info.Env(), shared.id));
    const auto optional = [&](int64_t value) {
      return value < 0 ? info.Env().Null() : Napi::Value(Napi::Number::New(info.Env(), static_cast<double>(value)));
    };
    item.Set("pod", optional(shared.pod));
    item.Set("sockmapKey", optional(shared.sockmap_key));
    item.Set("descriptor", Napi::Number::New(info.Env(), shared.fd));
    list.Set(index++, item);
  }
  return list;
}

Napi::Value unlisten(const Napi::CallbackInfo& info) {
  if (info[0].IsNumber()) handle_of(info)->reactor().unlisten(info[0].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

Napi::Value leave_pod(const Napi::CallbackInfo& info) {
  if (info[0].IsNumber()) handle_of(info)->reactor().leave_pod(info[0].As<Napi::Number>().Int64Value());
  return info.Env().Undefined();
}

Napi::Value set_listener(const Napi::CallbackInfo& info) {
  SpecReader reader(info.Env());
  ListenerSettings settings;
  reader.read_listener_settings(info[1], &settings);
  if (!reader.ok() || !info[0].IsNumber()) return throw_type_error(info.Env(), "setListener: " + reader.error());
  const int32_t id = info[0].As<Napi::Number>().Int32Value();
  return Napi::Boolean::New(info.Env(), handle_of(info)->reactor().set_listener(id, settings));
}

Napi::Array failure_objects(Napi::Env env, const std::vector<FailureNote>& notes) {
  Napi::Array list = Napi::Array::New(env, notes.size());
  uint32_t index = 0;
  for (const FailureNote& note : notes) {
    Napi::Object item = Napi::Object::New(env);
    item.Set("reason", note.reason);
    item.Set("side", note.downstream ? "downstream" : "upstream");
    AddressText text;
    item.Set("address", std::string(text.format(note.peer.address)));
    item.Set("port", Napi::Number::New(env, note.peer.port));
    item.Set("localAddress", std::string(text.format(note.local.address)));
    item.Set("localPort", Napi::Number::New(env, note.local.port));
    item.Set("text", note.text);
    list.Set(index++, item);
  }
  return list;
}

Napi::Value take_failures(const Napi::CallbackInfo& info) {
  const FailureNotes notes = handle_of(info)->reactor().take_failures();
  Napi::Object taken = Napi::Object::New(info.Env());
  taken.Set("tls", failure_objects(info.Env(), notes.tls));
  taken.Set("proxyHeaders", failure_objects(info.Env(), notes.proxy_headers));
  return taken;
}

Napi::Value use_tables(const Napi::CallbackInfo& info) {
  std::shared_ptr<const Tables> tables;
  if (info[0].IsNumber()) tables = TableRegistry::instance().find(info[0].As<Napi::Number>().Uint32Value());
  if (tables == nullptr) return throw_type_error(info.Env(), "useTables: no such tables (released already?)");
  if (!handle_of(info)->reactor().is_closed()) handle_of(info)->reactor().use_tables(std::move(tables));
  return info.Env().Undefined();
}

Napi::Value drain(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) return throw_type_error(info.Env(), "drain: expected milliseconds");
  if (!handle_of(info)->reactor().is_closed()) handle_of(info)->reactor().drain(info[0].As<Napi::Number>().Uint32Value());
  return info.Env().Undefined();
}

Napi::Value set_overload(const Napi::CallbackInfo& info) {
  const int64_t level = info[0].IsNumber() ? info[0].As<Napi::Number>().Int64Value() : -1;
  const int64_t reason = info[1].IsNumber() ? info[1].As<Napi::Number>().Int64Value() : -1;
  if (level < 0 || level > static_cast<int64_t>(OverloadLevel::StopAcceptingRequests) || reason < 0 ||
      reason >= static_cast<int64_t>(OverloadReason::Count)) {
    return throw_type_error(info.Env(), "setOverload: expected an OverloadLevel and an index in OVERLOAD_REASONS");
  }
  handle_of(info)->reactor().set_overload(static_cast<OverloadLevel>(level), static_cast<OverloadReason>(reason));
  return info.Env().Undefined();
}

HttpExchange* deferred_of(const Napi::CallbackInfo& info) {
  return info[0].IsNumber() ? handle_of(info)->reactor().deferred(info[0].As<Napi::Number>().Int32Value()) : nullptr;
}

Napi::Value null_or(Napi::Env env, bool done, const std::string& error) {
  return done ? env.Null() : Napi::Value(Napi::String::New(env, error));
}

Napi::Value deferred_head(const Napi::CallbackInfo& info) {
  HttpExchange* exchange = deferred_of(info);
  if (exchange == nullptr) return info.Env().Null();
  return text_of(info.Env(), exchange->head_text());
}

Napi::Value deferred_answer(const Napi::CallbackInfo& info) {
  const HttpExchange* exchange = deferred_of(info);
  std::string text;
  if (exchange == nullptr || !exchange->answer_text(&text)) return info.Env().Null();
  return text_of(info.Env(), text);
}

Napi::Value change_deferred(const Napi::CallbackInfo& info) {
  if (!info[1].IsString() || !info[2].IsBoolean()) return throw_type_error(info.Env(), "changeDeferred(token, changes, reroutes)");
  HttpExchange* exchange = deferred_of(info);
  if (exchange == nullptr) return info.Env().Null();
  std::string error;
  const bool done = exchange->change_head(bytes_of(info[1]), info[2].As<Napi::Boolean>(), &error);
  return null_or(info.Env(), done, error);
}

Napi::Value deferred_body(const Napi::CallbackInfo& info) {
  HttpExchange* exchange = deferred_of(info);
  std::string bytes;
  if (exchange == nullptr || !exchange->body_bytes(&bytes)) return info.Env().Null();
  return text_of(info.Env(), bytes);
}

Napi::Value replace_body(const Napi::CallbackInfo& info) {
  if (!info[1].IsBuffer()) return throw_type_error(info.Env(), "replaceBody(token, body)");
  HttpExchange* exchange = deferred_of(info);
  if (exchange == nullptr) return info.Env().Null();
  const auto body = info[1].As<Napi::Buffer<char>>();
  std::string error;
  const bool done = exchange->set_body({body.Data(), body.Length()}, &error);
  return null_or(info.Env(), done, error);
}

Napi::Value reply_deferred(const Napi::CallbackInfo& info) {
  if (!info[1].IsString() || !info[2].IsBuffer() || !info[3].IsNumber())
    return throw_type_error(info.Env(), "replyDeferred(token, lines, body, grpcStatus)");
  HttpExchange* exchange = deferred_of(info);
  if (exchange == nullptr) return info.Env().Null();
  const auto body = info[2].As<Napi::Buffer<char>>();
  std::string error;
  const bool done = exchange->set_reply(bytes_of(info[1]), {body.Data(), body.Length()}, info[3].As<Napi::Number>().Int32Value(), &error);
  return null_or(info.Env(), done, error);
}

Napi::Value answer_deferred(const Napi::CallbackInfo& info) {
  if (!info[1].IsString()) return throw_type_error(info.Env(), "answerDeferred(token, lines)");
  HttpExchange* exchange = deferred_of(info);
  if (exchange == nullptr) return info.Env().Null();
  std::string error;
  const bool done = exchange->add_answer_lines(bytes_of(info[1]), &error);
  return null_or(info.Env(), done, error);
}

Napi::Value call(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber() || !info[1].IsBuffer()) return throw_type_error(info.Env(), "call(number, request)");
  Reactor& reactor = handle_of(info)->reactor();
  const auto request = info[1].As<Napi::Buffer<uint8_t>>();
  const bool sent = !reactor.is_closed() && Call::send(&reactor, info[0].As<Napi::Number>().Int32Value(), request.Data(), request.Length());
  return Napi::Boolean::New(info.Env(), sent);
}

Napi::Value take_calls(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array list = Napi::Array::New(env);
  uint32_t index = 0;
  for (const EndedCall& ended : handle_of(info)->reactor().take_ended_calls()) {
    Napi::Object item = Napi::Object::New(env);
    item.Set("number", Napi::Number::New(env, ended.number));
    item.Set("grpcStatus", Napi::Number::New(env, ended.grpc_status));
    item.Set("body", Napi::Buffer<char>::Copy(env, ended.body.data(), ended.body.size()));
    list.Set(index++, item);
  }
  return list;
}

Napi::Value connections(const Napi::CallbackInfo& info) {
  Reactor& reactor = handle_of(info)->reactor();
  return Napi::Number::New(info.Env(), reactor.is_closed() ? 0 : reactor.open_downstream());
}

Napi::Value close_engine(const Napi::CallbackInfo& info) {
  handle_of(info)->close();
  return info.Env().Undefined();
}

// Its memory; null with `error` set if it is no typed array of that type.
void* shared_memory(const Napi::Value& value, napi_typedarray_type type, const char* name, size_t* length, napi_ref* reference,
                    std::string* error) {
  napi_typedarray_type actual = napi_int8_array;
  void* memory = nullptr;
  napi_value buffer = nullptr;
  size_t offset = 0;
  if (!value.IsTypedArray() || napi_get_typedarray_info(value.Env(), value, &actual, length, &memory, &buffer, &offset) != napi_ok ||
      actual != type) {
    *error = std::string(name) + ": expected a typed array of the declared type";
    return nullptr;
  }
  napi_create_reference(value.Env(), value, 1, reference);
  return memory;
}

bool read_shared(const Napi::Object& object, EngineOptions* options, EngineHandle::References* references, std::string* error) {
  size_t counters = 0;
  options->outstanding = static_cast<int32_t*>(shared_memory(object.Get("outstanding"), napi_int32_array, "outstanding",
                                                             &options->outstanding_count, &references->outstanding, error));
  size_t counts = 0;
  options->connection_counts = static_cast<int32_t*>(
      shared_memory(object.Get("connectionCounts"), napi_int32_array, "connectionCounts", &counts, &references->connection_counts, error));
  const size_t endpoint_counts = 1 + options->outstanding_count * LimitCounts::kEndpointWords;
  options->connection_services = counts > endpoint_counts ? (counts - endpoint_counts) / LimitCounts::kServiceWords : 0;
  options->counters =
      static_cast<double*>(shared_memory(object.Get("counters"), napi_float64_array, "counters", &counters, &references->counters, error));
  size_t tenants = 0;
  options->tenants =
      static_cast<double*>(shared_memory(object.Get("tenants"), napi_float64_array, "tenants", &tenants, &references->tenants, error));
  if (!error->empty()) return false;
  if (tenants < kMaxTenants * TenantAccounts::kWords) {
    *error = "tenants: shorter than MAX_TENANTS × TENANT_WORDS";
    return false;
  }
  if (counts < endpoint_counts) {
    *error = "connectionCounts: shorter than two words for each of outstanding, and one";
    return false;
  }
  if (counters < static_cast<size_t>(Counter::Count)) {
    *error = "counters: shorter than counterNames()";
    return false;
  }
  options->listener_connections = options->counters + static_cast<size_t>(Counter::Count);
  options->listener_count = counters - static_cast<size_t>(Counter::Count);
  const Napi::Value log = object.Get("accessLog");
  if (log.IsNull() || log.IsUndefined()) return true;
  options->access_log =
      static_cast<uint8_t*>(shared_memory(log, napi_uint8_array, "accessLog", &options->access_log_bytes, &references->access_log, error));
  return error->empty();
}

void add_method(Napi::Object engine, const char* name, Napi::Value (*method)(const Napi::CallbackInfo&), EngineHandle* handle) {
  Napi::Function function = Napi::Function::New(engine.Env(), method, name, handle);
  handle->retain();
  napi_add_finalizer(
      engine.Env(), function, handle, [](napi_env, void* data, void*) { static_cast<EngineHandle*>(data)->release(); }, nullptr, nullptr);
  engine.Set(name, function);
}

void add_view(Napi::Object engine, const char* name, napi_typedarray_type type, napi_value buffer, size_t offset, size_t length) {
  napi_value view;
  napi_create_typedarray(engine.Env(), type, length, buffer, offset, &view);
  engine.Set(name, view);
}

Napi::Object make_engine(Napi::Env env, EngineHandle* handle, napi_value buffer) {
  Napi::Object engine = Napi::Object::New(env);
  const Batch::Layout at = Batch::layout();
  add_view(engine, "header", napi_int32_array, buffer, at.header, kHeaderWords);
  add_view(engine, "clock", napi_float64_array, buffer, at.clock, 1);
  add_view(engine, "descriptors", napi_int32_array, buffer, at.descriptors, size_t{kMaxBatch} * kDescriptorWords);
  add_view(engine, "decisions", napi_int32_array, buffer, at.decisions, size_t{kMaxBatch} * kDecisionWords);
  add_view(engine, "completions", napi_int32_array, buffer, at.completions, size_t{kMaxCompletions} * kCompletionWords);
  add_view(engine, "predicates", napi_int32_array, buffer, at.predicates, Batch::kPredicateWords);
  add_view(engine, "answered", napi_int32_array, buffer, at.answered, kMaxDeferred);
  add_view(engine, "tried", napi_int32_array, buffer, at.tried, size_t{kMaxBatch} * kMaxTried);
  add_view(engine, "texts", napi_uint8_array, buffer, at.texts, Batch::kTextBytes);
  add_view(engine, "arena", napi_uint8_array, buffer, at.arena, Batch::kArenaBytes);
  add_method(engine, "listen", listen, handle);
  add_method(engine, "adopt", adopt, handle);
  add_method(engine, "shareListeners", share_listeners, handle);
  add_method(engine, "unlisten", unlisten, handle);
  add_method(engine, "leavePod", leave_pod, handle);
  add_method(engine, "setListener", set_listener, handle);
  add_method(engine, "takeFailures", take_failures, handle);
  add_method(engine, "useTables", use_tables, handle);
  add_method(engine, "drain", drain, handle);
  add_method(engine, "setOverload", set_overload, handle);
  add_method(engine, "deferredHead", deferred_head, handle);
  add_method(engine, "deferredAnswer", deferred_answer, handle);
  add_method(engine, "changeDeferred", change_deferred, handle);
  add_method(engine, "deferredBody", deferred_body, handle);
  add_method(engine, "replaceBody", replace_body, handle);
  add_method(engine, "replyDeferred", reply_deferred, handle);
  add_method(engine, "answerDeferred", answer_deferred, handle);
  add_method(engine, "call", call, handle);
  add_method(engine, "takeCalls", take_calls, handle);
  add_method(engine, "connections", connections, handle);
  add_method(engine, "close", close_engine, handle);
  return engine;
}

Napi::Value create_engine(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject() || !info[1].IsFunction()) return throw_type_error(env, "createEngine(options, decide)");
  const auto object = info[0].As<Napi::Object>();
  SpecReader reader(env);
  EngineOptions options = reader.engine_options(object);
  if (!reader.ok()) return throw_type_error(env, "createEngine: " + reader.error());
  EngineHandle::References references;
  std::string error;
  if (!read_shared(object, &options, &references, &error)) return throw_type_error(env, "createEngine: " + error);
  napi_create_reference(env, info[1], 1, &references.decide);
  auto* handle = new EngineHandle(env, options);
  if (!handle->reactor().start_error().empty()) {
    const Napi::Value thrown = throw_type_error(env, "createEngine: " + handle->reactor().start_error());
    handle->release();
    return thrown;
  }
  const napi_value buffer = handle->make_buffer();
  if (buffer == nullptr || !handle->start(references)) {
    handle->release();
    return throw_type_error(env, "createEngine: this runtime gives no event loop or no external buffers");
  }
  const Napi::Object engine = make_engine(env, handle, buffer);
  handle->release();
  return engine;
}

Napi::Array array_of(Napi::Env env, std::span<const char* const> texts) {
  Napi::Array array = Napi::Array::New(env, texts.size());
  for (uint32_t i = 0; i < texts.size(); i++) array.Set(i, Napi::String::New(env, texts[i]));
  return array;
}

Napi::Value counter_names(const Napi::CallbackInfo& info) { return array_of(info.Env(), kCounterNames); }

Napi::Value counter_help(const Napi::CallbackInfo& info) { return array_of(info.Env(), kCounterHelp); }

Napi::Value native_heap_bytes(const Napi::CallbackInfo& info) {
  const struct mallinfo2 heap = mallinfo2();
  return Napi::Number::New(info.Env(), static_cast<double>(heap.uordblks + heap.hblkhd));
}

}  // namespace

void register_engine(Napi::Env env, Napi::Object exports) {
  exports.Set("become", Napi::Function::New(env, become, "become"));
  exports.Set("createTables", Napi::Function::New(env, create_tables, "createTables"));
  exports.Set("releaseTables", Napi::Function::New(env, release_tables, "releaseTables"));
  exports.Set("describeRequest", Napi::Function::New(env, describe_request, "describeRequest"));
  exports.Set("changeHead", Napi::Function::New(env, change_head, "changeHead"));
  exports.Set("createTlsContext", Napi::Function::New(env, create_tls_context, "createTlsContext"));
  exports.Set("releaseTlsContext", Napi::Function::New(env, release_tls_context, "releaseTlsContext"));
  exports.Set("setTicketKeys", Napi::Function::New(env, set_ticket_keys, "setTicketKeys"));
  exports.Set("createEngine", Napi::Function::New(env, create_engine, "createEngine"));
  exports.Set("nativeHeapBytes", Napi::Function::New(env, native_heap_bytes, "nativeHeapBytes"));
  exports.Set("counterNames", Napi::Function::New(env, counter_names, "counterNames"));
  exports.Set("counterHelp", Napi::Function::New(env, counter_help, "counterHelp"));
}

}  // namespace weft
