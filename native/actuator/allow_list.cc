#include "actuator/allow_list.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "units/unit_name.h"

namespace skos::actuator {
namespace {

constexpr std::string_view kHeader = "skos-allow 1";

struct KindName {
  std::string_view name;
  Kind kind;
};
constexpr KindName kKindNames[] = {{"cpufreq", Kind::kCpufreq},
                               {"pstate", Kind::kPstate},
                               {"rapl", Kind::kRapl},
                               {"quota", Kind::kQuota},
                               {"freeze", Kind::kFreeze},
                                   {"nvml_power", Kind::kNvmlPower},
                                   {"amdgpu_power", Kind::kAmdgpuPower},
                                   {"unit_quota", Kind::kUnitQuota},
                                   {"unit_freeze", Kind::kUnitFreeze},
                                   {"unit_run", Kind::kUnitRun},
                                   {"fan", Kind::kFan},
                                   {"nvml_clocks", Kind::kNvmlClocks},
                                   {"amdgpu_level", Kind::kAmdgpuLevel}};

// The next word of `line`, which loses it and the one blank behind it. Two blanks in a row give an empty word, which
// no field accepts: the format has exactly one blank between words.
std::string_view TakeWord(std::string_view* line) {
  const size_t blank = line->find(' ');
  std::string_view word = line->substr(0, blank);
  *line = blank == std::string_view::npos ? std::string_view() : line->substr(blank + 1);
  return word;
}

bool IsRelativePath(std::string_view text) {
  if (text.empty() || text.size() > kMaxPathBytes || text.front() == '/') return false;
  for (const char c : text) {
    if (c <= ' ' || c > '~') return false;
  }
  // No component may be "..": the path must stay under its root.
  for (size_t start = 0; start <= text.size();) {
    size_t end = text.find('/', start);
    if (end == std::string_view::npos) end = text.size();
    if (text.substr(start, end - start) == "..") return false;
    start = end + 1;
  }
  return true;
}

// Of a path that ends in "/" or "/." the name before that.
std::string_view LastName(std::string_view path) {
  for (;;) {
    const size_t slash = path.rfind('/');
    const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
    if (slash == std::string_view::npos || (!name.empty() && name != ".")) return name;
    path = path.substr(0, slash);
  }
}

// As the kernel writes it: domain, bus, device, function.
bool IsPciAddress(std::string_view text) {
  const auto hex = [](std::string_view part) {
    return part.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  };
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon < 4 || colon > 8 || text.size() != colon + 8) return false;
  const std::string_view tail = text.substr(colon);  // ":3b:00.0"
  return hex(text.substr(0, colon)) && hex(tail.substr(1, 2)) && tail[3] == ':' && hex(tail.substr(4, 2)) && tail[6] == '.' &&
         tail[7] >= '0' && tail[7] <= '7';
}

// A file "pwmN" below a hwmon: nothing else is ever written as a fan.
bool IsPwm(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || path.find("hwmon/") == std::string_view::npos) return false;
  const std::string_view leaf = path.substr(slash + 1);
  return leaf.size() >= 4 && leaf.size() <= 5 && leaf.substr(0, 3) == "pwm" &&
         leaf.find_first_not_of("0123456789", 3) == std::string_view::npos;
}

bool ParseDouble(std::string_view text, double* out) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *out);
  return result.ec == std::errc() && result.ptr == end && std::isfinite(*out);
}

// A `key=value` word; false when the key is another one.
bool Field(std::string_view word, std::string_view key, std::string_view* value) {
  if (word.size() <= key.size() || word.substr(0, key.size()) != key || word[key.size()] != '=') return false;
  *value = word.substr(key.size() + 1);
  return true;
}

bool IntegerField(std::string_view word, std::string_view key, int64_t min, int64_t max, int64_t* out) {
  std::string_view value;
  return Field(word, key, &value) && ParseInteger(value, out) && *out >= min && *out <= max;
}

const char* ParseController(std::string_view line, AllowList* list) {
  int64_t uid = 0;
  if (!ParseInteger(line, &uid) || uid < 0 || uid > UINT32_MAX - 1) return "controller needs one user id";
  if (list->controllers.size() >= 8) return "more than 8 controllers";
  list->controllers.push_back(uid);
  return nullptr;
}

const char* ParseTarget(std::string_view line, AllowList* list) {
  if (list->targets.size() >= kMaxTargets) return "more than 512 targets";
  TargetSpec target;
  const std::string_view id = TakeWord(&line);
  if (!IsId(id, kMaxIdBytes)) return "target needs an id of [a-z0-9:_.@~/-], at most 64";
  for (const TargetSpec& other : list->targets) {
    if (other.id == id) return "this target id stands twice";
  }
  target.id = id;
  const std::string_view kind_name = TakeWord(&line);
  bool known = false;
  for (const KindName& kind : kKindNames) {
    if (kind.name == kind_name) {
      target.kind = kind.kind;
      known = true;
    }
  }
  if (!known) return "kind is none of cpufreq, pstate, rapl, quota, freeze, nvml_power, amdgpu_power, unit_quota, unit_freeze, unit_run, fan, "
                     "nvml_clocks, amdgpu_level";
  const std::string_view path = TakeWord(&line);
  if (!IsRelativePath(path)) return "target needs a relative path without blanks and '..'";
  if (IsGpu(target.kind) && !IsPciAddress(path)) return "a GPU needs a PCI address such as 0000:3b:00.0";
  if (IsUnitKind(target.kind) && !units::IsUnit(path)) return "a unit needs a name such as batch.service";
  if (target.kind == Kind::kFan && !IsPwm(path)) return "a fan needs the path of its pwm file, such as devices/x/hwmon/*/pwm1";
  // The cgroup of a unit is named as the unit. Frozen by its own hand, the actuator would thaw nothing any more.
  if (IsCgroup(target.kind) && units::IsVital(LastName(path))) return "without this cgroup nothing is taken back";
  target.path = path;
  const int64_t lowest = IsSwitch(target.kind) ? 0 : 1;
  if (!IntegerField(line, "floor_ppm", lowest, kFullPpm, &target.floor_ppm)) return "floor_ppm is not 1 to 1000000";
  list->targets.push_back(std::move(target));
  return nullptr;
}

const char* ParseOrderTargets(std::string_view ids, const AllowList& list, OrderSpec* order) {
  while (!ids.empty()) {
    const size_t comma = ids.find(',');
    const std::string_view id = ids.substr(0, comma);
    ids = comma == std::string_view::npos ? std::string_view() : ids.substr(comma + 1);
    size_t index = 0;
    while (index < list.targets.size() && list.targets[index].id != id) ++index;
    if (index == list.targets.size()) return "an order names a target that no line above allows";
    if (order->targets.size() >= kMaxOrderTargets) return "more than 64 targets in one order";
    if (order->cap_ppm < list.targets[index].floor_ppm) return "cap_ppm is below the floor of a target";
    order->targets.push_back(index);
  }
  return order->targets.empty() ? "an order needs a target" : nullptr;
}

const char* ParseOrder(std::string_view line, AllowList* list) {
  if (list->orders.size() >= kMaxOrders) return "more than 64 orders";
  OrderSpec order;
  const std::string_view name = TakeWord(&line);
  if (!IsId(name, kMaxIdBytes)) return "order needs a name of [a-z0-9:_.@~/-], at most 64";
  for (const OrderSpec& other : list->orders) {
    if (other.name == name) return "this order's name stands twice";
  }
  order.name = name;
  std::string_view value;
  const std::string_view sensor = TakeWord(&line);
  if (Field(sensor, "gpu", &value)) {
    if (!IsPciAddress(value)) return "a GPU needs a PCI address such as 0000:3b:00.0";
    order.gpu = value;
    if (!Field(TakeWord(&line), "channel", &value) || !IsId(value, kMaxIdBytes)) return "channel is no name of a GPU's channel";
  } else if (!Field(sensor, "sensor", &value) || !IsRelativePath(value)) {
    return "sensor is no relative path";
  }
  order.sensor = value;
  constexpr int64_t kBound = int64_t{1} << 53;  // What a double, and so a reading, holds exactly.
  int64_t samples = 0;
  if (!IntegerField(TakeWord(&line), "raise", -kBound, kBound, &order.raise)) return "raise is no integer";
  if (!IntegerField(TakeWord(&line), "clear", -kBound, kBound, &order.clear)) return "clear is no integer";
  if (order.clear >= order.raise) return "clear is not below raise";
  if (!IntegerField(TakeWord(&line), "samples", 1, 1000, &samples)) return "samples is not 1 to 1000";
  order.samples = static_cast<uint32_t>(samples);
  if (!IntegerField(TakeWord(&line), "rate_mhz", 100, 1'000'000, &order.rate_mhz)) return "rate_mhz is not 100 to 1000000";
  if (!IntegerField(TakeWord(&line), "cap_ppm", 0, kFullPpm, &order.cap_ppm)) return "cap_ppm is not 0 to 1000000";
  if (!Field(TakeWord(&line), "targets", &value)) return "targets is missing";
  if (const char* wrong = ParseOrderTargets(value, *list, &order)) return wrong;
  if (!order.gpu.empty() && !line.empty()) return "something stands behind targets of an order on a GPU";
  while (!line.empty()) {
    const std::string_view word = TakeWord(&line);
    if (Field(word, "fault", &value) && IsRelativePath(value)) {
      order.fault = value;
    } else if (!(Field(word, "multiplier", &value) && ParseDouble(value, &order.multiplier)) &&
               !(Field(word, "offset", &value) && ParseDouble(value, &order.offset))) {
      return "a field behind targets is none of fault, multiplier, offset";
    }
  }
  list->orders.push_back(std::move(order));
  return nullptr;
}

const char* ParseEnergy(std::string_view line, AllowList* list) {
  if (list->energies.size() >= kMaxEnergies) return "more than 64 energies";
  EnergySpec energy;
  const std::string_view id = TakeWord(&line);
  if (!IsId(id, kMaxIdBytes)) return "energy needs an id of [a-z0-9:_.@~/-], at most 64";
  for (const EnergySpec& other : list->energies) {
    if (other.id == id) return "this energy's id stands twice";
  }
  energy.id = id;
  const std::string_view path = TakeWord(&line);
  if (!IsRelativePath(path)) return "energy needs a relative path without blanks and '..'";
  energy.path = path;
  constexpr int64_t kBound = int64_t{1} << 53;  // What the compiler of the list, and a reading, holds exactly.
  if (!IntegerField(line, "max_uj", 1, kBound, &energy.max_uj)) return "max_uj is no positive integer";
  list->energies.push_back(std::move(energy));
  return nullptr;
}

const char* ParseJob(std::string_view line, AllowList* list) {
  if (list->jobs.size() >= kMaxJobs) return "more than 256 jobs";
  JobSpec job;
  const std::string_view id = TakeWord(&line);
  if (!IsId(id, kMaxIdBytes)) return "job needs an id of [a-z0-9:_.@~/-], at most 64";
  for (const JobSpec& other : list->jobs) {
    if (other.id == id) return "this job's id stands twice";
  }
  job.id = id;
  const std::string_view word = TakeWord(&line);
  if (!units::ParseJobVerb(word, &job.verb)) return "a job's verb is none of start, stop, restart";
  const std::string_view unit = TakeWord(&line);
  if (!units::IsUnit(unit) || !units::IsService(unit)) return "a job needs a unit such as batch.service";
  job.unit = unit;
  if (!IntegerField(line, "timeout_ms", kMinJobTimeoutMs, kMaxJobTimeoutMs, &job.timeout_ms)) {
    return "timeout_ms is not 1000 to 7200000";
  }
  list->jobs.push_back(std::move(job));
  return nullptr;
}

const char* ParseItem(std::string_view line, AllowList* list) {
  if (line.empty()) return "an empty line";
  if (line.front() == '#') return nullptr;
  const std::string_view item = TakeWord(&line);
  if (item == "controller") return ParseController(line, list);
  if (item == "target") return ParseTarget(line, list);
  if (item == "order") return ParseOrder(line, list);
  if (item == "energy") return ParseEnergy(line, list);
  if (item == "job") return ParseJob(line, list);
  return "an item that is none of controller, target, order, energy, job, end";
}

}  // namespace

bool ParseInteger(std::string_view text, int64_t* out) {
  if (text.empty() || text.size() > 20) return false;
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *out);
  return result.ec == std::errc() && result.ptr == end;
}

bool IsId(std::string_view text, size_t max_bytes) {
  if (text.empty() || text.size() > max_bytes) return false;
  for (const char c : text) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (!word && (c == '\0' || std::strchr(":_.@~/-", c) == nullptr)) return false;
  }
  return true;
}

std::string ParseAllowList(std::string_view text, AllowList* out) {
  *out = AllowList();
  if (text.size() > kMaxAllowBytes) return "larger than 256 KiB";
  int64_t line_number = 0;
  bool ended = false;
  while (!text.empty()) {
    ++line_number;
    const size_t newline = text.find('\n');
    if (newline == std::string_view::npos) return "the last line has no end: the file is cut off";
    const std::string_view line = text.substr(0, newline);
    text = text.substr(newline + 1);
    const char* wrong = nullptr;
    if (ended) {
      wrong = "something stands behind the end";
    } else if (line_number == 1) {
      if (line != kHeader) wrong = "the first line is not \"skos-allow 1\"";
    } else if (line.substr(0, 4) == "end ") {
      int64_t lines = -1;
      if (!ParseInteger(line.substr(4), &lines) || lines != line_number - 2) wrong = "end counts another number of lines";
      ended = true;
    } else {
      wrong = ParseItem(line, out);
    }
    if (wrong != nullptr) return "line " + std::to_string(line_number) + ": " + wrong;
  }
  return ended ? "" : "the end line is missing: the file is cut off";
}

std::string LoadAllowList(const char* path, AllowList* out) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return std::string(path) + ": " + std::strerror(errno);
  struct stat status = {};
  std::string wrong;
  std::string text;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    wrong = "is no regular file";
  } else if (status.st_uid != 0 && status.st_uid != geteuid()) {
    // A test that is not run by root owns its list itself; such an actuator has no privileges to lend.
    wrong = "does not belong to root";
  } else if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    wrong = "may be written by others than its owner";
  } else if (status.st_size > static_cast<off_t>(kMaxAllowBytes)) {
    wrong = "is larger than 256 KiB";
  } else {
    text.resize(static_cast<size_t>(status.st_size));
    size_t got = 0;
    while (got < text.size()) {
      const ssize_t n = read(fd, text.data() + got, text.size() - got);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      got += static_cast<size_t>(n);
    }
    text.resize(got);
    wrong = ParseAllowList(text, out);
  }
  close(fd);
  return wrong.empty() ? "" : std::string(path) + ": " + wrong;
}

}  // namespace skos::actuator
