// The functions of agent/native/message-socket.ts, in its order. Converts, and watches descriptors on Node's event loop; decides nothing.
#include <fcntl.h>
#include <napi.h>
#include <unistd.h>
#include <uv.h>

#include <cstring>
#include <memory>

#include "core/message_socket.h"
#include "napi/bindings.h"

namespace weft {

namespace {

Napi::Value throw_error(Napi::Env env, int error, const std::string& what) {
  Napi::Error thrown = Napi::Error::New(env, what + ": " + strerror(error));
  thrown.Set("code", Napi::String::New(env, uv_err_name(-error)));
  thrown.ThrowAsJavaScriptException();
  return env.Undefined();
}

class MessageSocket : public Napi::ObjectWrap<MessageSocket> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "MessageSocket",
                       {InstanceMethod<&MessageSocket::accept>("accept"), InstanceMethod<&MessageSocket::send>("send"),
                        InstanceMethod<&MessageSocket::receive>("receive"), InstanceMethod<&MessageSocket::when_readable>("whenReadable"),
                        InstanceMethod<&MessageSocket::close>("close")});
  }
  // Takes the descriptor.
  static Napi::Value wrap(Napi::Env env, int fd) {
    return env.GetInstanceData<Napi::FunctionReference>()->New({Napi::Number::New(env, fd)});
  }
  explicit MessageSocket(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MessageSocket>(info) {
    fd_ = info[0].As<Napi::Number>().Int32Value();
    PeerProcess peer;
    peer_process(fd_, &peer);
    Value().Set("uid", Napi::Number::New(info.Env(), peer.uid));
    Value().Set("pid", Napi::Number::New(info.Env(), peer.pid));
  }
  ~MessageSocket() override { shut(); }

 private:
  // Outlives the object until libuv has closed it.
  struct Watch {
    uv_poll_t handle;
    MessageSocket* socket;
  };

  Napi::Value accept(const Napi::CallbackInfo& info) {
    const int accepted = accept_messages(fd_);
    if (accepted >= 0) return wrap(info.Env(), accepted);
    if (accepted == -EAGAIN || accepted == -ECONNABORTED || accepted == -EINTR) return info.Env().Null();
    return throw_error(info.Env(), -accepted, "accept");
  }

  Napi::Value send(const Napi::CallbackInfo& info) {
    std::vector<int> descriptors;
    const auto list = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); i++) descriptors.push_back(list.Get(i).As<Napi::Number>().Int32Value());
    const int result = send_message(fd_, info[0].As<Napi::String>().Utf8Value(), descriptors);
    return result == 0 ? info.Env().Undefined() : throw_error(info.Env(), -result, "send");
  }

  Napi::Value receive(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    Message message;
    const int result = receive_message(fd_, &message);
    if (result == -EAGAIN) return env.Null();
    if (result < 0) return throw_error(env, -result, "receive");
    Napi::Object object = Napi::Object::New(env);
    Napi::Array descriptors = Napi::Array::New(env);
    for (const int fd : message.descriptors) descriptors.Set(descriptors.Length(), Napi::Number::New(env, fd));
    object.Set("text", result == 0 ? env.Null() : Napi::Value(Napi::String::New(env, message.text)));
    object.Set("descriptors", descriptors);
    return object;
  }

  Napi::Value when_readable(const Napi::CallbackInfo& info) {
    if (fd_ < 0) return throw_error(info.Env(), EBADF, "whenReadable");
    if (watch_ == nullptr) {
      uv_loop_t* loop = nullptr;
      napi_get_uv_event_loop(info.Env(), &loop);
      auto watch = std::make_unique<Watch>();
      const int result = uv_poll_init(loop, &watch->handle, fd_);
      if (result != 0) return throw_error(info.Env(), -result, "whenReadable");
      watch->socket = this;
      watch->handle.data = watch.get();
      watch_ = watch.release();
    }
    callback_ = Napi::Persistent(info[0].As<Napi::Function>());
    uv_poll_start(&watch_->handle, UV_READABLE | UV_DISCONNECT, [](uv_poll_t* handle, int, int) {
      uv_poll_stop(handle);
      static_cast<Watch*>(handle->data)->socket->call_back();
    });
    // While it is watched, JavaScript need not hold it.
    if (!is_held_) Ref();
    is_held_ = true;
    return info.Env().Undefined();
  }

  void call_back() {
    Napi::HandleScope scope(Env());
    Napi::FunctionReference callback = std::move(callback_);
    Napi::Object self = Value();
    let_go();
    callback.MakeCallback(self, {});
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    shut();
    let_go();
    return info.Env().Undefined();
  }

  void let_go() {
    if (is_held_) Unref();
    is_held_ = false;
  }

  void shut() {
    callback_.Reset();
    if (watch_ != nullptr) {
      uv_close(reinterpret_cast<uv_handle_t*>(&watch_->handle), [](uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); });
      watch_ = nullptr;
    }
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  int fd_ = -1;
  Watch* watch_ = nullptr;
  Napi::FunctionReference callback_;
  bool is_held_ = false;
};

Napi::Value serve(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const int fd = listen_messages(path);
  return fd >= 0 ? MessageSocket::wrap(info.Env(), fd) : throw_error(info.Env(), -fd, "listen on unix:" + path);
}

Napi::Value connect(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const int fd = connect_messages(path);
  return fd >= 0 ? MessageSocket::wrap(info.Env(), fd) : throw_error(info.Env(), -fd, "connect to unix:" + path);
}

Napi::Value adopt(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  // Inherited as it was left.
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) != 0)
    return throw_error(info.Env(), errno, "descriptor " + std::to_string(fd));
  return MessageSocket::wrap(info.Env(), fd);
}

Napi::Value socket_pair(const Napi::CallbackInfo& info) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return throw_error(info.Env(), errno, "socketpair");
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  for (uint32_t i = 0; i < 2; i++) pair.Set(i, Napi::Number::New(info.Env(), ends[i]));
  return pair;
}

Napi::Value close_descriptor(const Napi::CallbackInfo& info) {
  ::close(info[0].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

}  // namespace

void register_message_socket(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Napi::FunctionReference(Napi::Persistent(MessageSocket::define(env))));
  exports.Set("serveMessages", Napi::Function::New(env, serve, "serveMessages"));
  exports.Set("connectMessages", Napi::Function::New(env, connect, "connectMessages"));
  exports.Set("adoptMessages", Napi::Function::New(env, adopt, "adoptMessages"));
  exports.Set("socketPair", Napi::Function::New(env, socket_pair, "socketPair"));
  exports.Set("closeDescriptor", Napi::Function::New(env, close_descriptor, "closeDescriptor"));
}

}  // namespace weft
