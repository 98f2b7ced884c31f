import t, { type Test } from 'tap';
import type { Alert } from '../../src/core/ports.js';
import { MAX_SILENCE_MS, MAX_SILENCES } from '../../src/policy/silence.js';
import { FakeClock, FakeStore, type Life, life, turns } from '../fixtures/control.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const CPU = 'hwmon/coretemp/**';

/** Feeds samples at 10 Hz as the tick does. */
function feed(now: Life, celsius: number, seconds = 0.2): void {
  for (let i = 0; i < Math.round(seconds * 10); i++) {
    now.clock.nowMs += 100;
    now.rulebook.sample(0, celsius * 1000, 'ok', now.clock.nowMs, (b, f) => now.alerts.apply(b, f));
    now.alerts.tend(now.clock.nowMs);
    now.executor.reconcile(now.clock.nowMs);
  }
}

function told(now: Life): (string | null)[] {
  return (now.outlet.of('alert') as Alert[]).map(({ severity }) => severity);
}

async function node(given: Parameters<typeof life>[0] = {}): Promise<Life> {
  const now = life(given);
  await now.silences.start();
  return now;
}

function silenced(now: Life, { pattern = CPU, forMs = HOUR_MS } = {}) {
  return now.silences.add({ pattern, forMs, who: 'root', why: 'moving data' });
}

t.test(
  'nobody is notified of what is silenced; it is recorded, retained, marked, and acted upon as ever',
  async (t) => {
    const [now, loud] = [await node(), await node()];
    silenced(now);
    for (const each of [now, loud]) {
      for (const celsius of [76, 86]) feed(each, celsius);
      feed(each, 50, 40);
      await turns();
    }
    t.strictSame(told(now), []);
    t.ok(told(loud).length >= 4);
    const kept = ({ store }: Life) => store.alertPuts.map(({ state, severity }) => [state, severity]);
    t.strictSame(kept(now), kept(loud), 'the record has the same');
    t.ok(now.store.alertPuts.every((each) => each.silenced === true));
    t.ok(loud.store.alertPuts.every((each) => each.silenced === undefined));
    t.strictSame(now.outlet.of('active'), now.store.alertPuts, 'the retained truth too');
    const audited = ({ store }: Life) =>
      store.entries.filter(({ kind }) => kind.startsWith('alert.')).map(({ kind }) => kind);
    t.strictSame(audited(now), audited(loud));
    const levels = now.log.lines
      .filter(({ fields }) => String(fields.event).startsWith('alert.'))
      .map(({ level }) => level);
    t.strictSame([...new Set(levels)], ['info']);
    const done = ({ store }: Life) => store.puts.map(({ action, state }) => [action, state]);
    t.ok(done(loud).length > 0);
    t.strictSame(done(now), done(loud), 'actions know of no silence');
  },
);

t.test('the end of what somebody was told of is told, also during a silence', async (t) => {
  const now = await node();
  feed(now, 76);
  silenced(now, { pattern: 'thermal-cpu' });
  feed(now, 76, 1);
  t.match(now.outlet.of('active').at(-1), { severity: 'warning', silenced: true });
  feed(now, 50, 30);
  t.strictSame(told(now), ['warning', null]);
});

t.test('what still stands when a silence is over is told once, unless it was told as it is', async (t) => {
  const now = await node();
  feed(now, 76);
  const { id } = silenced(now);
  feed(now, 76, 1);
  now.silences.end(id, 'root');
  feed(now, 76, 1);
  t.strictSame(told(now), ['warning'], 'nothing is new about it');
  silenced(now, { forMs: 5_000 });
  feed(now, 86, 4);
  t.strictSame(told(now), ['warning']);
  feed(now, 86, 3);
  t.strictSame(told(now), ['warning', 'critical']);
  t.match(now.outlet.of('active').at(-1), { severity: 'critical', silenced: undefined });
  await turns();
  t.match(
    now.log.lines.find(({ fields }) => fields.event === 'alert.unsilenced'),
    { level: 'error' },
  );
});

t.test('holds over a restart and a reboot with a clock that was set, and ends in its time', async (t) => {
  const clock = new FakeClock();
  const store = new FakeStore();
  let wallBackMs = 0;
  clock.wallMs = () => 1_700_000_000_000 + clock.nowMs - wallBackMs;
  const first = await node({ clock, store });
  silenced(first, { forMs: HOUR_MS });
  clock.nowMs += HOUR_MS / 2;
  const second = await node({ clock, store });
  t.match(second.silences.list(), [{ pattern: CPU, who: 'root', why: 'moving data' }]);
  feed(second, 76);
  t.strictSame(told(second), []);
  wallBackMs = 300 * DAY_MS;
  clock.nowMs = 10_000;
  const third = await node({ clock, store, bootId: 'boot-2' });
  feed(third, 86);
  t.strictSame(told(third), [], 'a clock that went back ends nothing early');
  clock.nowMs += HOUR_MS;
  feed(third, 86);
  t.strictSame(told(third), ['critical'], 'nor does it make it last for ever');
  t.strictSame(third.silences.list(), []);
  await turns();
  t.match(
    store.entries.filter(({ kind }) => kind.startsWith('silence.')),
    [
      { kind: 'silence.add', who: 'root', what: { pattern: CPU, why: 'moving data' } },
      { kind: 'silence.end', who: 'agent', what: { pattern: CPU } },
    ],
  );
});

t.test('a silence that the store tells of late marks what stands already', async (t) => {
  const store = new FakeStore();
  silenced(await node({ store }));
  store.disk = 'fails';
  const late = life({ store });
  await late.silences.start();
  feed(late, 76);
  t.strictSame(told(late), ['warning']);
  store.disk = 'well';
  late.clock.nowMs += 60_000;
  feed(late, 76, 0.1);
  await turns();
  feed(late, 76, 0.1);
  t.match(late.outlet.of('active').at(-1), { silenced: true });
});

t.test('is bounded in time and number, and a damaged one silences nothing', async (t: Test) => {
  const store = new FakeStore();
  const now = await node({ store });
  const { sinceAtMs, untilAtMs, id } = silenced(now, { forMs: 900 * DAY_MS });
  t.equal(untilAtMs - sinceAtMs, MAX_SILENCE_MS);
  for (let n = 1; n < MAX_SILENCES; n++) silenced(now, { pattern: `rule-${n}` });
  t.throws(() => silenced(now), { code: 'SKOS_SILENCE_LIMIT' });
  now.silences.end(id, 'root');
  t.throws(() => now.silences.end(id, 'root'), { code: 'SKOS_SILENCE_UNKNOWN' });
  const { id: absurd } = silenced(now);
  for (const [key, value] of store.keyed) {
    if (!key.includes(absurd)) continue;
    store.keyed.set(key, Buffer.from(value.toString().replace(/"untilMs":[\d.]+/, '"untilMs":1e300')));
  }
  const next = await node({ store, clock: now.clock });
  feed(next, 76);
  t.strictSame(told(next), ['warning']);
  store.disk = 'fails';
  const blind = life({ store, clock: now.clock });
  await blind.silences.start();
  t.throws(() => silenced(blind), { code: 'SKOS_STORE_READ' });
  feed(blind, 76);
  t.strictSame(told(blind), ['warning'], 'where nothing is known, everybody is told');
  store.disk = 'well';
  blind.clock.nowMs += 60_000;
  feed(blind, 76);
  await turns();
  t.equal(blind.silences.list().length, MAX_SILENCES - 1, 'and the store is asked again');
});
