// See engine_handle.h. Raw node_api on the hot path: the C++ wrappers cost an allocation a call.
#include "napi/engine_handle.h"

#include <cstdio>
#include <string>

#include "napi/short_slice.h"

namespace weft {

EngineHandle::EngineHandle(napi_env env, const EngineOptions& options) : env_(env), reactor_(options, decide, this) {}

bool EngineHandle::start(const References& references) {
  references_ = references;
  request_short_slice();
  napi_value resource;
  napi_value name;
  napi_create_object(env_, &resource);
  napi_create_string_utf8(env_, "weft-engine", NAPI_AUTO_LENGTH, &name);
  napi_create_reference(env_, resource, 1, &resource_);
  napi_async_init(env_, resource, name, &async_context_);
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env_, &loop) != napi_ok || !loop_.start(loop, &reactor_)) return false;
  // The loop's handles hold one reference until they are closed.
  retain();
  napi_add_async_cleanup_hook(env_, on_cleanup, this, &hook_);
  return true;
}

napi_value EngineHandle::make_buffer() {
  napi_value buffer = nullptr;
  retain();
  const napi_status status = napi_create_external_arraybuffer(
      env_, reactor_.batch().memory(), Batch::layout().total,
      [](napi_env, void*, void* hint) { static_cast<EngineHandle*>(hint)->release(); }, this, &buffer);
  if (status != napi_ok) {
    release();
    return nullptr;
  }
  napi_create_reference(env_, buffer, 1, &buffer_);
  return buffer;
}

bool EngineHandle::decide(void* context) {
  auto* self = static_cast<EngineHandle*>(context);
  napi_env env = self->env_;
  if (self->in_cleanup_) return false;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return false;
  napi_value global;
  napi_value function;
  napi_value result;
  napi_get_global(env, &global);
  napi_get_reference_value(env, self->references_.decide, &function);
  // Once a tick: it also runs the microtasks, which napi_call_function does not.
  const bool ok = napi_make_callback(env, self->async_context_, global, function, 0, nullptr, &result) == napi_ok;
  if (!ok) self->print_pending_exception();
  napi_close_handle_scope(env, scope);
  return ok;
}

// None is pending when the worker is being terminated.
void EngineHandle::print_pending_exception() {
  bool pending = false;
  if (napi_is_exception_pending(env_, &pending) != napi_ok || !pending) return;
  napi_value exception;
  if (napi_get_and_clear_last_exception(env_, &exception) != napi_ok) return;
  napi_value text = exception;
  napi_valuetype type = napi_undefined;
  napi_typeof(env_, exception, &type);
  if (type == napi_object) napi_get_named_property(env_, exception, "stack", &text);
  napi_value string;
  std::string message(4096, '\0');
  size_t size = 0;
  if (napi_coerce_to_string(env_, text, &string) != napi_ok) return;
  napi_get_value_string_utf8(env_, string, message.data(), message.size(), &size);
  message.resize(size);
  fprintf(stderr, "weft engine: the decision function failed, its batch was answered 503: %s\n", message.c_str());
}

void EngineHandle::shut_down() {
  if (shut_down_) return;
  shut_down_ = true;
  reactor_.close();
  loop_.stop(
      [](void* context) {
        auto* self = static_cast<EngineHandle*>(context);
        if (self->hook_ != nullptr) napi_remove_async_cleanup_hook(self->hook_);
        self->hook_ = nullptr;
        if (!self->in_cleanup_) self->drop_references();
        self->release();
      },
      this);
}

void EngineHandle::drop_references() {
  for (napi_ref reference : {references_.decide, references_.outstanding, references_.connection_counts, references_.counters,
                             references_.access_log, references_.tenants, buffer_, resource_}) {
    if (reference != nullptr) napi_delete_reference(env_, reference);
  }
  references_ = {};
  buffer_ = resource_ = nullptr;
  napi_async_destroy(env_, async_context_);
}

void EngineHandle::close() {
  if (shut_down_) return;
  // JavaScript is told the last completions.
  reactor_.close();
  // The batch memory must not be seen any more once it may be unmapped.
  napi_value buffer;
  if (buffer_ != nullptr && napi_get_reference_value(env_, buffer_, &buffer) == napi_ok && buffer != nullptr) {
    napi_detach_arraybuffer(env_, buffer);
  }
  shut_down();
}

// The environment ends (worker.terminate(), process exit): JavaScript can't run any more. Open uv handles would abort the process.
void EngineHandle::on_cleanup(napi_async_cleanup_hook_handle, void* context) {
  auto* self = static_cast<EngineHandle*>(context);
  self->in_cleanup_ = true;
  self->shut_down();
}

void EngineHandle::release() {
  if (--uses_ > 0) return;
  delete this;
}

}  // namespace weft
