// The addon's entry: registers the functions of agent/native/engine.ts, access-log.ts, capture.ts and message-socket.ts.
#include <napi.h>

#include "napi/bindings.h"

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  weft::register_engine(env, exports);
  weft::register_access_log(env, exports);
  weft::register_capture(env, exports);
  weft::register_message_socket(env, exports);
  return exports;
}

NODE_API_MODULE(weft, initialize)
