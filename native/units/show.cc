#include "units/show.h"

#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>

namespace skos::units {
namespace {

constexpr int64_t kMostUs = int64_t{1} << 53;

bool Digits(std::string_view text, int64_t* out) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *out);
  return !text.empty() && text[0] != '-' && result.ec == std::errc() && result.ptr == end;
}

struct SpanUnit {
  std::string_view name;
  int64_t us;
};
// As systemd writes them (format_timespan), the longest first where one begins with another.
constexpr SpanUnit kSpanUnits[] = {{"month", 2'629'800'000'000}, {"min", 60'000'000}, {"ms", 1'000}, {"us", 1},
                                   {"y", 31'557'600'000'000},    {"w", 604'800'000'000}, {"d", 86'400'000'000},
                                   {"h", 3'600'000'000},         {"s", 1'000'000}};

// "1.5s": the fraction in units of a millionth.
bool ParseSpanWord(std::string_view word, int64_t* out_us) {
  const size_t letters = word.find_first_not_of("0123456789.");
  if (letters == std::string_view::npos || letters == 0) return false;
  const std::string_view name = word.substr(letters);
  std::string_view number = word.substr(0, letters);
  int64_t millionths = 0;
  if (const size_t dot = number.find('.'); dot != std::string_view::npos) {
    const std::string_view fraction = number.substr(dot + 1);
    number = number.substr(0, dot);
    if (fraction.size() > 6 || !Digits(fraction, &millionths)) return false;
    for (size_t i = fraction.size(); i < 6; ++i) millionths *= 10;
  }
  int64_t whole = 0;
  if (number.size() > 15 || !Digits(number, &whole)) return false;
  for (const SpanUnit& unit : kSpanUnits) {
    if (name != unit.name) continue;
    if (whole > kMostUs / unit.us) return false;
    *out_us = whole * unit.us + static_cast<int64_t>(static_cast<__int128>(millionths) * unit.us / 1'000'000);
    return true;
  }
  return false;
}

bool TakeProperty(std::string_view name, std::string_view value, Shown* out) {
  if (name == "LoadState") out->load = value;
  if (name == "ActiveState") out->active = value;
  if (name == "Result") out->result = value;
  if (name == "FreezerState") {
    out->freezer = value;
    out->has_freezer = true;
  }
  if (name == "CPUQuotaPerSecUSec") {
    out->has_quota = true;
    return ParseTimeSpan(value, &out->quota_ppm);
  }
  if (name == "ExecMainStatus") return Digits(value, &out->main_status);
  if (name == "ExecMainStartTimestampMonotonic") return Digits(value, &out->main_started_us);
  if (name == "StateChangeTimestampMonotonic") return Digits(value, &out->changed_us);
  // "1234", and "" or "0" where there is none.
  if (name == "Job") return value.empty() || Digits(value, &out->job);
  return true;
}

// What the unit says of its last run is worth more than systemctl's 1, if that run ended since: a start whose dependency fails leaves what an
// earlier run left.
End FailedEnd(const Shown& shown, int status, int64_t since_us) {
  const bool is_its_own = shown.active == "failed" && shown.changed_us >= since_us;
  if (is_its_own && shown.result == "timeout") return {End::Word::kTimeout, false, 0};
  return {End::Word::kFailed, true, is_its_own && shown.main_status != 0 ? shown.main_status : status};
}

bool IsStopped(const Shown& shown) { return shown.active == "inactive" || shown.active == "failed"; }

}  // namespace

bool ParseTimeSpan(std::string_view text, int64_t* out_us) {
  if (text == "infinity") {
    *out_us = kNoQuota;
    return true;
  }
  int64_t sum_us = 0;
  for (;;) {
    const size_t blank = text.find(' ');
    int64_t part_us = 0;
    if (text.substr(0, blank) != "0" && !ParseSpanWord(text.substr(0, blank), &part_us)) return false;
    sum_us += part_us;
    if (sum_us > kMostUs) return false;
    if (blank == std::string_view::npos) break;
    text = text.substr(blank + 1);
  }
  *out_us = sum_us;
  return true;
}

bool ParseShow(std::string_view text, Shown* out) {
  *out = Shown();
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? std::string_view() : text.substr(newline + 1);
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos || !TakeProperty(line.substr(0, equals), line.substr(equals + 1), out)) return false;
  }
  return !out->load.empty() && !out->active.empty();
}

int KnobOf(const Shown& shown, Knob knob, int64_t* value) {
  const bool is_gone = shown.load == "not-found" && IsStopped(shown);
  if (is_gone) return ENOENT;
  switch (knob) {
    case Knob::kQuota:
      if (!shown.has_quota) return EOPNOTSUPP;
      *value = shown.quota_ppm;  // Microseconds in a second are millionths of one CPU.
      return 0;
    case Knob::kFreeze:
      if (!shown.has_freezer) return EOPNOTSUPP;
      // On its way is what was asked for, as in cgroup.freeze. "…-by-parent" is a slice's doing, which this unit is not thawed by.
      *value = shown.freezer == "frozen" || shown.freezer == "freezing" ? 0 : 1;
      return 0;
    case Knob::kRun:
      if (shown.active == "deactivating") return EAGAIN;
      *value = IsStopped(shown) ? 1 : 0;
      return 0;
  }
  return EINVAL;
}

End EndOf(const Shown& shown, JobVerb verb, int status, int64_t since_us) {
  if (status != 0) return FailedEnd(shown, status, since_us);
  // systemctl leaves as soon as a unit of Type=simple is forked; one that has failed by now did not start.
  const bool failed = verb == JobVerb::kStop ? !IsStopped(shown) && shown.active != "deactivating" : shown.active == "failed";
  if (failed) return FailedEnd(shown, status, since_us);
  return {End::Word::kDone, true, 0};
}

End Judge(const Shown& shown, JobVerb verb, int64_t since_us) {
  if (shown.job != 0 || shown.active == "deactivating") return {End::Word::kRunning, false, 0};
  if (verb == JobVerb::kStop) {
    return IsStopped(shown) ? End{End::Word::kDone, true, 0} : End{End::Word::kUnknown, false, 0};
  }
  // What runs already, or is about to, is not started again: what was asked for stands.
  if (verb == JobVerb::kStart && shown.active == "active") return {End::Word::kDone, true, 0};
  const bool ran = shown.main_started_us >= since_us || (verb == JobVerb::kStart && shown.changed_us >= since_us);
  if (shown.active == "activating" && (ran || verb == JobVerb::kStart)) return {End::Word::kRunning, false, 0};
  if (!ran) return {End::Word::kUnknown, false, 0};
  if (shown.active == "failed") return FailedEnd(shown, 1, since_us);
  return {End::Word::kDone, true, 0};
}

std::string FormatEnd(const End& end) {
  const std::string exit = end.has_exit ? std::to_string(end.exit) : "-";
  switch (end.word) {
    case End::Word::kDone:
      return "done " + exit;
    case End::Word::kFailed:
      return "failed " + exit;
    case End::Word::kTimeout:
      return "timeout";
    case End::Word::kUnavailable:
      return "err " + std::to_string(EOPNOTSUPP);
    case End::Word::kRunning:
    case End::Word::kUnknown:
      break;
  }
  return "unknown";
}

}  // namespace skos::units
