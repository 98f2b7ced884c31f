// The addon's entry: what JS sees. src/sensors/addon.ts is the only file that loads it.
//
// Each environment has its own Instance; nothing is global. Worker threads are refused: a worker may end at any moment,
// while the sampler's threads and its readings belong to the process.
#include <napi.h>
#include <unistd.h>

#include "binding/datagrams.h"
#include "binding/errors.h"
#include "binding/file_attributes.h"
#include "binding/instance.h"
#include "binding/kmsg_reader.h"
#include "binding/native_region.h"
#include "binding/native_sampler.h"
#include "binding/seq_packet.h"
#include "binding/sockets.h"
#include "binding/uevent_socket.h"

namespace skos::binding {
namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  // Linux: the main thread's id is the process id.
  if (gettid() != getpid()) {
    ThrowCoded(env, "SKOS_ADDON_WORKER", "the native addon was loaded in a worker thread");
    return exports;
  }
  env.SetInstanceData(new Instance());
  exports.Set("NativeRegion", NativeRegion::Define(env));
  exports.Set("NativeSampler", NativeSampler::Define(env));
  exports.Set("SeqPacket", SeqPacket::Define(env));
  exports.Set("KmsgReader", KmsgReader::Define(env));
  exports.Set("UeventSocket", UeventSocket::Define(env));
  exports.Set("journalSend", Napi::Function::New<JournalSend>(env, "journalSend"));
  exports.Set("notify", Napi::Function::New<Notify>(env, "notify"));
  exports.Set("peerCredentials", Napi::Function::New<PeerCredentials>(env, "peerCredentials"));
  exports.Set("lockFile", Napi::Function::New<LockFile>(env, "lockFile"));
  exports.Set("attributeNames", Napi::Function::New<AttributeNames>(env, "attributeNames"));
  exports.Set("getAttribute", Napi::Function::New<GetAttribute>(env, "getAttribute"));
  exports.Set("setAttribute", Napi::Function::New<SetAttribute>(env, "setAttribute"));
  exports.Set("removeAttribute", Napi::Function::New<RemoveAttribute>(env, "removeAttribute"));
  exports.Set("setTimes", Napi::Function::New<SetTimes>(env, "setTimes"));
  return exports;
}

NODE_API_MODULE(skos, Init)

}  // namespace
}  // namespace skos::binding
