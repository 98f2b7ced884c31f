#include "binding/file_attributes.h"

#include <errno.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace skos::binding {
namespace {

constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

Napi::Value Errno(Napi::Env env, int error) { return Napi::Number::New(env, error); }

Napi::Value ErrnoUnless(Napi::Env env, bool ok) { return Errno(env, ok ? 0 : errno); }

int Fd(const Napi::Value& value) { return value.IsNumber() ? value.As<Napi::Number>().Int32Value() : -1; }

// A name is what the kernel has, bytes: one character of JS for each. Empty where it is none.
std::string Name(const Napi::Value& value) {
  if (!value.IsString()) return {};
  const std::u16string units = value.As<Napi::String>().Utf16Value();
  std::string name;
  for (const char16_t unit : units) {
    if (unit == 0 || unit > 0xff || name.size() >= XATTR_NAME_MAX) return {};
    name.push_back(static_cast<char>(unit));
  }
  return name;
}

Napi::String Characters(Napi::Env env, const char* bytes) {
  std::u16string units;
  for (const char* at = bytes; *at != '\0'; at++) units.push_back(static_cast<unsigned char>(*at));
  return Napi::String::New(env, units);
}

bool ToTimespec(const Napi::Value& value, timespec* out) {
  if (!value.IsBigInt()) return false;
  bool lossless = false;
  const int64_t ns = value.As<Napi::BigInt>().Int64Value(&lossless);
  // Before 1970 the remainder is negative.
  const int64_t rest = (ns % kNanosecondsPerSecond + kNanosecondsPerSecond) % kNanosecondsPerSecond;
  out->tv_sec = ns / kNanosecondsPerSecond - (ns % kNanosecondsPerSecond < 0 ? 1 : 0);
  out->tv_nsec = rest;
  return lossless;
}

}  // namespace

Napi::Value AttributeNames(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::vector<char> list(XATTR_LIST_MAX);
  const ssize_t length = flistxattr(Fd(info[0]), list.data(), list.size());
  Napi::Array names = Napi::Array::New(env);
  if (length < 0) return errno == EOPNOTSUPP ? names : Errno(env, errno);
  for (const char* at = list.data(); at < list.data() + length; at += std::strlen(at) + 1)
    names.Set(names.Length(), Characters(env, at));
  return names;
}

Napi::Value GetAttribute(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::vector<char> value(XATTR_SIZE_MAX);
  const ssize_t length = fgetxattr(Fd(info[0]), Name(info[1]).c_str(), value.data(), value.size());
  if (length < 0) return Errno(env, errno);
  return Napi::Buffer<char>::Copy(env, value.data(), static_cast<size_t>(length));
}

Napi::Value SetAttribute(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[2].IsBuffer()) return Errno(env, EINVAL);
  const auto value = info[2].As<Napi::Buffer<char>>();
  return ErrnoUnless(env, fsetxattr(Fd(info[0]), Name(info[1]).c_str(), value.Data(), value.Length(), 0) == 0);
}

Napi::Value RemoveAttribute(const Napi::CallbackInfo& info) {
  return ErrnoUnless(info.Env(), fremovexattr(Fd(info[0]), Name(info[1]).c_str()) == 0);
}

Napi::Value SetTimes(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  timespec times[2] = {};
  if (!ToTimespec(info[1], &times[0]) || !ToTimespec(info[2], &times[1])) return Errno(env, EINVAL);
  return ErrnoUnless(env, futimens(Fd(info[0]), times) == 0);
}

}  // namespace skos::binding
