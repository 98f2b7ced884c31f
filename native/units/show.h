// What `systemctl show` says about a unit, and what follows from it. Pure.
#ifndef SKOS_UNITS_SHOW_H_
#define SKOS_UNITS_SHOW_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "units/protocol.h"

namespace skos::units {

// The properties that are asked for, as one word of systemctl's command line.
constexpr const char* kShownProperties =
    "LoadState,ActiveState,Result,ExecMainStatus,ExecMainStartTimestampMonotonic,StateChangeTimestampMonotonic,Job,FreezerState,"
    "CPUQuotaPerSecUSec";

constexpr int64_t kNoQuota = -1;

struct Shown {
  std::string load, active, result, freezer;
  bool has_freezer = false;
  int64_t quota_ppm = kNoQuota;  // Of one CPU.
  bool has_quota = false;
  int64_t main_status = 0;
  int64_t main_started_us = 0;  // CLOCK_MONOTONIC; 0: not in this boot.
  int64_t changed_us = 0;       // Likewise: when it entered ActiveState.
  int64_t job = 0;              // systemd's own; 0: none waits or runs.
};

// False when it is not what systemctl says: a line without "=", a number that is none, or no LoadState and ActiveState.
bool ParseShow(std::string_view text, Shown* out);

// "1min 30s", "1.500000s", "200ms", "infinity" in microseconds; kNoQuota for infinity. systemd.time(7).
bool ParseTimeSpan(std::string_view text, int64_t* out_us);

// The value of a knob, or an errno: ENOENT no such unit, EAGAIN on its way from one to the other, EOPNOTSUPP this systemd has no such thing.
int KnobOf(const Shown& shown, Knob knob, int64_t* value);

// What is known of a job.
struct End {
  enum class Word : uint8_t { kRunning, kDone, kFailed, kTimeout, kUnknown, kUnavailable };
  Word word = Word::kUnknown;
  bool has_exit = false;
  int64_t exit = 0;
};

// After systemctl left with `status`: what it says, with the unit's own word on its main process where that was started by it.
End EndOf(const Shown& shown, JobVerb verb, int status, int64_t since_us);

// Of a job whose systemctl nobody saw leave: by the unit's own times, of a start since `since_us`.
End Judge(const Shown& shown, JobVerb verb, int64_t since_us);

// As it is answered.
std::string FormatEnd(const End& end);

}  // namespace skos::units

#endif  // SKOS_UNITS_SHOW_H_
