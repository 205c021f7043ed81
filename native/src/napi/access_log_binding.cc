// The functions of agent/native/access-log.ts. Converts and checks; formats nothing.
#include <napi.h>

#include <algorithm>

#include "core/access_log_lines.h"
#include "napi/bindings.h"

namespace weft {

namespace {

class AccessLogLinesObject : public Napi::ObjectWrap<AccessLogLinesObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "AccessLogLines",
        {InstanceMethod<&AccessLogLinesObject::set_label>("setLabel"), InstanceMethod<&AccessLogLinesObject::set_rule>("setRule"),
         InstanceMethod<&AccessLogLinesObject::forget_rules>("forgetRules"), InstanceMethod<&AccessLogLinesObject::take>("take")});
  }

  explicit AccessLogLinesObject(const Napi::CallbackInfo& info)
      : Napi::ObjectWrap<AccessLogLinesObject>(info),
        lines_({info[0].ToNumber().Uint32Value(), info[1].ToNumber().Uint32Value()}, info[2].ToBoolean()) {}

 private:
  void set_label(const Napi::CallbackInfo& info) { lines_.set_label(info[0].ToNumber().Uint32Value(), info[1].ToString().Utf8Value()); }

  void set_rule(const Napi::CallbackInfo& info) { lines_.set_rule(info[0].ToNumber().Uint32Value(), info[1].ToString().Utf8Value()); }

  void forget_rules(const Napi::CallbackInfo&) { lines_.forget_rules(); }

  Napi::Value take(const Napi::CallbackInfo& info) {
    Napi::Env env = info.Env();
    if (!info[0].IsTypedArray() || !info[1].IsTypedArray() || !info[2].IsTypedArray()) {
      Napi::TypeError::New(env, "take(ring, edges, out, at): expected typed arrays").ThrowAsJavaScriptException();
      return env.Undefined();
    }
    auto ring = info[0].As<Napi::Uint8Array>();
    auto edges = info[1].As<Napi::Int32Array>();
    auto out = info[2].As<Napi::Uint8Array>();
    const size_t at = std::min<size_t>(info[3].ToNumber().Uint32Value(), out.ByteLength());
    const AccessLogLines::Taken taken = lines_.take(ring.Data(), ring.ByteLength(), {edges.Data(), edges.ElementLength()},
                                                    {reinterpret_cast<char*>(out.Data()) + at, out.ByteLength() - at});
    Napi::Object result = Napi::Object::New(env);
    result.Set("end", Napi::Number::New(env, static_cast<double>(at + taken.written)));
    result.Set("missing", Napi::Number::New(env, static_cast<double>(taken.missing)));
    result.Set("id", Napi::Number::New(env, taken.id));
    return result;
  }

  AccessLogLines lines_;
};

}  // namespace

void register_access_log(Napi::Env env, Napi::Object exports) { exports.Set("AccessLogLines", AccessLogLinesObject::define(env)); }

}  // namespace weft
