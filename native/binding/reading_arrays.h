// The arrays that readings are copied into for JS, as properties of the object that reads them: values qualities timesMs, one
// element a channel, and drained{Channels,Values,Qualities,TimesMs}, one a record of the last drain().
//
// Their memory is shared between the object and V8, so that a detached or outliving array harms nobody.
#ifndef SKOS_BINDING_READING_ARRAYS_H_
#define SKOS_BINDING_READING_ARRAYS_H_

#include <napi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "sampler/sampler.h"

namespace skos::binding {

double ToMs(int64_t ns);

// JS thread, all of it.
class ReadingArrays {
 public:
  ReadingArrays(Napi::Env env, Napi::Object self, size_t channels);

  // latest()[channels] is filled by the caller; ShowLatest() then puts it where JS looks.
  Reading* latest() { return latest_.data(); }
  void ShowLatest();
  // The same with up to drained_capacity() records.
  Record* drained() { return drained_.data(); }
  size_t drained_capacity() const { return drained_.size(); }
  void ShowDrained(size_t count);

 private:
  struct Memory;

  const std::shared_ptr<Memory> memory_;
  std::vector<Reading> latest_;
  std::vector<Record> drained_;
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_READING_ARRAYS_H_
