#include "binding/native_sampler.h"

#include <atomic>
#include <cerrno>

#include "binding/channel_spec.h"
#include "binding/errors.h"

namespace skos::binding {
namespace {

constexpr size_t kDrainBatch = 1024;       // Records a call of drain(): 1.6 s of 64 channels at 10 Hz.
constexpr size_t kMaxCrossings = 1024;     // Waiting for JS. More are counted as lost; JS looks at the readings anyway.
constexpr double kMaxRingRecords = 1 << 20;
constexpr double kNsPerMs = 1e6;

double ToMs(int64_t ns) { return static_cast<double>(ns) / kNsPerMs; }

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

struct NativeSampler::Arrays {
  explicit Arrays(size_t channels)
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

// One writer (the sampler calls on_crossing under its lock), one reader (JS). Never blocks the writer.
class NativeSampler::CrossingQueue {
 public:
  void Push(const Crossing& crossing) {
    const size_t head = head_.load(std::memory_order_relaxed);
    if (head - tail_.load(std::memory_order_acquire) == kMaxCrossings) {
      lost_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    slots_[head % kMaxCrossings] = crossing;
    head_.store(head + 1, std::memory_order_release);
  }

  bool Pop(Crossing* out) {
    const size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail == head_.load(std::memory_order_acquire)) return false;
    *out = slots_[tail % kMaxCrossings];
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  uint32_t TakeLost() { return lost_.exchange(0, std::memory_order_relaxed); }

 private:
  std::vector<Crossing> slots_ = std::vector<Crossing>(kMaxCrossings);
  std::atomic<size_t> head_{0};
  std::atomic<size_t> tail_{0};
  std::atomic<uint32_t> lost_{0};
};

Napi::Function NativeSampler::Define(Napi::Env env) {
  return DefineClass(env, "NativeSampler",
                     {
                         InstanceMethod<&NativeSampler::Start>("start"),
                         InstanceMethod<&NativeSampler::Stop>("stop"),
                         InstanceMethod<&NativeSampler::Refresh>("refresh"),
                         InstanceMethod<&NativeSampler::Drain>("drain"),
                         InstanceAccessor<&NativeSampler::Overruns>("overruns"),
                     });
}

NativeSampler::NativeSampler(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeSampler>(info) {
  Napi::Env env = info.Env();
  std::vector<ChannelSpec> channels;
  std::vector<TripwireSpec> tripwires;
  SamplerOptions options;
  double ring_records = static_cast<double>(options.ring_records);
  double deadline_ms = ToMs(options.read_deadline_ns);
  std::string wrong = ToChannels(info[0], &channels);
  if (wrong.empty()) wrong = ToTripwires(info[1], channels.size(), &tripwires);
  if (wrong.empty() && !info[2].IsObject()) wrong = "options is no object";
  if (wrong.empty()) {
    Napi::Object given = info[2].As<Napi::Object>();
    if (!ToNumber(given.Get("ringRecords"), 1, kMaxRingRecords, &ring_records)) wrong = "ringRecords is not 1 to 1048576";
    if (!ToNumber(given.Get("readDeadlineMs"), 1, 600'000, &deadline_ms)) wrong = "readDeadlineMs is not 1 to 600000";
    if (given.Get("onCrossing").IsFunction()) on_crossing_ = Napi::Persistent(given.Get("onCrossing").As<Napi::Function>());
    else wrong = "onCrossing is no function";
  }
  // A getter in what was given may have thrown.
  if (env.IsExceptionPending()) return;
  if (!wrong.empty()) {
    ThrowCoded(env, "SKOS_SAMPLER_SPEC", wrong);
    return;
  }

  arrays_ = std::make_shared<Arrays>(channels.size());
  latest_.resize(channels.size());
  drained_.resize(kDrainBatch);
  crossings_ = std::make_shared<CrossingQueue>();
  wake_ = Wake::Create(env, "skos crossing", [this](Napi::Env in) { Deliver(in); });
  options.ring_records = static_cast<size_t>(ring_records);
  options.read_deadline_ns = static_cast<int64_t>(deadline_ms * kNsPerMs);
  options.on_crossing = [queue = crossings_, wake = wake_](const Crossing& crossing) {
    queue->Push(crossing);
    wake->Call();
  };
  sampler_ = std::make_unique<Sampler>(std::move(channels), std::move(tripwires), std::move(options));
  DefineArrays(env, info.This().As<Napi::Object>());
}

NativeSampler::~NativeSampler() { StopNow(); }

void NativeSampler::DefineArrays(Napi::Env env, Napi::Object self) {
  auto define = [&](const char* name, Napi::Value view) {
    self.DefineProperty(Napi::PropertyDescriptor::Value(name, view, napi_enumerable));
  };
  define("values", View<Napi::Float64Array>(env, arrays_, arrays_->values));
  define("timesMs", View<Napi::Float64Array>(env, arrays_, arrays_->times_ms));
  define("qualities", View<Napi::Uint8Array>(env, arrays_, arrays_->qualities));
  define("drainedChannels", View<Napi::Uint32Array>(env, arrays_, arrays_->drained_channels));
  define("drainedValues", View<Napi::Float64Array>(env, arrays_, arrays_->drained_values));
  define("drainedTimesMs", View<Napi::Float64Array>(env, arrays_, arrays_->drained_times_ms));
  define("drainedQualities", View<Napi::Uint8Array>(env, arrays_, arrays_->drained_qualities));
}

// The list of crossings since the last call, and how many did not fit.
void NativeSampler::Deliver(Napi::Env env) {
  Napi::HandleScope scope(env);
  Napi::Array list = Napi::Array::New(env);
  Crossing crossing;
  while (list.Length() < kMaxCrossings && crossings_->Pop(&crossing)) {
    Napi::Object each = Napi::Object::New(env);
    each.Set("tripwire", crossing.tripwire);
    each.Set("channel", crossing.channel);
    each.Set("raised", crossing.raised);
    each.Set("value", Napi::Number::New(env, static_cast<double>(crossing.reading.value)));
    each.Set("quality", Napi::Number::New(env, static_cast<uint8_t>(crossing.reading.quality)));
    each.Set("atMs", Napi::Number::New(env, ToMs(crossing.reading.time_ns)));
    list.Set(list.Length(), each);
  }
  const uint32_t lost = crossings_->TakeLost();
  if (list.Length() == 0 && lost == 0) return;
  on_crossing_.Call({list, Napi::Number::New(env, lost)});
}

void NativeSampler::Start(const Napi::CallbackInfo& info) {
  const int error = sampler_->Start();
  if (error == EALREADY) return ThrowCoded(info.Env(), "SKOS_SAMPLER_STATE", "this sampler was started before");
  if (error != 0) return ThrowCoded(info.Env(), "SKOS_SAMPLER_START", Words("the sampler's threads or timer", error));
  // Running, it is held until stop(): protection must not end because somebody dropped a handle.
  Ref();
  held_ = true;
}

void NativeSampler::Stop(const Napi::CallbackInfo&) {
  StopNow();
  if (held_) Unref();
  held_ = false;
}

void NativeSampler::StopNow() {
  // Absent when the constructor threw.
  if (sampler_ != nullptr) sampler_->Stop();
  if (wake_ != nullptr) wake_->Close();
}

void NativeSampler::Refresh(const Napi::CallbackInfo&) {
  sampler_->Latest(latest_.data());
  for (size_t i = 0; i < latest_.size(); ++i) {
    arrays_->values[i] = static_cast<double>(latest_[i].value);
    arrays_->times_ms[i] = ToMs(latest_[i].time_ns);
    arrays_->qualities[i] = static_cast<uint8_t>(latest_[i].quality);
  }
}

Napi::Value NativeSampler::Drain(const Napi::CallbackInfo& info) {
  const size_t count = sampler_->Drain(drained_.data(), drained_.size());
  for (size_t i = 0; i < count; ++i) {
    arrays_->drained_channels[i] = drained_[i].channel;
    arrays_->drained_values[i] = static_cast<double>(drained_[i].reading.value);
    arrays_->drained_times_ms[i] = ToMs(drained_[i].reading.time_ns);
    arrays_->drained_qualities[i] = static_cast<uint8_t>(drained_[i].reading.quality);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value NativeSampler::Overruns(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(sampler_->overruns()));
}

}  // namespace skos::binding
