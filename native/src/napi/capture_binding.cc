// Converts between agent/native/capture.ts and the loader in src/bpf: the same functions in the same order. Decides nothing.
#include <string.h>
#include <sys/stat.h>

#include <iterator>
#include <memory>

#include "bpf/capture.h"
#include "bpf/hook_programs.h"
#include "bpf/namespaces.h"
#include "bpf/netns_client.h"
#include "bpf/self_test.h"
#include "bpf/workload_link.h"
#include "napi/bindings.h"

namespace weft {
namespace {

using bpf::Capture;

// Throws an Error with `code` ("EEXIST") and the text; true if there was a failure.
bool threw(Napi::Env env, const bpf::Outcome& outcome) {
  if (!outcome) return false;
  const char* name = strerrorname_np(outcome->code);
  const char* meaning = strerrordesc_np(outcome->code);
  Napi::Error error = Napi::Error::New(env, outcome->text + " (" + (meaning ? meaning : "unknown error") + ")");
  error.Set("code", Napi::String::New(env, name ? name : "EUNKNOWN"));
  error.ThrowAsJavaScriptException();
  return true;
}

// Empty for null.
std::string to_text(const Napi::Value& value) { return value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string(); }

template <typename Item, typename Convert>
std::vector<Item> to_list(const Napi::Value& value, Convert convert) {
  Napi::Array array = value.As<Napi::Array>();
  std::vector<Item> result;
  for (uint32_t i = 0; i < array.Length(); i++) result.push_back(convert(array.Get(i)));
  return result;
}

std::vector<std::string> to_texts(const Napi::Value& value) { return to_list<std::string>(value, to_text); }

std::vector<uint32_t> to_numbers(const Napi::Value& value) {
  return to_list<uint32_t>(value, [](const Napi::Value& item) { return item.As<Napi::Number>().Uint32Value(); });
}

template <typename List, typename Convert>
Napi::Array from_list(Napi::Env env, const List& list, Convert convert) {
  Napi::Array array = Napi::Array::New(env, std::size(list));
  uint32_t i = 0;
  for (const auto& item : list) array.Set(i++, convert(item));
  return array;
}

template <typename List>
Napi::Array from_numbers(Napi::Env env, const List& list) {
  return from_list(env, list, [&](auto item) { return Napi::Number::New(env, static_cast<double>(item)); });
}

bpf::CaptureLocation to_location(const Napi::Object& object) {
  return {to_text(object.Get("bpfDir")), to_text(object.Get("meshNetns")), to_text(object.Get("hostNetns"))};
}

bpf::WorkloadSpec to_spec(const Napi::Object& object) {
  bpf::WorkloadSpec spec;
  spec.ifindex = object.Get("key").As<Napi::Number>().Uint32Value();
  spec.cgroup = to_text(object.Get("cgroup"));
  spec.cgroup_id = static_cast<uint64_t>(object.Get("inode").As<Napi::Number>().Int64Value());
  spec.ports = to_numbers(object.Get("ports"));
  std::vector<uint32_t> mac = to_numbers(object.Get("gatewayMac"));
  for (size_t i = 0; i < sizeof spec.gateway_mac && i < mac.size(); i++) spec.gateway_mac[i] = static_cast<uint8_t>(mac[i]);
  spec.outbound = object.Get("outbound").ToBoolean();
  spec.inbound = object.Get("inbound").ToBoolean();
  spec.fail_closed = object.Get("failClosed").ToBoolean();
  spec.dns = object.Get("dns").ToBoolean();
  spec.hold_ms = object.Get("holdMs").As<Napi::Number>().Uint32Value();
  spec.addresses = to_texts(object.Get("addresses"));
  spec.exclude_outbound_ports = to_numbers(object.Get("excludeOutboundPorts"));
  spec.exclude_inbound_ports = to_numbers(object.Get("excludeInboundPorts"));
  spec.exclude_outbound_cidrs = to_texts(object.Get("excludeOutboundCidrs"));
  spec.include_outbound_cidrs = to_texts(object.Get("includeOutboundCidrs"));
  spec.exclude_inbound_cidrs = to_texts(object.Get("excludeInboundCidrs"));
  spec.include_inbound_cidrs = to_texts(object.Get("includeInboundCidrs"));
  return spec;
}

Napi::Value capture_names(const Napi::CallbackInfo& info) {
  static const char* const programs[] = {
#define X(suffix, name) name,
      WEFT_PROGRAMS(X)
#undef X
  };
  static const char* const reasons[] = {
#define X(suffix, name, meaning) name,
      WEFT_REASONS(X)
#undef X
  };
  Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  auto text = [&](const char* item) { return Napi::String::New(env, item); };
  result.Set("programs", from_list(env, std::vector<const char*>(std::begin(programs), std::end(programs)), text));
  result.Set("reasons", from_list(env, std::vector<const char*>(std::begin(reasons), std::end(reasons)), text));
  return result;
}

Napi::Value inspect_namespace(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  bpf::WorkloadNamespace found;
  if (threw(env, bpf::inspect_workload(to_text(info[0]), to_text(info[1]), found))) return env.Undefined();
  Napi::Object result = Napi::Object::New(env);
  result.Set("inode", Napi::Number::New(env, static_cast<double>(found.inode)));
  result.Set("links", from_list(env, found.links, [&](const bpf::WorkloadLink& link) {
               Napi::Object object = Napi::Object::New(env);
               object.Set("name", link.name);
               object.Set("addresses",
                          from_list(env, link.addresses, [&](const std::string& item) { return Napi::String::New(env, item); }));
               object.Set("hostIfindex", Napi::Number::New(env, link.host_ifindex));
               object.Set("hostName", link.host_name);
               object.Set("gatewayMac", from_numbers(env, link.gateway_mac));
               return object;
             }));
  return result;
}

Napi::Value inspect_cgroup(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  bpf::HostProcess found;
  if (threw(env, bpf::inspect_cgroup(to_text(info[0]), to_text(info[1]), found))) return env.Undefined();
  Napi::Object result = Napi::Object::New(env);
  result.Set("inode", Napi::Number::New(env, static_cast<double>(found.cgroup_id)));
  result.Set("key", Napi::Number::New(env, found.key));
  result.Set("addresses", from_list(env, found.addresses, [&](const std::string& item) { return Napi::String::New(env, item); }));
  return result;
}

Napi::Value list_hook_programs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::vector<bpf::HookProgram> found;
  if (threw(env, bpf::list_hook_programs(to_text(info[0]), to_text(info[1]), found))) return env.Undefined();
  return from_list(env, found, [&](const bpf::HookProgram& item) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("hook", item.hook);
    object.Set("place", item.place);
    object.Set("program", item.program);
    return object;
  });
}

// The handle is a plain object whose functions share the capture; close() empties it, and later calls throw.
using Shared = std::shared_ptr<std::unique_ptr<Capture>>;

Capture* opened(Napi::Env env, const Shared& shared) {
  if (*shared) return shared->get();
  threw(env, bpf::failure(EBADF, "the capture handle is closed"));
  return nullptr;
}

template <typename Body>
void method(Napi::Env env, Napi::Object& handle, const char* name, const Shared& shared, Body body) {
  handle.Set(name, Napi::Function::New(
                       env,
                       [shared, body](const Napi::CallbackInfo& info) -> Napi::Value {
                         Capture* capture = opened(info.Env(), shared);
                         return capture != nullptr ? body(info, *capture) : info.Env().Undefined();
                       },
                       name));
}

Napi::Value make_handle(Napi::Env env, std::unique_ptr<Capture> capture) {
  auto shared = std::make_shared<std::unique_ptr<Capture>>(std::move(capture));
  Napi::Object handle = Napi::Object::New(env);
  handle.Set("mode", (*shared)->mode() == WEFT_MODE_TCX ? "ebpf-tcx" : "ebpf-clsact");
  handle.Set("reason", (*shared)->reason());
  handle.Set("replacedMaps",
             from_list(env, (*shared)->replaced_maps(), [&](const std::string& name) { return Napi::String::New(env, name); }));
  method(env, handle, "attach", shared, [](const Napi::CallbackInfo& info, Capture& self) -> Napi::Value {
    threw(info.Env(), self.attach(to_spec(info[0].As<Napi::Object>())));
    return info.Env().Undefined();
  });
  method(env, handle, "detach", shared, [](const Napi::CallbackInfo& info, Capture& self) -> Napi::Value {
    threw(info.Env(), self.detach(info[0].As<Napi::Number>().Uint32Value()));
    return info.Env().Undefined();
  });
  method(env, handle, "exempt", shared, [](const Napi::CallbackInfo& info, Capture& self) -> Napi::Value {
    threw(info.Env(), self.exempt(to_list<uint64_t>(
                          info[0], [](const Napi::Value& item) { return static_cast<uint64_t>(item.As<Napi::Number>().Int64Value()); })));
    return info.Env().Undefined();
  });
  method(env, handle, "attached", shared,
         [](const Napi::CallbackInfo& info, Capture& self) -> Napi::Value { return from_numbers(info.Env(), self.attached()); });
  method(env, handle, "counters", shared,
         [](const Napi::CallbackInfo& info, Capture& self) -> Napi::Value { return from_numbers(info.Env(), self.counters()); });
  method(env, handle, "workloadCounters", shared, [](const Napi::CallbackInfo& info, Capture& self) -> Napi::Value {
    return from_numbers(info.Env(), self.workload_counters(info[0].As<Napi::Number>().Uint32Value()));
  });
  handle.Set("close", Napi::Function::New(
                          env, [shared](const Napi::CallbackInfo&) { shared->reset(); }, "close"));
  return handle;
}

uint32_t to_mode(const Napi::Value& value) {
  const std::string mode = to_text(value);
  return mode == "ebpf-tcx" ? WEFT_MODE_TCX : mode == "ebpf-clsact" ? WEFT_MODE_CLSACT : 0;
}

Napi::Value test_capture(const Napi::CallbackInfo& info) {
  threw(info.Env(), bpf::test_capture(to_mode(info[0]), to_text(info[1])));
  return info.Env().Undefined();
}

Napi::Value open_scratch_pod(const Napi::CallbackInfo& info) {
  bpf::ScratchPod scratch;
  if (threw(info.Env(), bpf::make_scratch_pod(scratch))) return info.Env().Undefined();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("host", Napi::Number::New(info.Env(), scratch.host.release()));
  result.Set("pod", Napi::Number::New(info.Env(), scratch.pod.release()));
  return result;
}

Napi::Value test_translation(const Napi::CallbackInfo& info) {
  const auto integer = [&](const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); };
  const auto scratch = info[0].As<Napi::Object>();
  const auto ports = info[1].As<Napi::Object>();
  threw(info.Env(), bpf::test_translation(integer(scratch.Get("host")), integer(scratch.Get("pod")),
                                          static_cast<uint16_t>(integer(ports.Get("outboundPort"))),
                                          static_cast<uint16_t>(integer(ports.Get("inboundPort")))));
  return info.Env().Undefined();
}

Napi::Value open_capture(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object object = info[0].As<Napi::Object>();
  bpf::CaptureOptions options;
  options.location = to_location(object);
  options.mode = to_mode(object.Get("mode"));
  options.heartbeat_timeout_ns = static_cast<uint64_t>(object.Get("heartbeatTimeoutMs").As<Napi::Number>().DoubleValue() * 1e6);
  options.host_mark = object.Get("hostMark").As<Napi::Number>().Uint32Value();
  std::unique_ptr<Capture> capture;
  if (threw(env, Capture::open(options, capture))) return env.Undefined();
  return make_handle(env, std::move(capture));
}

Napi::Value open_in_namespace(const Napi::CallbackInfo& info) {
  bpf::Descriptor opened;
  if (threw(info.Env(), bpf::open_in_namespace(to_text(info[0]), to_text(info[1]), opened))) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), opened.release());
}

Napi::Value namespace_inode(const Napi::CallbackInfo& info) {
  bpf::Descriptor there;
  struct stat found;
  const bpf::Outcome outcome = bpf::open_namespace(to_text(info[0]), there);
  if (outcome && (outcome->code == EACCES || outcome->code == EPERM) && threw(info.Env(), outcome)) return info.Env().Undefined();
  if (outcome || fstat(there.get(), &found) != 0) return info.Env().Null();
  return Napi::Number::New(info.Env(), static_cast<double>(found.st_ino));
}

Napi::Value use_netns(const Napi::CallbackInfo& info) {
  threw(info.Env(), bpf::NetnsClient::instance().use(info[0].As<Napi::Number>().Int32Value()));
  return info.Env().Undefined();
}

// Of what became of a command.
Napi::Value from_result(Napi::Env env, const bpf::CommandResult& result) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("status", Napi::Number::New(env, result.status));
  object.Set("output", Napi::String::New(env, result.output));
  object.Set("errors", Napi::String::New(env, result.errors));
  return object;
}

Napi::Value run_in_namespace(const Napi::CallbackInfo& info) {
  bpf::CommandResult result;
  if (threw(info.Env(), bpf::run_command(to_text(info[0]), to_text(info[1]), to_text(info[2]), result))) return info.Env().Undefined();
  return from_result(info.Env(), result);
}

// The same on a thread of libuv's: the main one goes on meanwhile.
class CommandWorker : public Napi::AsyncWorker {
 public:
  CommandWorker(Napi::Env env, std::string path, std::string command)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), path_(std::move(path)), command_(std::move(command)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }
  void Execute() override {
    if (const bpf::Outcome outcome = bpf::run_command(path_, command_, "", result_)) SetError(outcome->text);
  }
  void OnOK() override { deferred_.Resolve(from_result(Env(), result_)); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
  const std::string path_;
  const std::string command_;
  bpf::CommandResult result_;
};

Napi::Value run_in_namespace_aside(const Napi::CallbackInfo& info) {
  auto* worker = new CommandWorker(info.Env(), to_text(info[0]), to_text(info[1]));
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

Napi::Value uninstall_capture(const Napi::CallbackInfo& info) {
  threw(info.Env(), Capture::uninstall(to_location(info[0].As<Napi::Object>())));
  return info.Env().Undefined();
}

}  // namespace

void register_capture(Napi::Env env, Napi::Object exports) {
  exports.Set("captureNames", Napi::Function::New(env, capture_names, "captureNames"));
  exports.Set("inspectNamespace", Napi::Function::New(env, inspect_namespace, "inspectNamespace"));
  exports.Set("inspectCgroup", Napi::Function::New(env, inspect_cgroup, "inspectCgroup"));
  exports.Set("listHookPrograms", Napi::Function::New(env, list_hook_programs, "listHookPrograms"));
  exports.Set("testCapture", Napi::Function::New(env, test_capture, "testCapture"));
  exports.Set("openScratchPod", Napi::Function::New(env, open_scratch_pod, "openScratchPod"));
  exports.Set("testTranslation", Napi::Function::New(env, test_translation, "testTranslation"));
  exports.Set("openCapture", Napi::Function::New(env, open_capture, "openCapture"));
  exports.Set("openInNamespace", Napi::Function::New(env, open_in_namespace, "openInNamespace"));
  exports.Set("namespaceInode", Napi::Function::New(env, namespace_inode, "namespaceInode"));
  exports.Set("useNetns", Napi::Function::New(env, use_netns, "useNetns"));
  exports.Set("runInNamespace", Napi::Function::New(env, run_in_namespace, "runInNamespace"));
  exports.Set("runInNamespaceAside", Napi::Function::New(env, run_in_namespace_aside, "runInNamespaceAside"));
  exports.Set("uninstallCapture", Napi::Function::New(env, uninstall_capture, "uninstallCapture"));
}

}  // namespace weft
