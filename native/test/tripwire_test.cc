// Tripwires, without threads.
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

}  // namespace
}  // namespace skos::test

int main() {
  using namespace skos::test;
  RUN(RaisesAboveAndClearsBelowOnly);
  RUN(CountsConsecutiveSamples);
  RUN(NeitherCountsNorBreaksOnLoss);
  RUN(LossRaisesWhereItIsAskedFor);
  return 0;
}
