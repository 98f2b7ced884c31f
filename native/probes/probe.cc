#include "probes/probe.h"

#include <errno.h>
#include <sys/statvfs.h>

#include <map>
#include <utility>

#include "probes/files.h"
#include "probes/parse.h"
#include "sampler/clock.h"

namespace skos {

// The files of one domain, each read once per tick. Probes hold it alive; all use it in the thread of the domain.
struct ProbeFactory::Sources {
  // One statvfs() for all fields of a mount point.
  struct Mount {
    uint64_t tick = 0;
    int error = 0;
    struct statvfs status = {};
  };

  uint64_t tick = 1;
  std::map<std::string, TextFile> texts;  // Nodes of a map stay where they are: probes keep pointers to them.
  std::map<std::string, Mount> mounts;
};

namespace {

using Sources = ProbeFactory::Sources;

constexpr size_t kIntegerBytes = 64;  // A 64-bit integer has 20 characters; more is no integer.
constexpr size_t kWordBytes = 64;     // States are a word or three; more is no state.
constexpr int kCpuColumns = 8;        // user nice system idle iowait irq softirq steal; guest time is within user.
constexpr int kIdleColumn = 4;        // Word 0 is the name.
constexpr int kIowaitColumn = 5;
constexpr int64_t kPartsPerMillion = 1'000'000;

// A raw value, or why there is none.
struct Raw {
  Quality quality = Quality::kNoData;
  Number number;
};

Raw RawInteger(int64_t value) { return {Quality::kOk, {true, value, 0}}; }

// Counter to rate: the difference is taken on the exact integers, so that a counter beyond 2^53 loses nothing.
class RateOf {
 public:
  Raw Next(const Raw& raw, int64_t time_ns) {
    Raw rate;
    rate.quality = raw.quality;
    if (raw.quality != Quality::kOk) return rate;  // The next rate spans the gap.
    rate.quality = Quality::kNoData;
    const int64_t elapsed_ns = time_ns - time_ns_;
    double grown = 0;
    if (known_ && elapsed_ns > 0 && Grown(raw.number, &grown)) {
      rate.quality = Quality::kOk;
      rate.number = {false, 0, grown * static_cast<double>(kNsPerSecond) / static_cast<double>(elapsed_ns)};
    }
    known_ = true;
    previous_ = raw.number;
    time_ns_ = time_ns;
    return rate;
  }

 private:
  // False when the counter fell: it was reset or has wrapped, and nobody knows by how much it grew.
  bool Grown(const Number& now, double* grown) const {
    if (now.integral && previous_.integral) {
      int64_t difference = 0;
      if (__builtin_sub_overflow(now.integer, previous_.integer, &difference)) return false;
      *grown = static_cast<double>(difference);
    } else {
      *grown = now.AsDouble() - previous_.AsDouble();
    }
    return *grown >= 0;
  }

  bool known_ = false;
  Number previous_;
  int64_t time_ns_ = 0;
};

// What all probes have in common: fault file, rate, scaling, time stamp.
class ScalingProbe : public Probe {
 public:
  explicit ScalingProbe(const ProbeSpec& spec)
      : multiplier_(spec.multiplier), offset_(spec.offset) {
    if (spec.per_second) rate_ = std::make_unique<RateOf>();
    if (!spec.fault_path.empty()) fault_ = std::make_unique<KeptFile>(spec.fault_path);
  }

  Reading Read(int64_t now_ns) final {
    const bool faulty = fault_ != nullptr && IsFaulty(now_ns);
    Raw raw = ReadRaw(now_ns);
    Reading reading;
    reading.time_ns = MonotonicNs();
    if (rate_ != nullptr) raw = rate_->Next(raw, reading.time_ns);
    reading.quality = faulty && raw.quality != Quality::kNoData ? Quality::kFault : raw.quality;
    if (reading.quality != Quality::kOk) return reading;
    if (!Scale(raw.number, multiplier_, offset_, &reading.value)) reading.quality = Quality::kFault;
    return reading;
  }

 protected:
  virtual Raw ReadRaw(int64_t now_ns) = 0;

 private:
  // A fault file that cannot be read says nothing about the sensor.
  bool IsFaulty(int64_t now_ns) {
    char buffer[kIntegerBytes];
    size_t length = 0;
    int64_t flag = 0;
    return fault_->ReadAt(now_ns, 0, buffer, sizeof buffer, &length) == Quality::kOk &&
           ParseInteger64({buffer, length}, &flag) && flag == 1;
  }

  const double multiplier_;
  const double offset_;
  // Apart, because few probes have them: what a plain read touches stays within two cache lines.
  std::unique_ptr<RateOf> rate_;
  std::unique_ptr<KeptFile> fault_;
};

class IntegerProbe final : public ScalingProbe {
 public:
  explicit IntegerProbe(const ProbeSpec& spec)
      : ScalingProbe(spec), file_(spec.path), hexadecimal_(spec.kind == ProbeKind::kHexadecimal) {}

 protected:
  Raw ReadRaw(int64_t now_ns) override {
    char buffer[kIntegerBytes];
    size_t length = 0;
    Raw raw;
    raw.quality = file_.ReadAt(now_ns, 0, buffer, sizeof buffer, &length);
    if (raw.quality != Quality::kOk) return raw;
    // A full buffer may be the head of a longer text.
    const bool whole = length < sizeof buffer;
    const auto parse = hexadecimal_ ? ParseHexadecimal64 : ParseInteger64;
    if (!whole || !parse({buffer, length}, &raw.number.integer)) raw.quality = Quality::kFault;
    return raw;
  }

 private:
  KeptFile file_;
  const bool hexadecimal_;
};

class WordProbe final : public ScalingProbe {
 public:
  explicit WordProbe(const ProbeSpec& spec) : ScalingProbe(spec), file_(spec.path), words_(spec.words) {}

 protected:
  Raw ReadRaw(int64_t now_ns) override {
    char buffer[kWordBytes];
    size_t length = 0;
    Raw raw;
    raw.quality = file_.ReadAt(now_ns, 0, buffer, sizeof buffer, &length);
    if (raw.quality != Quality::kOk) return raw;
    const int index = length < sizeof buffer ? IndexOfWord({buffer, length}, words_) : -1;
    return index < 0 ? Raw{Quality::kFault, {}} : RawInteger(index);
  }

 private:
  KeptFile file_;
  const std::vector<std::string> words_;
};

// Probes of shared sources. `alone` is a probe that MakeProbe made: each of its reads is a tick.
class SharedProbe : public ScalingProbe {
 public:
  SharedProbe(const ProbeSpec& spec, std::shared_ptr<Sources> sources, bool alone)
      : ScalingProbe(spec), sources_(std::move(sources)), alone_(alone) {}

 protected:
  uint64_t Tick() { return alone_ ? ++sources_->tick : sources_->tick; }
  Sources& sources() { return *sources_; }

 private:
  const std::shared_ptr<Sources> sources_;
  const bool alone_;
};

class TextProbe : public SharedProbe {
 public:
  TextProbe(const ProbeSpec& spec, std::shared_ptr<Sources> sources, bool alone)
      : SharedProbe(spec, std::move(sources), alone),
        text_(&this->sources().texts.try_emplace(spec.path, spec.path).first->second),
        key_(spec.key) {}

 protected:
  // The line of the key; kNoData without one.
  Quality Line(int64_t now_ns, std::string_view* line) {
    std::string_view text;
    const Quality quality = text_->Read(now_ns, Tick(), &text);
    if (quality != Quality::kOk) return quality;
    *line = FindLine(text, key_);
    if (line->data() != nullptr) return Quality::kOk;
    // An empty file holds no number at all; a text without the line lacks this one quantity.
    return text.empty() ? Quality::kFault : Quality::kNoData;
  }

 private:
  TextFile* const text_;
  const std::string key_;
};

class FieldProbe final : public TextProbe {
 public:
  FieldProbe(const ProbeSpec& spec, std::shared_ptr<Sources> sources, bool alone)
      : TextProbe(spec, std::move(sources), alone), column_(spec.column) {}

 protected:
  Raw ReadRaw(int64_t now_ns) override {
    Raw raw;
    std::string_view line;
    raw.quality = Line(now_ns, &line);
    if (raw.quality != Quality::kOk) return raw;
    const std::string_view word = WordAt(line, column_);
    // Older kernels write fewer columns: absent, not broken.
    if (word.data() == nullptr) raw.quality = Quality::kNoData;
    else if (!ParseNumber(word, &raw.number)) raw.quality = Quality::kFault;
    return raw;
  }

 private:
  const int column_;
};

class CpuBusyProbe final : public TextProbe {
 public:
  using TextProbe::TextProbe;

 protected:
  Raw ReadRaw(int64_t now_ns) override {
    std::string_view line;
    Raw raw;
    raw.quality = Line(now_ns, &line);
    Times now;
    if (raw.quality == Quality::kOk && !now.Parse(line)) raw.quality = Quality::kFault;
    if (raw.quality != Quality::kOk) {
      known_ = false;  // An offline CPU comes back with other counters.
      return raw;
    }
    return Share(now);
  }

 private:
  struct Times {
    int64_t total = 0;
    int64_t idle = 0;

    bool Parse(std::string_view line) {
      for (int column = 1; column <= kCpuColumns; ++column) {
        int64_t jiffies = 0;
        if (!ParseInteger64(WordAt(line, column), &jiffies) || jiffies < 0) return false;
        if (__builtin_add_overflow(total, jiffies, &total)) return false;
        if (column == kIdleColumn || column == kIowaitColumn) idle += jiffies;
      }
      return true;
    }
  };

  Raw Share(const Times& now) {
    const int64_t total = now.total - previous_.total;
    if (known_ && total == 0) return Raw();  // Asked again within one jiffy: the next share spans both.
    // proc(5): iowait may decrease, so the parts are clamped; a total that fell is a new start.
    int64_t idle = now.idle - previous_.idle;
    const bool comparable = known_ && total > 0;
    known_ = true;
    previous_ = now;
    if (!comparable) return Raw();
    if (idle < 0) idle = 0;
    if (idle > total) idle = total;
    const double busy = static_cast<double>(total - idle) / static_cast<double>(total);
    return RawInteger(static_cast<int64_t>(busy * kPartsPerMillion + 0.5));
  }

  bool known_ = false;
  Times previous_;
};

class StatvfsProbe final : public SharedProbe {
 public:
  StatvfsProbe(const ProbeSpec& spec, std::shared_ptr<Sources> sources, bool alone)
      : SharedProbe(spec, std::move(sources), alone),
        path_(spec.path),
        field_(spec.field),
        mount_(&this->sources().mounts[spec.path]) {}

 protected:
  Raw ReadRaw(int64_t) override {
    Refresh(Tick());
    if (mount_->error != 0) return {QualityOfErrno(mount_->error), {}};
    const struct statvfs& fs = mount_->status;
    switch (field_) {
      case StatvfsField::kTotalBytes:
        return Bytes(fs.f_blocks, fs.f_frsize);
      case StatvfsField::kAvailableBytes:
        return Bytes(fs.f_bavail, fs.f_frsize);
      case StatvfsField::kUsedPpm:
        return UsedShare(fs.f_blocks, fs.f_bfree, fs.f_bavail);
      case StatvfsField::kInodesUsedPpm:
        return UsedShare(fs.f_files, fs.f_ffree, fs.f_favail);
    }
    return {Quality::kFault, {}};
  }

 private:
  void Refresh(uint64_t tick) {
    if (mount_->tick == tick) return;
    mount_->tick = tick;
    int result;
    do {
      result = statvfs(path_.c_str(), &mount_->status);
    } while (result != 0 && errno == EINTR);
    mount_->error = result == 0 ? 0 : errno;
  }

  static Raw Bytes(uint64_t blocks, uint64_t block_bytes) {
    int64_t bytes = 0;
    if (__builtin_mul_overflow(blocks, block_bytes, &bytes)) return {Quality::kFault, {}};
    return RawInteger(bytes);
  }

  // As df counts: of what an unprivileged user can use. File systems without a fixed number (btrfs inodes) say 0.
  static Raw UsedShare(uint64_t total, uint64_t free, uint64_t available) {
    if (total == 0) return Raw();
    if (free > total) return {Quality::kFault, {}};
    const double used = static_cast<double>(total - free);
    const double usable = used + static_cast<double>(available);
    if (usable <= 0) return Raw();
    return RawInteger(static_cast<int64_t>(used / usable * kPartsPerMillion + 0.5));
  }

  const std::string path_;
  const StatvfsField field_;
  Sources::Mount* const mount_;
};

std::unique_ptr<Probe> Make(const ProbeSpec& spec, const std::shared_ptr<Sources>& sources, bool alone) {
  switch (spec.kind) {
    case ProbeKind::kInteger:
    case ProbeKind::kHexadecimal:
      return std::make_unique<IntegerProbe>(spec);
    case ProbeKind::kField:
      return std::make_unique<FieldProbe>(spec, sources, alone);
    case ProbeKind::kCpuBusy:
      return std::make_unique<CpuBusyProbe>(spec, sources, alone);
    case ProbeKind::kStatvfs:
      return std::make_unique<StatvfsProbe>(spec, sources, alone);
    case ProbeKind::kWord:
      return std::make_unique<WordProbe>(spec);
  }
  return nullptr;
}

}  // namespace

ProbeFactory::ProbeFactory() : sources_(std::make_shared<Sources>()) {}
ProbeFactory::~ProbeFactory() = default;

std::unique_ptr<Probe> ProbeFactory::Make(const ProbeSpec& spec) { return skos::Make(spec, sources_, false); }

void ProbeFactory::BeginTick() { ++sources_->tick; }

std::unique_ptr<Probe> MakeProbe(const ProbeSpec& spec) {
  return Make(spec, std::make_shared<ProbeFactory::Sources>(), true);
}

}  // namespace skos
