// The way to systemd: a connection to skos-units, which has systemctl do what is asked. Packets: native/units/README.md.
#ifndef SKOS_ACTUATOR_UNIT_LINK_H_
#define SKOS_ACTUATOR_UNIT_LINK_H_

#include <cstdint>
#include <string>

namespace skos::actuator {

// One knob of one unit. All of it in the target's worker thread, which waits no longer than kUnitAnswerSeconds for an answer.
class UnitLink {
 public:
  // `knob`: "freeze batch.service".
  UnitLink(std::string socket_path, std::string knob) : socket_path_(std::move(socket_path)), knob_(std::move(knob)) {}
  ~UnitLink() { Close(); }
  UnitLink(const UnitLink&) = delete;
  UnitLink& operator=(const UnitLink&) = delete;

  // 0 or an errno. ENOENT: there is no such unit; ENXIO: it does not run; EAGAIN: it is on its way; ETIMEDOUT: systemctl or
  // skos-units did not answer; ENODEV: nobody listens; EOPNOTSUPP: systemd does not run here.
  int Read(int64_t* value);
  int Write(int64_t value);
  // Nothing of ours stands there: skos-units may leave when nobody is connected.
  void Close();

 private:
  int Ask(const std::string& request, int64_t* value);
  int Connect();
  int Exchange(const std::string& request, char* answer, size_t size);

  const std::string socket_path_;
  const std::string knob_;
  int fd_ = -1;
};

// A connection to a listener of SOCK_SEQPACKET at `path`, or -1 and errno. `flags` as socket() takes them beside the type;
// `deadline_s` bounds connecting, sending and receiving, 0: nothing does.
int ConnectTo(const std::string& path, int flags, int64_t deadline_s);

}  // namespace skos::actuator

#endif  // SKOS_ACTUATOR_UNIT_LINK_H_
