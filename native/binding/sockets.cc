#include "binding/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstddef>
#include <vector>

#include "binding/errors.h"

namespace skos::binding {
namespace {

constexpr size_t kMaxGroups = 65536;  // NGROUPS_MAX of Linux.

Napi::Value ThrowErrno(Napi::Env env, const char* what, int error) {
  ThrowCoded(env, strerrorname_np(error), Words(what, error));
  return env.Undefined();
}

// Supplementary groups; empty where the kernel is older than 4.13 and does not tell.
std::vector<gid_t> PeerGroups(int fd) {
  socklen_t bytes = 0;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &bytes) == 0 || errno != ERANGE) return {};
  std::vector<gid_t> groups(bytes / sizeof(gid_t));
  if (groups.size() > kMaxGroups) return {};
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes) != 0) return {};
  groups.resize(bytes / sizeof(gid_t));
  return groups;
}

}  // namespace

bool ToUnixAddress(const std::string& path, sockaddr_un* address, socklen_t* length) {
  *address = {};
  address->sun_family = AF_UNIX;
  const bool abstract = !path.empty() && path.front() == '@';
  // A path needs room for its end; an abstract name has none and is as long as the address says.
  if (path.empty() || path.size() + (abstract ? 0 : 1) > sizeof address->sun_path) return false;
  memcpy(address->sun_path, path.data(), path.size());
  if (abstract) address->sun_path[0] = '\0';
  *length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  return true;
}

Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsNumber()) return ThrowErrno(env, "peerCredentials", EINVAL);
  const int fd = info[0].As<Napi::Number>().Int32Value();
  ucred peer = {};
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return ThrowErrno(env, "peerCredentials", errno);
  Napi::Object out = Napi::Object::New(env);
  out.Set("pid", Napi::Number::New(env, peer.pid));
  out.Set("uid", Napi::Number::New(env, peer.uid));
  out.Set("gid", Napi::Number::New(env, peer.gid));
  Napi::Array list = Napi::Array::New(env);
  for (const gid_t group : PeerGroups(fd)) list.Set(list.Length(), Napi::Number::New(env, group));
  out.Set("groups", list);
  return out;
}

Napi::Value LockFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) return Napi::Number::New(env, -EINVAL);
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
  if (fd < 0) return Napi::Number::New(env, -errno);
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return Napi::Number::New(env, fd);
  const int error = errno;
  close(fd);
  return Napi::Number::New(env, -error);
}

}  // namespace skos::binding
