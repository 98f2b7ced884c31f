// Datagrams that systemd understands: the native journal protocol and sd_notify. Node.js has no Unix datagram sockets.
// Formats: systemd.io/JOURNAL_NATIVE_PROTOCOL, sd_notify(3). Nothing here blocks.
#ifndef SKOS_BINDING_DATAGRAMS_H_
#define SKOS_BINDING_DATAGRAMS_H_

#include <napi.h>

namespace skos::binding {

// journalSend(socketPath, fields) → 0 or errno. `fields`: an object of NAME to string, number or Uint8Array; a name that
// journald would refuse makes the whole entry EINVAL. An entry too large for a datagram goes as a sealed memfd.
Napi::Value JournalSend(const Napi::CallbackInfo& info);

// notify(state) → 0 or errno; ENOENT when there is no $NOTIFY_SOCKET, that is when systemd did not start us.
Napi::Value Notify(const Napi::CallbackInfo& info);

}  // namespace skos::binding

#endif  // SKOS_BINDING_DATAGRAMS_H_
