// JS object KmsgReader: follows the kernel's log (probes/kmsg_log.h) and hands over what in it is an event.
//
//   new KmsgReader(onReady)       onReady() when there is something to take, at most every 50 ms
//   open({fd} | {path}, {after, fromStart}) → 0 or errno   a descriptor is duplicated; after: a sequence number or null
//   take() → {events, sequence, overwritten, dropped, error}   sequence: null before the first record; error: 0 or errno
//   close()                       idempotent
//
// It does not keep the process alive. Opening does not block, not even on a FIFO that nobody writes.
#ifndef SKOS_BINDING_KMSG_READER_H_
#define SKOS_BINDING_KMSG_READER_H_

#include <napi.h>

#include <memory>

#include "binding/wake.h"
#include "probes/kmsg_log.h"

namespace skos::binding {

// JS thread, all of it.
class KmsgReader : public Napi::ObjectWrap<KmsgReader> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit KmsgReader(const Napi::CallbackInfo& info);
  ~KmsgReader() override;

 private:
  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Take(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void CloseNow();

  Napi::FunctionReference on_ready_;
  std::shared_ptr<Wake> wake_;
  std::shared_ptr<KmsgLog> log_;
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_KMSG_READER_H_
