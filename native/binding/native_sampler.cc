#include "binding/native_sampler.h"

#include <atomic>
#include <cerrno>

#include "binding/channel_spec.h"
#include "binding/errors.h"

namespace skos::binding {
namespace {

constexpr size_t kMaxCrossings = 1024;     // Waiting for JS. More are counted as lost; JS looks at the readings anyway.
constexpr double kMaxRingRecords = 1 << 20;
constexpr double kNsPerMs = 1e6;

}  // namespace

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

  arrays_ = std::make_unique<ReadingArrays>(env, info.This().As<Napi::Object>(), channels.size());
  crossings_ = std::make_shared<CrossingQueue>();
  wake_ = Wake::Create(env, "skos crossing", [this](Napi::Env in) { Deliver(in); });
  options.ring_records = static_cast<size_t>(ring_records);
  options.read_deadline_ns = static_cast<int64_t>(deadline_ms * kNsPerMs);
  options.on_crossing = [queue = crossings_, wake = wake_](const Crossing& crossing) {
    queue->Push(crossing);
    wake->Call();
  };
  sampler_ = std::make_unique<Sampler>(std::move(channels), std::move(tripwires), std::move(options));
}

NativeSampler::~NativeSampler() { StopNow(); }

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
  sampler_->Latest(arrays_->latest());
  arrays_->ShowLatest();
}

Napi::Value NativeSampler::Drain(const Napi::CallbackInfo& info) {
  const size_t count = sampler_->Drain(arrays_->drained(), arrays_->drained_capacity());
  arrays_->ShowDrained(count);
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

Napi::Value NativeSampler::Overruns(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(sampler_->overruns()));
}

}  // namespace skos::binding
