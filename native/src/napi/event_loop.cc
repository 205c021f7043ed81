// See event_loop.h.
#include "napi/event_loop.h"

namespace weft {

namespace {
// JavaScript that ran in a tick may have asked libuv to watch something, which libuv does only when it polls itself.
constexpr int64_t kLeaveAfterJavaScriptMs = 5;
}  // namespace

bool EventLoop::start(uv_loop_t* loop, Reactor* reactor) {
  loop_ = loop;
  reactor_ = reactor;
  if (!reactor->watch(uv_backend_fd(loop))) return false;
  uv_prepare_init(loop, &prepare_);
  uv_check_init(loop, &check_);
  uv_idle_init(loop, &idle_);
  prepare_.data = check_.data = idle_.data = this;
  open_handles_ = 3;
  uv_prepare_start(&prepare_, [](uv_prepare_t* handle) { static_cast<EventLoop*>(handle->data)->run(); });
  uv_check_start(&check_, [](uv_check_t* handle) { uv_idle_stop(&static_cast<EventLoop*>(handle->data)->idle_); });
  return true;
}

void EventLoop::run() {
  int64_t javascript_since_ms = -1;
  for (;;) {
    uv_update_time(loop_);
    const auto now = static_cast<int64_t>(uv_now(loop_));
    int timeout = uv_backend_timeout(loop_);
    if (javascript_since_ms >= 0) {
      const int64_t left = javascript_since_ms + kLeaveAfterJavaScriptMs - now;
      if (left <= 0) break;
      if (timeout < 0 || left < timeout) timeout = static_cast<int>(left);
    }
    reactor_->run_once(timeout);
    if (timeout == 0 || reactor_->watched_ready() || reactor_->is_closed()) break;
    if (reactor_->decided() && javascript_since_ms < 0) javascript_since_ms = now;
  }
  // Makes libuv poll without waiting.
  if (!stopping_) uv_idle_start(&idle_, [](uv_idle_t*) {});
}

void EventLoop::stop(Closed closed, void* context) {
  stopping_ = true;
  closed_ = closed;
  context_ = context;
  uv_close(reinterpret_cast<uv_handle_t*>(&prepare_), on_handle_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&check_), on_handle_closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&idle_), on_handle_closed);
}

void EventLoop::on_handle_closed(uv_handle_t* handle) {
  auto* self = static_cast<EventLoop*>(handle->data);
  if (--self->open_handles_ == 0) self->closed_(self->context_);
}

}  // namespace weft
