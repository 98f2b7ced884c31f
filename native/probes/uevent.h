// What the kernel says in its uevents, the news that udev lives on: lib/kobject_uevent.c.
#ifndef SKOS_PROBES_UEVENT_H_
#define SKOS_PROBES_UEVENT_H_

#include <string_view>

namespace skos {

// Views into the datagram.
struct Uevent {
  std::string_view action;     // add, remove, change, bind …
  std::string_view subsystem;  // block, net, pci …
  // A disk or network interface with nothing behind it, such as containers make by the hundred; an md array is none.
  bool is_virtual = false;
};

// "add@/devices/…" and NAME=value fields, each with its NUL. False for anything else, udev's own messages included. Actions and
// subsystems are at most 32 of [a-z0-9_-].
bool ParseUevent(std::string_view datagram, Uevent* out);

}  // namespace skos

#endif  // SKOS_PROBES_UEVENT_H_
