#include "units/protocol.h"

#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>

#include "units/show.h"

namespace skos::units {
namespace {

std::string_view TakeWord(std::string_view* text) {
  const size_t blank = text->find(' ');
  const std::string_view word = text->substr(0, blank);
  *text = blank == std::string_view::npos ? std::string_view() : text->substr(blank + 1);
  return word;
}

bool Number(std::string_view text, int64_t min, int64_t max, int64_t* out) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *out);
  return result.ec == std::errc() && result.ptr == end && *out >= min && *out <= max;
}

bool IsKey(std::string_view text) {
  return !text.empty() && text.size() <= kMaxKeyBytes && text != "-" &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789:_.@~/-") == std::string_view::npos;
}

bool ParseKnob(std::string_view word, Knob* out) {
  if (word == "quota") *out = Knob::kQuota;
  if (word == "freeze") *out = Knob::kFreeze;
  if (word == "run") *out = Knob::kRun;
  return word == "quota" || word == "freeze" || word == "run";
}

bool ParseValue(std::string_view text, Knob knob, int64_t* out) {
  if (knob != Knob::kQuota) return Number(text, 0, 1, out);
  return Number(text, kNoQuota, kMaxQuotaPpm, out) && (*out == kNoQuota || (*out > 0 && *out % 100 == 0));
}

bool ParseKnobRequest(std::string_view rest, Request* out) {
  if (!ParseKnob(TakeWord(&rest), &out->knob)) return false;
  // Two blanks in a row, or one at the end, give an empty word, which nothing accepts.
  if (out->verb == Verb::kGet) {
    out->unit = rest;
    return IsUnit(rest);
  }
  out->unit = TakeWord(&rest);
  return IsUnit(out->unit) && ParseValue(rest, out->knob, &out->value);
}

bool ParseJobRequest(std::string_view rest, Request* out) {
  out->key = TakeWord(&rest);
  const std::string_view verb = TakeWord(&rest);
  out->unit = TakeWord(&rest);
  if (!IsKey(out->key) || !ParseJobVerb(verb, &out->job) || !IsUnit(out->unit) || !IsService(out->unit)) return false;
  if (out->verb == Verb::kJob) return Number(rest, kMinTimeoutMs, kMaxTimeoutMs, &out->timeout_ms);
  return Number(TakeWord(&rest), kMinTimeoutMs, kMaxTimeoutMs, &out->timeout_ms) && Number(rest, 0, kMaxAgeMs, &out->age_ms);
}

void Add(Words* words, const char* word) { words->words[words->count++] = word; }

// Of every call: it asks nobody for a password, and prints for a program.
void Begin(Words* words, const char* verb) {
  *words = Words();
  Add(words, "--no-ask-password");
  Add(words, "--no-pager");
  Add(words, verb);
}

}  // namespace

int ParseRequest(std::string_view packet, Request* out) {
  *out = Request();
  const std::string_view verb = TakeWord(&packet);
  bool whole = false;
  if (verb == "get" || verb == "set") {
    out->verb = verb == "get" ? Verb::kGet : Verb::kSet;
    whole = ParseKnobRequest(packet, out);
  } else if (verb == "job" || verb == "await") {
    out->verb = verb == "job" ? Verb::kJob : Verb::kAwait;
    whole = ParseJobRequest(packet, out);
  }
  if (!whole) return EINVAL;
  const bool changes = out->verb == Verb::kSet || out->verb == Verb::kJob;
  return changes && IsVital(out->unit) ? EPERM : 0;
}

void WordsOf(const Request& request, Words* out) {
  if (request.verb == Verb::kJob) {
    Begin(out, JobVerbWord(request.job));
    Add(out, "--");
    Add(out, request.unit.c_str());
    return;
  }
  if (request.verb != Verb::kSet) return WordsOfShow(request.unit, out);
  if (request.knob != Knob::kQuota) {
    const bool is_freeze = request.knob == Knob::kFreeze;
    Begin(out, request.value == 0 ? (is_freeze ? "freeze" : "start") : (is_freeze ? "thaw" : "stop"));
    Add(out, "--");
    Add(out, request.unit.c_str());
    return;
  }
  Begin(out, "set-property");
  Add(out, "--runtime");
  Add(out, "--");
  Add(out, request.unit.c_str());
  if (request.value == kNoQuota) {
    out->property = "CPUQuota=";
  } else {
    // Percent with no more decimals than it needs: older ones take one, the oldest none.
    char text[48];
    const int64_t hundredths = request.value / 100;
    if (hundredths % 100 == 0) {
      std::snprintf(text, sizeof text, "CPUQuota=%" PRId64 "%%", hundredths / 100);
    } else if (hundredths % 10 == 0) {
      std::snprintf(text, sizeof text, "CPUQuota=%" PRId64 ".%" PRId64 "%%", hundredths / 100, hundredths % 100 / 10);
    } else {
      std::snprintf(text, sizeof text, "CPUQuota=%" PRId64 ".%02" PRId64 "%%", hundredths / 100, hundredths % 100);
    }
    out->property = text;
  }
  Add(out, out->property.c_str());
}

void WordsOfShow(const std::string& unit, Words* out) {
  Begin(out, "show");
  Add(out, "-p");
  Add(out, kShownProperties);
  Add(out, "--");
  Add(out, unit.c_str());
}

}  // namespace skos::units
