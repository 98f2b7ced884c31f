// Errors for JS: a message and a code of src/core/errors.ts. Thrown as a JS exception, never as a C++ one.
#ifndef SKOS_BINDING_ERRORS_H_
#define SKOS_BINDING_ERRORS_H_

#include <napi.h>

#include <cstring>
#include <string>

namespace skos::binding {

inline void ThrowCoded(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Value().Set("code", Napi::String::New(env, code));
  error.ThrowAsJavaScriptException();
}

inline std::string Words(const std::string& what, int error) { return what + ": " + std::strerror(error); }

}  // namespace skos::binding

#endif  // SKOS_BINDING_ERRORS_H_
