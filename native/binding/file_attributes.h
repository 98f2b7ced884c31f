// Extended attributes and times of an open file, which Node.js does not offer: what is archived takes them along.
#ifndef SKOS_BINDING_FILE_ATTRIBUTES_H_
#define SKOS_BINDING_FILE_ATTRIBUTES_H_

#include <napi.h>

namespace skos::binding {

// attributeNames(fd) → an array of names, one character for each byte, or an errno. Those that the process may not see are not in
// it: trusted.* without CAP_SYS_ADMIN. Empty where the file system has no attributes.
Napi::Value AttributeNames(const Napi::CallbackInfo& info);

// getAttribute(fd, name) → a Buffer, or an errno: ENODATA when it is gone.
Napi::Value GetAttribute(const Napi::CallbackInfo& info);

// setAttribute(fd, name, value) → 0 or an errno.
Napi::Value SetAttribute(const Napi::CallbackInfo& info);

// removeAttribute(fd, name) → 0 or an errno.
Napi::Value RemoveAttribute(const Napi::CallbackInfo& info);

// setTimes(fd, atimeNs, mtimeNs) → 0 or an errno. BigInts: a double has no nanoseconds.
Napi::Value SetTimes(const Napi::CallbackInfo& info);

}  // namespace skos::binding

#endif  // SKOS_BINDING_FILE_ATTRIBUTES_H_
