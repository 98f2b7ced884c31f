// Names of systemd units, as skos-units and the actuator's allow-list take them. Pure.
#ifndef SKOS_UNITS_UNIT_NAME_H_
#define SKOS_UNITS_UNIT_NAME_H_

#include <cstddef>
#include <string_view>

namespace skos::units {

// systemd takes 255 with the suffix (systemd.unit(5)).
constexpr size_t kMaxStemBytes = 240;
constexpr size_t kMaxUnitBytes = kMaxStemBytes + sizeof(".service") - 1;

inline bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

inline bool StartsWith(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

inline bool IsService(std::string_view unit) { return EndsWith(unit, ".service"); }

// `[A-Za-z0-9:_.\@-]{1,240}`, not with "-" first, and .service, .scope or .slice: no pattern, path or option of systemctl can be written so.
inline bool IsUnit(std::string_view unit) {
  for (const std::string_view suffix : {".service", ".scope", ".slice"}) {
    if (!EndsWith(unit, suffix)) continue;
    const std::string_view stem = unit.substr(0, unit.size() - suffix.size());
    constexpr std::string_view kTaken =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\@-";
    return !stem.empty() && stem.front() != '-' && stem.size() <= kMaxStemBytes &&
           stem.find_first_not_of(kTaken) == std::string_view::npos;
  }
  return false;
}

// What must not be frozen, capped or stopped, whatever a list says: without it nothing is taken back any more, or whoever writes to the
// journal stands still. The units that carry out our own jobs (skos-act-*) are no part of that.
inline bool IsVital(std::string_view unit) {
  for (const std::string_view whole : {"init.scope", "system.slice", "skos.slice", "systemd-journald.service"}) {
    if (unit == whole) return true;
  }
  return StartsWith(unit, "skos-") && !StartsWith(unit, "skos-act-");
}

}  // namespace skos::units

#endif  // SKOS_UNITS_UNIT_NAME_H_
