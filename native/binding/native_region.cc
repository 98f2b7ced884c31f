#include "binding/native_region.h"

#include <string>

#include "binding/errors.h"
#include "sampler/clock.h"

namespace skos::binding {

Napi::Function NativeRegion::Define(Napi::Env env) {
  return DefineClass(env, "NativeRegion",
                     {
                         InstanceMethod<&NativeRegion::Refresh>("refresh"),
                         InstanceMethod<&NativeRegion::Drain>("drain"),
                         InstanceAccessor<&NativeRegion::Overruns>("overruns"),
                         InstanceMethod<&NativeRegion::Close>("close"),
                     });
}

NativeRegion::NativeRegion(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeRegion>(info) {
  Napi::Env env = info.Env();
  const int fd = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
  std::string why;
  reader_ = RegionReader::Open(fd, &why);
  if (reader_ == nullptr) {
    ThrowCoded(env, "SKOS_GPU_PROTOCOL", "no region of readings: " + why);
    return;
  }
  Napi::Object self = info.This().As<Napi::Object>();
  auto define = [&](const char* name, Napi::Value value) {
    self.DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_enumerable));
  };
  const std::string_view description = reader_->description();
  define("description", Napi::String::New(env, description.data(), description.size()));
  define("channelCount", Napi::Number::New(env, static_cast<double>(reader_->channel_count())));
  arrays_ = std::make_unique<ReadingArrays>(env, self, reader_->channel_count());
}

void NativeRegion::Refresh(const Napi::CallbackInfo&) {
  if (reader_ == nullptr) return;
  reader_->Latest(MonotonicNs(), arrays_->latest());
  arrays_->ShowLatest();
}

Napi::Value NativeRegion::Drain(const Napi::CallbackInfo& info) {
  if (reader_ == nullptr) return Napi::Number::New(info.Env(), 0);
  const size_t count = reader_->Drain(MonotonicNs(), arrays_->drained(), arrays_->drained_capacity());
  arrays_->ShowDrained(count);
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value NativeRegion::Overruns(const Napi::CallbackInfo& info) {
  const uint64_t overruns = reader_ == nullptr ? overruns_ : reader_->overruns();
  return Napi::Number::New(info.Env(), static_cast<double>(overruns));
}

void NativeRegion::Close(const Napi::CallbackInfo&) {
  if (reader_ != nullptr) overruns_ = reader_->overruns();
  reader_ = nullptr;
}

}  // namespace skos::binding
