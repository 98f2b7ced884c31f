#include "binding/datagrams.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "binding/instance.h"
#include "binding/sockets.h"
#include "probes/files.h"

namespace skos::binding {
namespace {

constexpr size_t kMaxNameBytes = 64;               // journald's own bound.
constexpr size_t kMaxEntryBytes = 4 * 1024 * 1024; // Far beyond any entry of ours; journald takes 768 MiB.

// journald: upper-case letters, digits and '_', not a digit or '_' at the beginning ('_' is reserved for trusted fields).
bool IsFieldName(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes || name.front() < 'A' || name.front() > 'Z') return false;
  for (const char c : name) {
    if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

bool ToBytes(Napi::Value value, std::string* out) {
  if (value.IsString()) {
    *out = value.As<Napi::String>().Utf8Value();
  } else if (value.IsNumber()) {
    *out = value.ToString().Utf8Value();
  } else if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    Napi::Uint8Array bytes = value.As<Napi::Uint8Array>();
    out->assign(reinterpret_cast<const char*>(bytes.Data()), bytes.ByteLength());
  } else {
    return false;
  }
  return true;
}

// "NAME=value\n"; a value that holds a newline goes behind its length, as 64 bits little endian.
void AppendField(std::string_view name, std::string_view value, std::string* entry) {
  entry->append(name);
  if (value.find('\n') == std::string_view::npos) {
    entry->push_back('=');
  } else {
    const uint64_t length = htole64(value.size());
    entry->push_back('\n');
    entry->append(reinterpret_cast<const char*>(&length), sizeof length);
  }
  entry->append(value);
  entry->push_back('\n');
}

bool ToEntry(Napi::Value value, std::string* entry) {
  if (!value.IsObject()) return false;
  Napi::Object fields = value.As<Napi::Object>();
  Napi::Array names = fields.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    Napi::HandleScope scope(value.Env());
    Napi::Value key = names.Get(i);
    const std::string name = key.ToString().Utf8Value();
    std::string bytes;
    if (!IsFieldName(name) || !ToBytes(fields.Get(key), &bytes)) return false;
    AppendField(name, bytes, entry);
    if (entry->size() > kMaxEntryBytes) return false;
  }
  return !entry->empty();
}

int SendTo(int fd, const sockaddr_un& address, socklen_t length, std::string_view payload) {
  ssize_t n;
  do {
    n = sendto(fd, payload.data(), payload.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&address), length);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? errno : 0;
}

int WriteAll(int fd, std::string_view payload) {
  while (!payload.empty()) {
    const ssize_t n = write(fd, payload.data(), payload.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    payload.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

// A message without bytes that carries the file descriptor; journald wants the memfd sealed against every change.
int SendAsMemfd(int fd, const sockaddr_un& address, socklen_t length, std::string_view payload) {
  UniqueFd memory(memfd_create("skos-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.valid()) return errno;
  if (const int error = WriteAll(memory.get(), payload)) return error;
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0) return errno;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_name = const_cast<sockaddr_un*>(&address);
  message.msg_namelen = length;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int sent = memory.get();
  memcpy(CMSG_DATA(header), &sent, sizeof sent);
  return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

int Send(Instance* instance, const std::string& path, std::string_view payload, bool memfd_allowed) {
  sockaddr_un address;
  socklen_t length = 0;
  if (!ToUnixAddress(path, &address, &length)) return ENAMETOOLONG;
  UniqueFd& datagram = instance->datagram;
  if (!datagram.valid()) datagram.Reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!datagram.valid()) return errno;
  const int error = SendTo(datagram.get(), address, length, payload);
  if (memfd_allowed && (error == EMSGSIZE || error == ENOBUFS)) return SendAsMemfd(datagram.get(), address, length, payload);
  return error;
}

}  // namespace

Napi::Value JournalSend(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string entry;
  const bool valid = info[0].IsString() && ToEntry(info[1], &entry);
  if (env.IsExceptionPending()) return env.Undefined();
  if (!valid) return Napi::Number::New(env, EINVAL);
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  return Napi::Number::New(env, Send(env.GetInstanceData<Instance>(), path, entry, true));
}

Napi::Value Notify(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const char* path = getenv("NOTIFY_SOCKET");
  if (path == nullptr || *path == '\0') return Napi::Number::New(env, ENOENT);
  if (!info[0].IsString()) return Napi::Number::New(env, EINVAL);
  const std::string state = info[0].As<Napi::String>().Utf8Value();
  return Napi::Number::New(env, Send(env.GetInstanceData<Instance>(), path, state, false));
}

}  // namespace skos::binding
