// JS object NativeSampler: one sampler, the arrays that its readings are copied into, and the crossings on their way to JS.
//
//   new NativeSampler(channels, tripwires, { ringRecords, readDeadlineMs, onCrossing })
//   start() stop() refresh() drain() → count; overruns; the arrays of reading_arrays.h
#ifndef SKOS_BINDING_NATIVE_SAMPLER_H_
#define SKOS_BINDING_NATIVE_SAMPLER_H_

#include <napi.h>

#include <memory>

#include "binding/reading_arrays.h"
#include "binding/wake.h"
#include "sampler/sampler.h"

namespace skos::binding {

// JS thread, all of it, but for what crosses through CrossingQueue.
class NativeSampler : public Napi::ObjectWrap<NativeSampler> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NativeSampler(const Napi::CallbackInfo& info);
  ~NativeSampler() override;

 private:
  class CrossingQueue;

  void Deliver(Napi::Env env);

  void Start(const Napi::CallbackInfo& info);
  void Stop(const Napi::CallbackInfo& info);
  void Refresh(const Napi::CallbackInfo& info);
  Napi::Value Drain(const Napi::CallbackInfo& info);
  Napi::Value Overruns(const Napi::CallbackInfo& info);

  void StopNow();

  std::unique_ptr<ReadingArrays> arrays_;
  std::shared_ptr<CrossingQueue> crossings_;
  std::shared_ptr<Wake> wake_;
  Napi::FunctionReference on_crossing_;
  std::unique_ptr<Sampler> sampler_;
  bool held_ = false;  // Against the collector.
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_NATIVE_SAMPLER_H_
