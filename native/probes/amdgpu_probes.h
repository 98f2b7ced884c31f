// What the probes of one GPU in sysfs share: whether it is there, whether it is awake, the texts and the gpu_metrics that several of
// them come from.
//
// A GPU in runtime suspend is not read: most attributes of amdgpu before Linux 6.13 wake it, and keep it awake by being read. Its
// power/runtime_status belongs to the driver core and wakes nothing; it is looked at once for each batch of reads.
#ifndef SKOS_PROBES_AMDGPU_PROBES_H_
#define SKOS_PROBES_AMDGPU_PROBES_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "probes/amdgpu_text.h"
#include "probes/files.h"
#include "probes/gpu_device.h"
#include "probes/gpu_metrics.h"
#include "probes/probe.h"

namespace skos {

// Of a read that failed: what errno says, by the customs of GPU drivers. amdgpu answers EPERM while it resets the GPU and, since
// Linux 6.13, while the GPU is suspended: that is no fault.
Quality GpuQuality(Quality quality, int error);

// A text that several channels come from, read once for a batch.
class GpuText {
 public:
  explicit GpuText(std::string path) : file_(std::move(path)) {}
  Quality Read(int64_t now_ns, std::string_view* text);
  // errno of the last read that failed.
  int error() const { return error_; }

 private:
  TextFile file_;
  uint64_t tick_ = 0;
  int64_t read_at_ns_ = 0;
  Quality quality_ = Quality::kNoData;
  int error_ = 0;
};

// The binary gpu_metrics, read in one pread() so that its fields belong together.
class GpuMetricsFile {
 public:
  explicit GpuMetricsFile(std::string path) : file_(std::move(path)) {}
  // kOk: metrics() is this batch's. kFault: a blob that is none, or none of the layouts known.
  Quality Read(int64_t now_ns);
  const GpuMetrics& metrics() const { return metrics_; }
  GpuMetricsVerdict verdict() const { return verdict_; }

 private:
  Quality Refresh(int64_t now_ns);

  KeptFile file_;
  char buffer_[kGpuMetricsMaxBytes + 1];  // One more, so that a longer file is seen to be one.
  GpuMetrics metrics_;
  GpuMetricsVerdict verdict_ = GpuMetricsVerdict::kTruncated;
  int64_t read_at_ns_ = 0;
  bool known_ = false;
  Quality quality_ = Quality::kNoData;
};

// One GPU. All but condition(): the thread that opens and discovers, then the sampler's.
class GpuNode {
 public:
  // `directory` is the device's, absolute; `card` is the DRM card's, whose disappearance means that the driver is gone.
  GpuNode(std::string directory, std::string card);

  const std::string& directory() const { return directory_; }
  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  // The driver is gone when this directory is, or is another one: a hwmon chip that comes back under another number is another.
  void Watch(const std::string& path);
  // Whether the GPU slept when it was opened or discovered: then nothing but its sleep is known of it, and when it wakes the
  // condition becomes kDriverGone, so that the worker opens and discovers it afresh.
  bool IsUndiscovered(int64_t now_ns);

  // Whether anything of the GPU may be read now: it is there and not suspended.
  bool MayRead(int64_t now_ns);
  // The value of runtime_state. kNoData where the kernel shows none.
  Quality RuntimeStateNow(int64_t now_ns, int64_t* state);

  GpuText& Text(const std::string& path);
  GpuMetricsFile* metrics() const { return metrics_.get(); }
  void KeepMetrics(std::unique_ptr<GpuMetricsFile> metrics) { metrics_ = std::move(metrics); }

  GpuCondition condition() const { return condition_.load(std::memory_order_relaxed); }  // Any thread.

 private:
  // A directory as it was when it was first seen. A new driver instance makes a new one.
  struct Place {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
  };

  static bool Look(Place* place);
  bool IsPresent(int64_t now_ns);

  const std::string directory_;
  std::vector<Place> places_;
  int64_t looked_at_ns_ = 0;
  bool looked_ = false;
  bool present_ = true;
  GpuText runtime_status_;
  bool is_undiscovered_ = false;
  std::map<std::string, std::unique_ptr<GpuText>> texts_;
  std::unique_ptr<GpuMetricsFile> metrics_;
  std::atomic<GpuCondition> condition_{GpuCondition::kServing};
};

// An integer file; value = round(raw × multiplier).
std::shared_ptr<Probe> MakeGpuIntegerProbe(std::shared_ptr<GpuNode> node, const std::string& path, double multiplier);
// What `parser` finds in a text.
std::shared_ptr<Probe> MakeGpuTextProbe(std::shared_ptr<GpuNode> node, const std::string& path, TextParser parser);
// A counter that reading it clears: the sum of what the reads gave since the probe was made.
std::shared_ptr<Probe> MakeGpuClearedCounterProbe(std::shared_ptr<GpuNode> node, const std::string& path);
// A field of gpu_metrics; `channel` is static.
std::shared_ptr<Probe> MakeGpuMetricsProbe(std::shared_ptr<GpuNode> node, const GpuMetricsChannel& channel);
std::shared_ptr<Probe> MakeGpuRuntimeProbe(std::shared_ptr<GpuNode> node);

}  // namespace skos

#endif  // SKOS_PROBES_AMDGPU_PROBES_H_
