// A storm of events is told at a pace that a client can follow.
#include "gpu/event_pace.h"

#include "test/check.h"

namespace skos::test {
namespace {

using gpu::EventPace;
using gpu::kMaxEventsPerSecond;

void TellsTheSameEventOnceInASecond() {
  EventPace pace;
  CHECK(pace.DelayNs("a", 0) == int64_t{0});
  CHECK(!pace.DelayNs("a", 1));
  CHECK(pace.DelayNs("b", 2) == int64_t{0});
  CHECK(!pace.DelayNs("a", kNsPerSecond - 1));
  CHECK(pace.DelayNs("a", kNsPerSecond) == int64_t{0});
  CHECK(!pace.DelayNs("a", kNsPerSecond + 1));
}

void LetsOthersWaitForTheNextSecond() {
  EventPace pace;
  int64_t now_ns = 5 * kNsPerSecond;
  for (size_t i = 0; i < kMaxEventsPerSecond; ++i) CHECK(pace.DelayNs(std::to_string(i), now_ns) == int64_t{0});
  CHECK(!pace.DelayNs("0", now_ns));  // A repetition waits for nothing.
  const auto delay_ns = pace.DelayNs("one more", now_ns + 10);
  CHECK(delay_ns == kNsPerSecond - 10);
  CHECK(pace.DelayNs("one more", now_ns + 10 + *delay_ns) == int64_t{0});
}

void KeepsThePaceOfAStormThatLasts() {
  EventPace pace;
  size_t told = 0;
  int64_t now_ns = 0;
  for (int i = 0; i < 1000; ++i) {
    for (auto delay_ns = pace.DelayNs(std::to_string(i), now_ns); *delay_ns != 0;) {
      now_ns += *delay_ns;
      delay_ns = pace.DelayNs(std::to_string(i), now_ns);
    }
    ++told;
  }
  CHECK_EQ(told, size_t{1000});
  CHECK_EQ(now_ns / kNsPerSecond, int64_t{999 / kMaxEventsPerSecond});
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(TellsTheSameEventOnceInASecond);
  RUN(LetsOthersWaitForTheNextSecond);
  RUN(KeepsThePaceOfAStormThatLasts);
  return 0;
}
