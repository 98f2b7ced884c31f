#include "binding/kmsg_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>

namespace skos::binding {
namespace {

constexpr double kNsPerMs = 1e6;

Napi::Object ToJs(Napi::Env env, const QueuedEvent& event) {
  Napi::Object detail = Napi::Object::New(env);
  for (const auto& [name, value] : event.details) detail.Set(name, Napi::String::New(env, value));
  Napi::Object out = Napi::Object::New(env);
  out.Set("kind", Napi::String::New(env, KernelEventWord(event.kind)));
  out.Set("address", Napi::String::New(env, event.address));
  out.Set("code", event.has_code ? Napi::Number::New(env, event.code).As<Napi::Value>() : env.Null());
  out.Set("detail", detail);
  out.Set("text", Napi::String::New(env, event.text));
  out.Set("atMs", Napi::Number::New(env, static_cast<double>(event.at_ns) / kNsPerMs));
  out.Set("count", Napi::Number::New(env, event.count));
  return out;
}

// −1 and errno when there is none.
int Descriptor(const Napi::Object& from) {
  const Napi::Value path = from.Get("path");
  if (path.IsString()) {
    const std::string name = path.As<Napi::String>().Utf8Value();
    return open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  }
  const Napi::Value fd = from.Get("fd");
  if (fd.IsNumber()) return fcntl(fd.As<Napi::Number>().Int32Value(), F_DUPFD_CLOEXEC, 3);
  errno = EINVAL;
  return -1;
}

}  // namespace

Napi::Function KmsgReader::Define(Napi::Env env) {
  return DefineClass(env, "KmsgReader",
                     {
                         InstanceMethod<&KmsgReader::Open>("open"),
                         InstanceMethod<&KmsgReader::Take>("take"),
                         InstanceMethod<&KmsgReader::Close>("close"),
                     });
}

KmsgReader::KmsgReader(const Napi::CallbackInfo& info) : Napi::ObjectWrap<KmsgReader>(info) {
  if (!info[0].IsFunction()) {
    Napi::TypeError::New(info.Env(), "onReady is no function").ThrowAsJavaScriptException();
    return;
  }
  on_ready_ = Napi::Persistent(info[0].As<Napi::Function>());
}

KmsgReader::~KmsgReader() { CloseNow(); }

Napi::Value KmsgReader::Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject()) return Napi::Number::New(env, EINVAL);
  if (log_ != nullptr) return Napi::Number::New(env, EISCONN);
  const Napi::Object given = info[0].As<Napi::Object>();
  const int fd = Descriptor(given);
  if (fd < 0) return Napi::Number::New(env, errno);
  wake_ = Wake::Create(env, "skos kmsg", [this](Napi::Env) { on_ready_.Call({}); });
  KmsgLog::Options options;
  options.fd = fd;
  const Napi::Value after = given.Get("after");
  if (after.IsNumber()) options.after = static_cast<uint64_t>(after.As<Napi::Number>().Int64Value());
  options.from_start = given.Get("fromStart").ToBoolean().Value();
  options.on_ready = [wake = wake_] { wake->Call(); };
  int error = 0;
  log_ = KmsgLog::Start(std::move(options), &error);
  if (log_ == nullptr) {
    wake_->Close();
    wake_ = nullptr;
  } else {
    Ref();  // Against the collector, until it is closed.
  }
  return Napi::Number::New(env, error);
}

Napi::Value KmsgReader::Take(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const KmsgBatch batch = log_ == nullptr ? KmsgBatch() : log_->Take();
  Napi::Array events = Napi::Array::New(env, batch.events.size());
  for (size_t i = 0; i < batch.events.size(); ++i) events.Set(static_cast<uint32_t>(i), ToJs(env, batch.events[i]));
  Napi::Object out = Napi::Object::New(env);
  out.Set("events", events);
  const bool any = batch.sequence != kNoSequence;
  out.Set("sequence", any ? Napi::Number::New(env, static_cast<double>(batch.sequence)).As<Napi::Value>() : env.Null());
  out.Set("overwritten", Napi::Number::New(env, static_cast<double>(batch.overwritten)));
  out.Set("dropped", Napi::Number::New(env, static_cast<double>(batch.dropped)));
  out.Set("error", Napi::Number::New(env, batch.error));
  return out;
}

void KmsgReader::Close(const Napi::CallbackInfo&) {
  const bool held = log_ != nullptr;
  CloseNow();
  if (held) Unref();
}

void KmsgReader::CloseNow() {
  if (log_ != nullptr) log_->Stop();
  log_ = nullptr;
  if (wake_ != nullptr) wake_->Close();
  wake_ = nullptr;
}

}  // namespace skos::binding
