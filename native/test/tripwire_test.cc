// Tripwires and the ring, without threads.
#include "sampler/ring.h"
#include "sampler/tripwire.h"
#include "test/check.h"

namespace skos::test {
namespace {

Reading Ok(int64_t value) { return {value, 1, Quality::kOk}; }
Reading Lost(Quality quality) { return {0, 1, quality}; }

TripwireSpec Spec(uint32_t samples, bool loss_raises = false) {
  TripwireSpec spec;
  spec.raise = 80;
  spec.clear = 70;
  spec.samples = samples;
  spec.loss_raises = loss_raises;
  return spec;
}

void RaisesAboveAndClearsBelowOnly() {
  Tripwire wire(Spec(1));
  CHECK(!wire.Update(Ok(80)));
  CHECK(wire.Update(Ok(81)));
  CHECK(wire.raised());
  CHECK(!wire.Update(Ok(81)));
  CHECK(!wire.Update(Ok(70)));
  CHECK(wire.Update(Ok(69)));
  CHECK(!wire.raised());
}

void CountsConsecutiveSamples() {
  Tripwire wire(Spec(3));
  CHECK(!wire.Update(Ok(90)));
  CHECK(!wire.Update(Ok(90)));
  CHECK(!wire.Update(Ok(75)));  // Breaks the run.
  CHECK(!wire.Update(Ok(90)));
  CHECK(!wire.Update(Ok(90)));
  CHECK(wire.Update(Ok(90)));
  CHECK(!wire.Update(Ok(60)));
  CHECK(!wire.Update(Ok(60)));
  CHECK(!wire.Update(Ok(75)));
  CHECK(!wire.Update(Ok(60)));
  CHECK(!wire.Update(Ok(60)));
  CHECK(wire.Update(Ok(60)));
}

void NeitherCountsNorBreaksOnLoss() {
  Tripwire wire(Spec(2));
  CHECK(!wire.Update(Ok(90)));
  CHECK(!wire.Update(Lost(Quality::kHung)));
  CHECK(!wire.Update(Lost(Quality::kNoData)));
  CHECK(wire.Update(Ok(90)));
  for (int i = 0; i < 10; ++i) CHECK(!wire.Update(Lost(Quality::kFault)));
  CHECK(wire.raised());  // Loss is never a recovery.
}

void LossRaisesWhereItIsAskedFor() {
  Tripwire wire(Spec(2, true));
  CHECK(!wire.Update(Lost(Quality::kHung)));
  CHECK(wire.Update(Lost(Quality::kNoData)));
  CHECK(!wire.Update(Ok(60)));
  CHECK(!wire.Update(Lost(Quality::kFault)));  // Breaks the way back.
  CHECK(!wire.Update(Ok(60)));
  CHECK(wire.Update(Ok(60)));
}

void RingKeepsOrderAndCountsWhatItLost() {
  Ring ring(4);
  Record out[8];
  CHECK_EQ(ring.Drain(out, 8), size_t{0});
  for (int i = 0; i < 3; ++i) ring.Push(7, {i, i, Quality::kOk});
  CHECK_EQ(ring.Drain(out, 2), size_t{2});
  CHECK_EQ(out[1].reading.value, int64_t{1});
  CHECK_EQ(out[1].channel, uint32_t{7});
  for (int i = 3; i < 10; ++i) ring.Push(65535, {-i, i, Quality::kHung});
  CHECK_EQ(ring.overruns(), uint64_t{4});  // Records 2 to 5.
  CHECK_EQ(ring.Drain(out, 8), size_t{4});
  CHECK_EQ(out[0].reading.value, int64_t{-6});
  CHECK_EQ(out[3].reading.value, int64_t{-9});
  CHECK_EQ(out[3].channel, uint32_t{65535});
  CHECK_EQ(out[3].reading.quality, Quality::kHung);
  CHECK_EQ(ring.overruns(), uint64_t{4});
}

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(RaisesAboveAndClearsBelowOnly);
  RUN(CountsConsecutiveSamples);
  RUN(NeitherCountsNorBreaksOnLoss);
  RUN(LossRaisesWhereItIsAskedFor);
  RUN(RingKeepsOrderAndCountsWhatItLost);
  return 0;
}
