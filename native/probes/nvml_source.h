// What one call into NVML gives, shared by the channels that are made of it.
//
// The sampler asks channel by channel; a call may give many of them. A source is asked anew when what it holds is older than half its
// period, or when the channel has had it already: so each round of the sampler makes one call, at whatever rate it runs.
#ifndef SKOS_PROBES_NVML_SOURCE_H_
#define SKOS_PROBES_NVML_SOURCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "probes/nvml_gpu.h"

namespace skos::nvml {

// One value, in the canonical unit, or why there is none.
struct Datum {
  int code = kSuccess;
  Quality quality = Quality::kOk;  // For a call that succeeded with a value that is absent or is garbage.
  int64_t value = 0;
};

// NVML's markers for "not available" are kNoData, a value beyond 63 bits is kFault.
Datum FromUnsigned(unsigned raw, int64_t multiplier = 1);
Datum FromUnsigned64(unsigned long long raw, int64_t multiplier = 1);
// By its valueType; rounded after multiplying. A type that is not in the header is kFault.
Datum FromField(const FieldValue& field, int64_t multiplier, int64_t divisor);

// Sampler thread, after it was made.
class Source {
 public:
  // Fills a Datum for each slot and returns kSuccess, or returns the code that is every slot's.
  using Call = std::function<int(Datum*)>;

  Source(std::shared_ptr<const Gpu> gpu, GpuRate rate, size_t slots, Call call);

  void Refresh();
  Reading Read(size_t slot, int64_t now_ns);
  const Datum& datum(size_t slot) const { return slots_[slot].datum; }

 private:
  struct Slot {
    Datum datum;
    GetterState state;
    bool given = false;  // Since the last refresh.
  };

  const std::shared_ptr<const Gpu> gpu_;
  const int64_t max_age_ns_;
  const Call call_;
  std::vector<Slot> slots_;
  std::vector<Datum> answers_;
  int64_t refreshed_ns_ = 0;
};

// A channel of a source.
class SlotProbe final : public Probe {
 public:
  SlotProbe(std::shared_ptr<Source> source, size_t slot) : source_(std::move(source)), slot_(slot) {}
  Reading Read(int64_t now_ns) override { return source_->Read(slot_, now_ns); }

 private:
  const std::shared_ptr<Source> source_;
  const size_t slot_;
};

}  // namespace skos::nvml

#endif  // SKOS_PROBES_NVML_SOURCE_H_
