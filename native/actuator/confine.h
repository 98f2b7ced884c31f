// What a taken-over actuator could still ask of the kernel: its own list of system calls, whoever starts it and wherever
// (systemd's list in the unit is wider, and a child of an agent has none).
//
// A call that is not on the list fails with EPERM and is logged by the kernel (audit, type=1326). It does not kill: a call that
// was forgotten here must cost one operation and not the protection of the node, and for who took the process over nothing
// succeeds in either case. Only a call by another architecture's entry kills, because no compiler makes one.
//
// Not possible from then on: to execute or fork, to change credentials, to trace, signal or look into another process, any
// socket that is not AF_UNIX, to listen anew, to map or make memory executable, to mount, load, reboot, set clocks, make
// devices or links, change owners or modes, and to install another filter.
#ifndef SKOS_ACTUATOR_CONFINE_H_
#define SKOS_ACTUATOR_CONFINE_H_

namespace skos::actuator {

// Every thread of the process, for its life. Sets no_new_privs. 0, or the errno with which the kernel refused. Main thread.
int Confine();

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_CONFINE_H_
