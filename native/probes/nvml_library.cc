#include "probes/nvml_library.h"

#include <dlfcn.h>

namespace skos::nvml {

void* SharedObject::Symbol(const char* name) const { return dlsym(handle_, name); }

std::unique_ptr<Library> Library::Load(const std::string& name, std::string* why, bool* absent) {
  *absent = false;
  void* const handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return std::make_unique<Library>(handle);
  const char* const error = dlerror();
  *why = error == nullptr ? name + ": cannot be loaded" : error;
  // The loader begins with the file that is missing; that may also be one that the library needs.
  *absent = why->rfind(name + ":", 0) == 0 && why->find("No such file or directory") != std::string::npos;
  return nullptr;
}

std::string Library::Explain(const char* call, int code) const {
  using ErrorString = const char* (*)(int);
  const auto error_string = reinterpret_cast<ErrorString>(object_.Symbol("nvmlErrorString"));
  const char* const text = error_string == nullptr ? nullptr : error_string(code);
  return std::string(call) + ": " + (text == nullptr ? "error" : text) + " (" + std::to_string(code) + ")";
}

}  // namespace skos::nvml
