// The seqlock of one channel's latest reading: never torn, whoever reads it while it is written.
#include "sampler/latest.h"

#include <atomic>
#include <cstring>
#include <thread>

#include "sampler/clock.h"
#include "test/check.h"

namespace skos::test {
namespace {

// A reading whose parts betray whether they belong together.
Reading Numbered(int64_t number) {
  return {number * 3, number, number % 2 == 0 ? Quality::kOk : Quality::kFault};
}

bool IsWhole(const Reading& reading) {
  const Reading expected = Numbered(reading.time_ns);
  return reading.value == expected.value && reading.quality == expected.quality;
}

void HoldsNoDataAtFirst() {
  const LatestSlot slot;
  const Reading reading = slot.Load();
  CHECK_EQ(reading.quality, Quality::kNoData);
  CHECK_EQ(reading.time_ns, int64_t{0});
}

void NeverGivesATornReading() {
  LatestSlot slot;
  slot.Store(Numbered(0));
  std::atomic<bool> done{false};
  auto read = [&] {
    int64_t newest = 0;
    while (!done) {
      const Reading reading = slot.Load();
      CHECK(IsWhole(reading));
      CHECK(reading.time_ns >= newest);  // Time does not run backwards for one reader.
      newest = reading.time_ns;
    }
    CHECK(newest > 0);
  };
  std::thread first(read);
  std::thread second(read);
  const int64_t end_ns = MonotonicNs() + kNsPerSecond / 5;
  for (int64_t number = 1; MonotonicNs() < end_ns; ++number) slot.Store(Numbered(number));
  done = true;
  first.join();
  second.join();
}

void SaysThatAWriteIsUnderWay() {
  LatestSlot slot;
  slot.Store(Numbered(7));
  Reading reading;
  CHECK(slot.TryLoad(&reading));
  const uint32_t odd = 5;
  std::memcpy(static_cast<void*>(&slot), &odd, sizeof odd);  // The version comes first: a writer that was stopped in a write.
  CHECK(!slot.TryLoad(&reading));
}

void CallsOnlyAnOkReadingStale() {
  CHECK_EQ(OrStale({5, 100, Quality::kOk}, 200, 100).quality, Quality::kOk);
  const Reading stale = OrStale({5, 100, Quality::kOk}, 201, 100);
  CHECK_EQ(stale.quality, Quality::kStale);
  CHECK_EQ(stale.value, int64_t{0});
  CHECK_EQ(stale.time_ns, int64_t{100});
  CHECK_EQ(OrStale({0, 100, Quality::kFault}, 1'000'000, 100).quality, Quality::kFault);
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(HoldsNoDataAtFirst);
  RUN(NeverGivesATornReading);
  RUN(SaysThatAWriteIsUnderWay);
  RUN(CallsOnlyAnOkReadingStale);
  return 0;
}
