#include "binding/reading_arrays.h"

namespace skos::binding {
namespace {

constexpr size_t kDrainBatch = 1024;  // Records a call of drain(): 1.6 s of 64 channels at 10 Hz.
constexpr double kNsPerMs = 1e6;

// A typed array over memory that `owner` keeps alive for as long as either side wants it.
template <typename TypedArray, typename T>
TypedArray View(Napi::Env env, const std::shared_ptr<void>& owner, std::vector<T>& memory) {
  auto* keep = new std::shared_ptr<void>(owner);
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
      env, memory.data(), memory.size() * sizeof(T),
      [](Napi::BasicEnv, void*, std::shared_ptr<void>* kept) { delete kept; }, keep);
  return TypedArray::New(env, memory.size(), buffer, 0);
}

}  // namespace

double ToMs(int64_t ns) { return static_cast<double>(ns) / kNsPerMs; }

struct ReadingArrays::Memory {
  explicit Memory(size_t channels)
      : values(channels),
        times_ms(channels),
        qualities(channels, static_cast<uint8_t>(Quality::kNoData)),
        drained_channels(kDrainBatch),
        drained_values(kDrainBatch),
        drained_times_ms(kDrainBatch),
        drained_qualities(kDrainBatch) {}

  std::vector<double> values;
  std::vector<double> times_ms;
  std::vector<uint8_t> qualities;
  std::vector<uint32_t> drained_channels;
  std::vector<double> drained_values;
  std::vector<double> drained_times_ms;
  std::vector<uint8_t> drained_qualities;
};

ReadingArrays::ReadingArrays(Napi::Env env, Napi::Object self, size_t channels)
    : memory_(std::make_shared<Memory>(channels)), latest_(channels), drained_(kDrainBatch) {
  auto define = [&](const char* name, Napi::Value view) {
    self.DefineProperty(Napi::PropertyDescriptor::Value(name, view, napi_enumerable));
  };
  define("values", View<Napi::Float64Array>(env, memory_, memory_->values));
  define("timesMs", View<Napi::Float64Array>(env, memory_, memory_->times_ms));
  define("qualities", View<Napi::Uint8Array>(env, memory_, memory_->qualities));
  define("drainedChannels", View<Napi::Uint32Array>(env, memory_, memory_->drained_channels));
  define("drainedValues", View<Napi::Float64Array>(env, memory_, memory_->drained_values));
  define("drainedTimesMs", View<Napi::Float64Array>(env, memory_, memory_->drained_times_ms));
  define("drainedQualities", View<Napi::Uint8Array>(env, memory_, memory_->drained_qualities));
}

void ReadingArrays::ShowLatest() {
  for (size_t i = 0; i < latest_.size(); ++i) {
    memory_->values[i] = static_cast<double>(latest_[i].value);
    memory_->times_ms[i] = ToMs(latest_[i].time_ns);
    memory_->qualities[i] = static_cast<uint8_t>(latest_[i].quality);
  }
}

void ReadingArrays::ShowDrained(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    memory_->drained_channels[i] = drained_[i].channel;
    memory_->drained_values[i] = static_cast<double>(drained_[i].reading.value);
    memory_->drained_times_ms[i] = ToMs(drained_[i].reading.time_ns);
    memory_->drained_qualities[i] = static_cast<uint8_t>(drained_[i].reading.quality);
  }
}

}  // namespace skos::binding
