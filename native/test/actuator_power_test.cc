// Average power of an energy counter: never over less than a second, never invented.
#include "actuator/power.h"

#include "sampler/clock.h"
#include "test/check.h"

namespace skos::test {
namespace {

using actuator::AveragePower;

constexpr int64_t kMaxUj = 262'143'328'850;
constexpr int64_t kMs = 1'000'000;
constexpr int64_t kStart = 5'000'000 * kMs;

Reading At(int64_t ms, int64_t energy_uj, Quality quality = Quality::kOk) {
  return {energy_uj, kStart + ms * kMs, quality};
}

void CheckPower(const AveragePower& power, int64_t ms, int64_t milliwatts) {
  const Reading reading = power.At(kStart + ms * kMs);
  CHECK_EQ(reading.quality, Quality::kOk);
  CHECK_EQ(reading.value, milliwatts);
}

void CheckNone(const AveragePower& power, int64_t ms, Quality quality) {
  const Reading reading = power.At(kStart + ms * kMs);
  CHECK_EQ(reading.quality, quality);
  CHECK(quality == Quality::kStale || reading.value == 0);
}

void AveragesOverASecondAtLeast() {
  AveragePower power(kMaxUj);
  CheckNone(power, 0, Quality::kNoData);
  power.Take(At(0, 1'000'000));
  CheckNone(power, 0, Quality::kNoData);
  // Within the second the counter may say what it likes: nothing of it comes out, then or later.
  power.Take(At(1, 9'000'000));
  power.Take(At(500, 2'000'000));
  power.Take(At(999, 200'000'000));
  CheckNone(power, 999, Quality::kNoData);
  power.Take(At(1'000, 101'000'000));
  CheckPower(power, 1'000, 100'000);
  power.Take(At(1'999, 900'000'000));
  CheckPower(power, 1'999, 100'000);
  power.Take(At(3'000, 101'000'000));
  CheckPower(power, 3'000, 0);
}

void GoesOnWhereTheCounterStartsAgain() {
  AveragePower power(kMaxUj);
  power.Take(At(0, kMaxUj - 60'000'000));
  power.Take(At(1'000, 40'000'000));
  CheckPower(power, 1'000, 100'000);
}

void InventsNothingWhenTheCounterIsReset() {
  AveragePower power(kMaxUj);
  power.Take(At(0, 200'000'000'000));
  power.Take(At(1'000, 1'000'000));  // As if it had gone round: 62 kW.
  CheckNone(power, 1'000, Quality::kNoData);
  power.Take(At(2'000, 51'000'000));
  CheckPower(power, 2'000, 50'000);
}

void StartsAnewAfterAGap() {
  AveragePower power(kMaxUj);
  power.Take(At(0, 0));
  power.Take(At(61'000, 100'000'000));  // It may have gone round meanwhile.
  CheckNone(power, 61'000, Quality::kNoData);
  power.Take(At(62'000, 200'000'000));
  CheckPower(power, 62'000, 100'000);
  power.Take(At(63'000, 0, Quality::kHung));
  CheckNone(power, 63'000, Quality::kHung);
  power.Take(At(64'000, 300'000'000));
  CheckNone(power, 64'000, Quality::kNoData);
  power.Take(At(65'000, 310'000'000));
  CheckPower(power, 65'000, 10'000);
}

void SaysStaleWhenNoReadingComes() {
  AveragePower power(kMaxUj);
  power.Take(At(0, 0));
  power.Take(At(1'000, 1'000'000));
  CheckPower(power, 6'000, 1'000);
  CheckNone(power, 6'001, Quality::kStale);
  power.Take(Reading());  // A sampler that has just been started has read nothing yet.
  CheckPower(power, 6'000, 1'000);
}

void CallsFaultWhatIsNoCounter() {
  AveragePower power(1'000);
  power.Take(At(0, -1));
  CheckNone(power, 0, Quality::kFault);
  power.Take(At(1'000, 1'001));
  CheckNone(power, 1'000, Quality::kFault);
  power.Take(At(2'000, 0, Quality::kFault));
  CheckNone(power, 2'000, Quality::kFault);
  power.Take(At(3'000, 1'000));
  CheckNone(power, 3'000, Quality::kNoData);
}

int Main() {
  RUN(AveragesOverASecondAtLeast);
  RUN(GoesOnWhereTheCounterStartsAgain);
  RUN(InventsNothingWhenTheCounterIsReset);
  RUN(StartsAnewAfterAGap);
  RUN(SaysStaleWhenNoReadingComes);
  RUN(CallsFaultWhatIsNoCounter);
  return 0;
}

}  // namespace
}  // namespace skos::test

int main() { return skos::test::Main(); }
