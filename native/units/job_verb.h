// What systemd is asked to do with a unit, in its own words: as the actuator's allow-list has them, and the packets of skos-units. Pure.
#ifndef SKOS_UNITS_JOB_VERB_H_
#define SKOS_UNITS_JOB_VERB_H_

#include <cstdint>
#include <string_view>

namespace skos::units {

enum class JobVerb : uint8_t { kStart, kStop, kRestart };

inline const char* JobVerbWord(JobVerb verb) {
  switch (verb) {
    case JobVerb::kStart:
      return "start";
    case JobVerb::kStop:
      return "stop";
    case JobVerb::kRestart:
      return "restart";
  }
  return "start";
}

inline bool ParseJobVerb(std::string_view word, JobVerb* out) {
  for (const JobVerb verb : {JobVerb::kStart, JobVerb::kStop, JobVerb::kRestart}) {
    if (word != JobVerbWord(verb)) continue;
    *out = verb;
    return true;
  }
  return false;
}

}  // namespace skos::units

#endif  // SKOS_UNITS_JOB_VERB_H_
