// JS object SeqPacket: a client of an AF_UNIX SOCK_SEQPACKET socket, which Node.js itself does not have.
//
//   new SeqPacket(onMessage)   onMessage(text, fd) for each packet in order; onMessage(null, -1) once, when the peer is gone
//   connect(path) → 0 or errno   send(text) → 0 or errno (EAGAIN: the peer does not read)   close()   ref() unref()
//
// A thread of its own receives into a bounded queue; when the queue is full it stops reading, so that the pressure is
// the sender's. Packets are at most 8192 bytes. `fd` is the descriptor that came with the packet, which is JS's to close then,
// or -1; only the first of several is taken, and what JS was not given is closed. An open connection is not collected when
// its handle is dropped.
#ifndef SKOS_BINDING_SEQ_PACKET_H_
#define SKOS_BINDING_SEQ_PACKET_H_

#include <napi.h>

#include <memory>

#include "binding/wake.h"

namespace skos::binding {

// JS thread, all of it; what the receiving thread needs is in Link.
class SeqPacket : public Napi::ObjectWrap<SeqPacket> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit SeqPacket(const Napi::CallbackInfo& info);
  ~SeqPacket() override;

 private:
  class Link;

  Napi::Value Connect(const Napi::CallbackInfo& info);
  Napi::Value Send(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void RefLoop(const Napi::CallbackInfo& info);
  void UnrefLoop(const Napi::CallbackInfo& info);

  int Open(const std::string& path, Napi::Env env);
  void Deliver(Napi::Env env);
  void Disconnect();
  void CloseNow();

  Napi::FunctionReference on_message_;
  std::shared_ptr<Wake> wake_;
  std::shared_ptr<Link> link_;
  bool keeps_alive_ = true;
};

}  // namespace skos::binding

#endif  // SKOS_BINDING_SEQ_PACKET_H_
