/** Deadlines: who waits goes on, whatever becomes of the work. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { isDoneWithin, withDeadline, within } from '../../src/core/deadline.js';

const never = () => new Promise<never>(() => undefined);

t.test('gives what the work gives, and leaves no timer behind', async (t) => {
  const before = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  t.equal(await within(Promise.resolve('done'), 60_000, () => 'late'), 'done');
  t.equal(await withDeadline(Promise.resolve(undefined), 60_000), undefined);
  t.equal(await isDoneWithin(Promise.resolve(), 60_000), true);
  t.equal(process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length, before);
});

t.test('work that never ends is late: a value, a throw, false or a rejection', async (t) => {
  t.equal(await within(never(), 1, () => 'late'), 'late');
  await t.rejects(
    within(never(), 1, () => {
      throw new RangeError('gone');
    }),
    RangeError,
  );
  t.equal(await isDoneWithin(never(), 1), false);
  await t.rejects(withDeadline(never(), 1), { message: 'did not answer within 1 ms' });
});

t.test('rejects as the work does in time; a failure that comes too late is nobody’s', async (t) => {
  const fail = async (afterMs: number) => {
    await sleep(afterMs);
    throw new RangeError('broken');
  };
  await t.rejects(isDoneWithin(fail(0), 1_000), RangeError);
  t.equal(await isDoneWithin(fail(20), 1), false);
  await sleep(40);
});
