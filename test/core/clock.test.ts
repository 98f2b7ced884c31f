import t from 'tap';
import { wallOffsetMs } from '../../src/core/clock.js';

/** A clock that loses so many milliseconds after each of its first reads. */
function interrupted(lostMs: readonly number[]) {
  let nowMs = 1_000;
  let reads = 0;
  const pass = () => {
    nowMs += lostMs[reads++] ?? 0;
  };
  return {
    monotonicMs: () => {
      const atMs = nowMs;
      pass();
      return atMs;
    },
    wallMs: () => {
      const atMs = nowMs + 1_700_000_000_000;
      pass();
      return atMs;
    },
  };
}

t.test('the distance of the clocks does not depend on when the process loses the processor', (t) => {
  t.equal(wallOffsetMs(interrupted([])), 1_700_000_000_000);
  t.equal(wallOffsetMs(interrupted([30])), 1_700_000_000_000, 'before the wall clock is read');
  t.equal(wallOffsetMs(interrupted([0, 30])), 1_700_000_000_000, 'after it');
  t.equal(wallOffsetMs(interrupted([30, 0, 0, 50, 0, 0])), 1_700_000_000_000, 'twice');
  t.end();
});

t.test('the distance of the clocks is the best there is on a machine that interrupts each time', (t) => {
  t.equal(wallOffsetMs(interrupted([20, 0, 0, 8, 0, 0, 30, 0, 0, 40, 0, 0, 9, 0, 0])), 1_700_000_000_008);
  t.end();
});
