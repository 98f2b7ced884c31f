// JS object UeventSocket: news of devices that come and go, as the kernel broadcasts it (NETLINK_KOBJECT_UEVENT).
//
//   new UeventSocket(onEvents)   onEvents([{ action, subsystem, isVirtual }], lost): each combination once
//   open() → 0 or errno   close()
//
// A thread of its own sleeps in poll(). After the first event it lets them gather for a while, so that a disk with its partitions,
// or a driver with its thousand devices, is one call; `lost` says that some did not fit. Does not keep the process alive.
#ifndef SKOS_BINDING_UEVENT_SOCKET_H_
#define SKOS_BINDING_UEVENT_SOCKET_H_

#include <napi.h>

#include <memory>

#include "binding/wake.h"

namespace skos::binding {

// JS thread, all of it; what the receiving thread needs is in Link.
class UeventSocket : public Napi::ObjectWrap<UeventSocket> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit UeventSocket(const Napi::CallbackInfo& info);
  ~UeventSocket() override;

 private:
  class Link;

  Napi::Value Open(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  int Listen(Napi::Env env);
  void Deliver(Napi::Env env);
  void Disconnect();

  Napi::FunctionReference on_events_;
  std::shared_ptr<Wake> wake_;
  std::shared_ptr<Link> link_;
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_UEVENT_SOCKET_H_
