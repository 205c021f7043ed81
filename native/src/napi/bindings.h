// What each binding file adds to the addon's exports.
#pragma once
#include <napi.h>

namespace weft {

void register_access_log(Napi::Env env, Napi::Object exports);
void register_engine(Napi::Env env, Napi::Object exports);
void register_capture(Napi::Env env, Napi::Object exports);
void register_message_socket(Napi::Env env, Napi::Object exports);

}  // namespace weft
