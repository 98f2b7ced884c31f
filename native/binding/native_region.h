// JS object NativeRegion: the readings that another process writes into shared memory (sampler/region.h).
//
//   new NativeRegion(fd)   takes the descriptor over in any case; throws SKOS_GPU_PROTOCOL when it is no region
//   description channelCount; refresh() drain() → count; overruns; close(); the arrays of reading_arrays.h
//
// After close() nothing is read: refresh() leaves the arrays as they are, and drain() gives nothing.
#ifndef SKOS_BINDING_NATIVE_REGION_H_
#define SKOS_BINDING_NATIVE_REGION_H_

#include <napi.h>

#include <memory>

#include "binding/reading_arrays.h"
#include "sampler/region.h"

namespace skos::binding {

// JS thread, all of it.
class NativeRegion : public Napi::ObjectWrap<NativeRegion> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NativeRegion(const Napi::CallbackInfo& info);

 private:
  void Refresh(const Napi::CallbackInfo& info);
  Napi::Value Drain(const Napi::CallbackInfo& info);
  Napi::Value Overruns(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  std::unique_ptr<RegionReader> reader_;  // Absent after close().
  std::unique_ptr<ReadingArrays> arrays_;
  uint64_t overruns_ = 0;  // At close().
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_NATIVE_REGION_H_
