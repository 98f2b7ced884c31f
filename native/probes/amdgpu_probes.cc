#include "probes/amdgpu_probes.h"

#include <errno.h>
#include <sys/stat.h>

#include <utility>

#include "probes/parse.h"
#include "sampler/clock.h"

namespace skos {
namespace {

// What several channels share is younger than this. The driver itself gives gpu_metrics from a cache of 5 ms
// (SMU_GPU_METRICS_CACHE_INTERVAL of amdgpu_smu.h), so that asking more often says nothing new.
constexpr int64_t kBatchNs = 5'000'000;
constexpr int64_t kLookNs = kNsPerSecond;  // Whether the directories are still there: two stat() a second.
constexpr size_t kIntegerBytes = 64;       // A 64-bit integer has 20 characters; more is no integer.
constexpr int64_t kPartsPerMillion = 1'000'000;

constexpr int64_t kRuntimeActive = 0;

bool IsFresh(bool known, int64_t read_at_ns, int64_t now_ns) {
  return known && now_ns >= read_at_ns && now_ns - read_at_ns < kBatchNs;
}

// Reads only while the GPU may be read, and stamps what it gave.
class GpuProbe : public Probe {
 public:
  explicit GpuProbe(std::shared_ptr<GpuNode> node) : node_(std::move(node)) {}

  Reading Read(int64_t now_ns) final {
    Reading reading;
    reading.quality = node_->MayRead(now_ns) ? ReadValue(now_ns, &reading.value) : Quality::kNoData;
    if (reading.quality != Quality::kOk) reading.value = 0;
    reading.time_ns = MonotonicNs();
    return reading;
  }

 protected:
  virtual Quality ReadValue(int64_t now_ns, int64_t* value) = 0;
  GpuNode& node() { return *node_; }

 private:
  const std::shared_ptr<GpuNode> node_;
};

Quality ReadInteger(KeptFile* file, int64_t now_ns, int64_t* value) {
  char buffer[kIntegerBytes];
  size_t length = 0;
  errno = 0;
  const Quality quality = file->ReadAt(now_ns, 0, buffer, sizeof buffer, &length);
  if (quality != Quality::kOk) return GpuQuality(quality, errno);
  // A full buffer may be the head of a longer text.
  return length < sizeof buffer && ParseInteger64({buffer, length}, value) ? Quality::kOk : Quality::kFault;
}

class IntegerProbe final : public GpuProbe {
 public:
  IntegerProbe(std::shared_ptr<GpuNode> node, const std::string& path, double multiplier)
      : GpuProbe(std::move(node)), file_(path), multiplier_(multiplier) {}

 protected:
  Quality ReadValue(int64_t now_ns, int64_t* value) override {
    Number raw;
    const Quality quality = ReadInteger(&file_, now_ns, &raw.integer);
    if (quality != Quality::kOk) return quality;
    return Scale(raw, multiplier_, 0, value) ? Quality::kOk : Quality::kFault;
  }

 private:
  KeptFile file_;
  const double multiplier_;
};

class TextProbe final : public GpuProbe {
 public:
  TextProbe(std::shared_ptr<GpuNode> node, const std::string& path, TextParser parser)
      : GpuProbe(std::move(node)), text_(this->node().Text(path)), parser_(parser) {}

 protected:
  Quality ReadValue(int64_t now_ns, int64_t* value) override {
    std::string_view text;
    const Quality quality = text_.Read(now_ns, &text);
    return quality == Quality::kOk ? parser_(text, value) : quality;
  }

 private:
  GpuText& text_;  // The node's, which this probe holds.
  const TextParser parser_;
};

class ClearedCounterProbe final : public GpuProbe {
 public:
  ClearedCounterProbe(std::shared_ptr<GpuNode> node, const std::string& path) : GpuProbe(std::move(node)), file_(path) {}

 protected:
  Quality ReadValue(int64_t now_ns, int64_t* value) override {
    int64_t more = 0;
    const Quality quality = ReadInteger(&file_, now_ns, &more);
    if (quality != Quality::kOk) return quality;
    if (more < 0 || __builtin_add_overflow(total_, more, &total_)) return Quality::kFault;
    *value = total_;
    return Quality::kOk;
  }

 private:
  KeptFile file_;
  int64_t total_ = 0;
};

class MetricsProbe final : public GpuProbe {
 public:
  MetricsProbe(std::shared_ptr<GpuNode> node, const GpuMetricsChannel& channel)
      : GpuProbe(std::move(node)), channel_(channel) {}

 protected:
  Quality ReadValue(int64_t now_ns, int64_t* value) override {
    GpuMetricsFile* const file = node().metrics();
    if (file == nullptr) return Quality::kNoData;
    const Quality quality = file->Read(now_ns);
    if (quality != Quality::kOk) return quality;
    // The driver was changed under us by another revision: other channels, which the next discovery finds.
    if (!AppliesTo(channel_, *file->metrics().layout())) return Quality::kNoData;
    if (channel_.kind == GpuMetricsChannel::Kind::kShare) return ReadShare(file->metrics(), value);
    return GpuMetricsValue(file->metrics(), channel_, value) ? Quality::kOk : Quality::kNoData;
  }

 private:
  // Both counters have 32 bits and wrap.
  Quality ReadShare(const GpuMetrics& metrics, int64_t* value) {
    uint32_t residency = 0;
    uint32_t cycles = 0;
    if (!Counter(metrics, channel_.field, &residency) || !Counter(metrics, "accumulation_counter", &cycles)) {
      known_ = false;
      return Quality::kNoData;
    }
    const uint32_t elapsed = cycles - cycles_;
    const uint32_t grown = residency - residency_;
    if (known_ && elapsed == 0) {
      if (!has_share_) return Quality::kNoData;
      *value = share_;  // The firmware has not gone on since.
      return Quality::kOk;
    }
    // More than all of the time: the firmware was started afresh in between.
    has_share_ = known_ && grown <= elapsed;
    if (has_share_) share_ = static_cast<int64_t>(uint64_t{grown} * kPartsPerMillion / elapsed);
    known_ = true;
    cycles_ = cycles;
    residency_ = residency;
    if (!has_share_) return Quality::kNoData;
    *value = share_;
    return Quality::kOk;
  }

  static bool Counter(const GpuMetrics& metrics, std::string_view name, uint32_t* out) {
    const GpuMetricsField* const field = metrics.Find(name);
    uint64_t raw = 0;
    if (field == nullptr || !metrics.Value(*field, 0, &raw)) return false;
    *out = static_cast<uint32_t>(raw);
    return true;
  }

  const GpuMetricsChannel& channel_;
  bool known_ = false;
  bool has_share_ = false;
  uint32_t cycles_ = 0;
  uint32_t residency_ = 0;
  int64_t share_ = 0;
};

// Not a GpuProbe: it says what keeps those from reading.
class RuntimeProbe final : public Probe {
 public:
  explicit RuntimeProbe(std::shared_ptr<GpuNode> node) : node_(std::move(node)) {}

  Reading Read(int64_t now_ns) override {
    Reading reading;
    node_->MayRead(now_ns);  // Looks whether the GPU is still there, and whether it has woken.
    reading.quality = node_->RuntimeStateNow(now_ns, &reading.value);
    reading.time_ns = MonotonicNs();
    return reading;
  }

 private:
  const std::shared_ptr<GpuNode> node_;
};

}  // namespace

Quality GpuQuality(Quality quality, int error) {
  return quality == Quality::kFault && error == EPERM ? Quality::kNoData : quality;
}

Quality GpuText::Read(int64_t now_ns, std::string_view* text) {
  if (!IsFresh(tick_ > 0, read_at_ns_, now_ns)) {
    ++tick_;
    read_at_ns_ = now_ns;
    errno = 0;
    const Quality quality = file_.Read(now_ns, tick_, text);
    error_ = quality == Quality::kOk ? 0 : errno;
    quality_ = GpuQuality(quality, error_);
  } else {
    file_.Read(now_ns, tick_, text);
  }
  return quality_;
}

Quality GpuMetricsFile::Read(int64_t now_ns) {
  if (!IsFresh(known_, read_at_ns_, now_ns)) {
    known_ = true;
    read_at_ns_ = now_ns;
    quality_ = Refresh(now_ns);
  }
  return quality_;
}

Quality GpuMetricsFile::Refresh(int64_t now_ns) {
  metrics_ = GpuMetrics();
  verdict_ = GpuMetricsVerdict::kTruncated;
  size_t length = 0;
  errno = 0;
  const Quality quality = file_.ReadAt(now_ns, 0, buffer_, sizeof buffer_, &length);
  if (quality != Quality::kOk) return GpuQuality(quality, errno);
  verdict_ = GpuMetrics::Parse({buffer_, length}, &metrics_);
  return verdict_ == GpuMetricsVerdict::kKnown ? Quality::kOk : Quality::kFault;
}

GpuNode::GpuNode(std::string directory, std::string card)
    : directory_(std::move(directory)), runtime_status_(directory_ + "/power/runtime_status") {
  Watch(card);
  Watch(directory_);
}

void GpuNode::Watch(const std::string& path) {
  Place place;
  place.path = path;
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return;  // Then the first look finds nothing of it either.
  place.device = status.st_dev;
  place.inode = status.st_ino;
  places_.push_back(std::move(place));
}

bool GpuNode::IsUndiscovered(int64_t now_ns) {
  is_undiscovered_ = !MayRead(now_ns) || is_undiscovered_;
  return is_undiscovered_;
}

bool GpuNode::Look(Place* place) {
  struct stat status;
  return stat(place->path.c_str(), &status) == 0 && status.st_dev == place->device && status.st_ino == place->inode;
}

bool GpuNode::IsPresent(int64_t now_ns) {
  if (looked_ && now_ns >= looked_at_ns_ && now_ns - looked_at_ns_ < kLookNs) return present_;
  looked_ = true;
  looked_at_ns_ = now_ns;
  for (Place& place : places_) present_ = present_ && Look(&place);
  // For good: what comes back is another instance of the driver, whose files are to be found afresh.
  if (!present_) condition_.store(GpuCondition::kDriverGone, std::memory_order_relaxed);
  return present_;
}

bool GpuNode::MayRead(int64_t now_ns) {
  if (!IsPresent(now_ns)) return false;
  int64_t state = 0;
  if (RuntimeStateNow(now_ns, &state) != Quality::kOk) return true;  // No runtime power management to respect.
  if (state == kRuntimeActive && is_undiscovered_) {
    condition_.store(GpuCondition::kDriverGone, std::memory_order_relaxed);
  }
  return state == kRuntimeActive;
}

Quality GpuNode::RuntimeStateNow(int64_t now_ns, int64_t* state) {
  std::string_view text;
  const Quality quality = runtime_status_.Read(now_ns, &text);
  return quality == Quality::kOk ? RuntimeState(text, state) : quality;
}

GpuText& GpuNode::Text(const std::string& path) {
  std::unique_ptr<GpuText>& text = texts_[path];
  if (text == nullptr) text = std::make_unique<GpuText>(path);
  return *text;
}

std::shared_ptr<Probe> MakeGpuIntegerProbe(std::shared_ptr<GpuNode> node, const std::string& path, double multiplier) {
  return std::make_shared<IntegerProbe>(std::move(node), path, multiplier);
}

std::shared_ptr<Probe> MakeGpuTextProbe(std::shared_ptr<GpuNode> node, const std::string& path, TextParser parser) {
  return std::make_shared<TextProbe>(std::move(node), path, parser);
}

std::shared_ptr<Probe> MakeGpuClearedCounterProbe(std::shared_ptr<GpuNode> node, const std::string& path) {
  return std::make_shared<ClearedCounterProbe>(std::move(node), path);
}

std::shared_ptr<Probe> MakeGpuMetricsProbe(std::shared_ptr<GpuNode> node, const GpuMetricsChannel& channel) {
  return std::make_shared<MetricsProbe>(std::move(node), channel);
}

std::shared_ptr<Probe> MakeGpuRuntimeProbe(std::shared_ptr<GpuNode> node) {
  return std::make_shared<RuntimeProbe>(std::move(node));
}

}  // namespace skos
