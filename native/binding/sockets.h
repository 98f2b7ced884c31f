// Small things about Unix sockets and files that Node.js does not offer.
#ifndef SKOS_BINDING_SOCKETS_H_
#define SKOS_BINDING_SOCKETS_H_

#include <napi.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string>

namespace skos::binding {

// A path, or "@name" in the abstract name space. False when it does not fit.
bool ToUnixAddress(const std::string& path, sockaddr_un* address, socklen_t* length);

// peerCredentials(fd) → { pid, uid, gid, groups }, as the kernel noted them at connect(). Throws an Error whose code is
// the errno's name.
Napi::Value PeerCredentials(const Napi::CallbackInfo& info);

// lockFile(path) → a file descriptor that holds an exclusive flock for as long as it is open, or −errno: −EWOULDBLOCK when
// another process holds it.
Napi::Value LockFile(const Napi::CallbackInfo& info);

}  // namespace skos::binding

#endif  // SKOS_BINDING_SOCKETS_H_
