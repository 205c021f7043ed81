// One engine as JavaScript holds it: reactor, event loop and the references between them. Lives until the last of them lets go:
// the loop's handles, the views' buffer, the method functions.
#pragma once
#include <node_api.h>

#include <memory>

#include "core/reactor.h"
#include "napi/event_loop.h"

namespace weft {

class EngineHandle {
 public:
  // The typed arrays whose memory `options` points into, and the decision function.
  struct References {
    napi_ref decide = nullptr;
    napi_ref outstanding = nullptr;
    napi_ref connection_counts = nullptr;
    napi_ref counters = nullptr;
    napi_ref access_log = nullptr;
    napi_ref tenants = nullptr;
  };

  EngineHandle(napi_env env, const EngineOptions& options);
  Reactor& reactor() { return reactor_; }
  // Enters the loop; false if that is impossible. On failure the caller drops its only reference.
  bool start(const References& references);
  // The object of agent/native/engine.ts's Engine views: an ArrayBuffer over the batch memory.
  napi_value make_buffer();
  // Thread of the engine, JavaScript running.
  void close();

  void retain() { uses_++; }
  void release();

 private:
  ~EngineHandle() = default;
  static bool decide(void* context);
  static void on_cleanup(napi_async_cleanup_hook_handle hook, void* context);
  void print_pending_exception();
  void shut_down();
  void drop_references();

  napi_env env_;
  Reactor reactor_;
  EventLoop loop_;
  References references_;
  napi_ref buffer_ = nullptr;
  napi_ref resource_ = nullptr;
  napi_async_context async_context_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  int uses_ = 1;
  bool in_cleanup_ = false;
  bool shut_down_ = false;
};

}  // namespace weft
