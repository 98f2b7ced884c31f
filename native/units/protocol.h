// The packets of skos-units: README.md beside this file is their contract. Plain data and a strict parser.
#ifndef SKOS_UNITS_PROTOCOL_H_
#define SKOS_UNITS_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "units/job_verb.h"
#include "units/unit_name.h"

namespace skos::units {

constexpr size_t kMaxRequestBytes = 640;  // The longest: await, with a key and a unit of full length.
constexpr size_t kMaxKeyBytes = 185;     // A job of the allow-list (64), and the key of its attempt (120).
constexpr int64_t kMinTimeoutMs = 1'000;
constexpr int64_t kMaxTimeoutMs = 7'200'000;
constexpr int64_t kMaxAgeMs = int64_t{1} << 42;  // More than a century of one boot.
constexpr int64_t kMaxQuotaPpm = 1'000'000'000;  // A thousand CPUs.

enum class Verb : uint8_t { kGet, kSet, kJob, kAwait };
enum class Knob : uint8_t { kQuota, kFreeze, kRun };

struct Request {
  Verb verb = Verb::kGet;
  Knob knob = Knob::kQuota;
  int64_t value = 0;
  std::string unit;
  std::string key;
  JobVerb job = JobVerb::kStart;
  int64_t timeout_ms = 0;
  int64_t age_ms = 0;
};

// 0, EINVAL, or EPERM for a unit that must not be moved.
int ParseRequest(std::string_view packet, Request* out);

// The words behind `systemctl` that carry out a request; nothing else is ever executed. Of a get: show.
struct Words {
  static constexpr size_t kMax = 10;
  const char* words[kMax] = {};
  size_t count = 0;
  std::string property;  // What one of the words points at.
};
void WordsOf(const Request& request, Words* out);
void WordsOfShow(const std::string& unit, Words* out);

}  // namespace skos::units

#endif  // SKOS_UNITS_PROTOCOL_H_
