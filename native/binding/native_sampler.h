// JS object NativeSampler: one sampler, the arrays that its readings are copied into, and the crossings on their way to JS.
//
//   new NativeSampler(channels, tripwires, { ringRecords, readDeadlineMs, onCrossing })
//   start() stop() refresh() drain() → count; overruns; values qualities timesMs; drained{Channels,Values,Qualities,TimesMs}
//
// The arrays' memory is shared between the object and V8, so that a detached or outliving array harms nobody.
#ifndef SKOS_BINDING_NATIVE_SAMPLER_H_
#define SKOS_BINDING_NATIVE_SAMPLER_H_

#include <napi.h>

#include <memory>
#include <vector>

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
  struct Arrays;
  class CrossingQueue;

  void DefineArrays(Napi::Env env, Napi::Object self);
  void Deliver(Napi::Env env);

  void Start(const Napi::CallbackInfo& info);
  void Stop(const Napi::CallbackInfo& info);
  void Refresh(const Napi::CallbackInfo& info);
  Napi::Value Drain(const Napi::CallbackInfo& info);
  Napi::Value Overruns(const Napi::CallbackInfo& info);

  void StopNow();

  std::shared_ptr<Arrays> arrays_;
  std::shared_ptr<CrossingQueue> crossings_;
  std::shared_ptr<Wake> wake_;
  Napi::FunctionReference on_crossing_;
  std::unique_ptr<Sampler> sampler_;
  std::vector<Reading> latest_;
  std::vector<Record> drained_;
  bool held_ = false;  // Against the collector.
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_NATIVE_SAMPLER_H_
