/** What the executor's tests do not show: that many holders of the same leases cost no more than their number. */
import t from 'tap';
import type { Hold } from '../../src/control/hold.js';
import { type Holder, LeaseKeeper } from '../../src/control/lease-keeper.js';
import type { Actuator } from '../../src/core/ports.js';

/** Cores that are hot, each of which caps each policy of a large node on two rungs. */
const HOLDERS = 16;
const HOLDS = 256;

class CountedHolder implements Holder {
  static looks = 0;
  ending = false;
  readonly holds: Hold[] = Array.from({ length: HOLDS }, (_, i) => ({
    get lease() {
      CountedHolder.looks++;
      return `lease-${i}`;
    },
    target: `cpufreq/policy${i}`,
    capPpm: 500_000,
    state: 'new',
    turn: 0,
  }));
}

t.test('what many cores give back one after the other is looked up for each, not for each pair', async (t) => {
  const released: string[] = [];
  const holders = Array.from({ length: HOLDERS }, () => new CountedHolder());
  const keeper = new LeaseKeeper<CountedHolder>({
    ttlMs: () => 30_000,
    holders: () => holders,
    become: () => undefined,
    onRefused: () => undefined,
    onGivenBack: () => undefined,
  });
  const result = { ok: true, outcome: 'applied', readBack: '1' };
  const actuator: Pick<Actuator, 'set' | 'release'> = {
    set: () => Promise.resolve(result),
    release: (lease: string) => {
      released.push(lease);
      return Promise.resolve({ ...result, outcome: 'released' });
    },
  };
  keeper.use(actuator as Actuator);
  for (const holder of holders) for (const hold of holder.holds) keeper.ask(holder, hold);
  await new Promise(setImmediate);

  const giveBack = (some: readonly CountedHolder[]) => {
    CountedHolder.looks = 0;
    for (const holder of some) {
      holder.ending = true;
      for (const hold of holder.holds) keeper.giveBack(holder, hold);
    }
    return CountedHolder.looks;
  };
  // Through the leases of one holder at most; through those of all it would be eight times as many.
  const most = (HOLDERS - 1) * HOLDS * (HOLDS + 8);
  const looks = giveBack(holders.slice(0, -1));
  t.ok(looks <= most, `${looks} looks`);
  t.same(released, [], 'the last core still wants them');
  giveBack(holders.slice(-1));
  t.equal(new Set(released).size, HOLDS, 'and with it they go');
});
