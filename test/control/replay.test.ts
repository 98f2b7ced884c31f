import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { thermalSentinel } from '../../src/antibodies/thermal-sentinel.js';
import { csvHeader, csvRows } from '../../src/cli/history-csv.js';
import { PastFeed } from '../../src/cli/past-feed.js';
import { type Bucket, type Episode, paired, Replay, type ReplayReport } from '../../src/control/replay.js';
import { Simulation } from '../../src/control/simulation.js';
import type { Quality } from '../../src/core/channel.js';
import type { Transition } from '../../src/policy/ladder.js';
import { configOf, cpuTemperature, only } from '../fixtures/antibodies.js';

const ID = 'hwmon/coretemp/temp1';
const CHANNEL = cpuTemperature({ rateHz: 1 });
const MINUTE_MS = 60_000;
/** A whole minute. */
const BEGIN_MS = Math.ceil(1_700_000_000_000 / MINUTE_MS) * MINUTE_MS;

function replay(written: Record<string, unknown> = {}, onTransition?: (transition: Transition) => void): Replay {
  return new Replay({
    config: configOf({ mode: 'auto', ...written }),
    antibodies: [thermalSentinel],
    channels: [CHANNEL],
    ...(onTransition === undefined ? {} : { onTransition: (_, transition) => onTransition(transition) }),
  });
}

/** One a second from the beginning on; null: no data. */
function over(each: Replay, celsius: readonly (number | null)[]): ReplayReport {
  celsius.forEach((value, i) => {
    const quality: Quality = value === null ? 'no_data' : 'ok';
    each.sample(ID, value === null ? null : value * 1000, quality, BEGIN_MS + i * 1000);
  });
  return each.report();
}

const hot = (celsius: number, seconds: number) => Array.from({ length: seconds }, () => celsius);

t.test('tells what would have fired, for how long, how hot, and with which actions by whose leave', async (t) => {
  const report = over(replay(), [...hot(60, 5), ...hot(78, 4), ...hot(88, 6), ...hot(60, 40)]);
  const episode = only(report.episodes);
  t.match(episode, { rule: 'thermal-cpu', channel: ID, severity: 'critical', peak: 88_000, certain: true, stepMs: 0 });
  t.equal(episode.fromMs, BEGIN_MS + 6_000);
  // A keep for each of two rungs, from the first calm sample on.
  t.equal(episode.toMs, BEGIN_MS + 35_000);
  t.match(
    episode.actions.map(({ action, permission, fromMs, toMs }) => [action, permission, fromMs, toMs]),
    [
      ['throttle_10', 'act', BEGIN_MS + 6_000, BEGIN_MS + 35_000],
      ['throttle_50', 'act', BEGIN_MS + 10_000, BEGIN_MS + 25_000],
      ['redistribute', 'propose', BEGIN_MS + 10_000, BEGIN_MS + 25_000],
    ],
  );
  t.match(report, { fired: 1, uncertain: 0, bySeverity: { critical: 1 } });
  t.match(
    report.totals.find(({ action }) => action === 'throttle_50'),
    { times: 1, totalMs: 15_000, permission: 'act' },
  );
  t.ok(over(replay({ mode: 'observe' }), hot(78, 5)).totals.every(({ permission }) => permission === 'observe'));
});

t.test('a gap, however long, and a loss release nothing, and what stands at the end is said to stand', async (t) => {
  const report = over(replay(), [...hot(78, 3), ...hot(60, 8), null, ...hot(60, 8), null, ...hot(60, 8)]);
  t.match(only(report.episodes), { toMs: null, verdict: 'ok' });
  const gap = replay();
  over(gap, hot(78, 3));
  const silent = replay();
  for (const [value, atMs] of [
    [78, 0],
    [78, 1_000],
    [60, 2_000],
    [60, 500_000_000],
  ] as const) {
    silent.sample(ID, value * 1000, 'ok', BEGIN_MS + atMs);
  }
  t.match(only(silent.report().episodes), { toMs: null });
});

t.test('a recorded simulation replays to the transitions that the live ladders made of the same samples', async (t) => {
  const config = configOf({
    mode: 'auto',
    sampling: { rate_hz: 2 },
    monitor: { interval: 0.5 },
    thermal: { thresholds: { warning: 55, critical: 64, emergency: 72 } },
  });
  for (const seed of [3, 4, 5]) {
    const rows = new Map<string, string[]>();
    const live: string[] = [];
    const simulation: Simulation = new Simulation({
      config,
      antibodies: [thermalSentinel],
      seed,
      hours: 3,
      gpus: 1,
      faults: 10,
      everySample: true,
      observer: {
        // Another life begins with fresh ladders, which no replay knows of.
        agent: (state) => state === 'stopped' && simulation.stop(),
        reading: (channel, value, quality, atMs) => {
          const { id = '' } = simulation.machine.channels[channel] ?? {};
          const row = `${iso(atMs)},${id},${quality === 'ok' ? value / 1000 : ''},celsius,${quality}`;
          rows.set(id, [...(rows.get(id) ?? []), row]);
        },
        finding: ({ rule }, { transition }) => live.push(story(rule.name, rule.channelId, transition, 0)),
      },
    });
    await simulation.run();
    const file = join(t.testdir(), 'past.csv');
    writeFileSync(file, [csvHeader('samples'), ...[...rows.values()].flat()].join('\n'));
    const past: string[] = [];
    const each = new Replay({
      config,
      antibodies: [thermalSentinel],
      channels: simulation.machine.channels,
      onTransition: (rule, transition) => past.push(story(rule.name, rule.channelId, transition, WALL_MS)),
    });
    const feed = new PastFeed([each]);
    t.equal(await feed.csv(file, () => false), true);
    t.match(feed.figures, { garbage: 0, late: 0 });
    t.ok(
      live.some((text) => text.includes('fire')),
      'something fired',
    );
    t.same(past.sort(), live.sort());
  }
});

const WALL_MS = Date.UTC(2026, 0, 1);

function iso(atMs: number): string {
  return new Date(WALL_MS + atMs).toISOString();
}

/** When a silence was noticed depends on who looks; that it was does not. */
function story(rule: string, channel: string, { atMs, ...transition }: Transition, offsetMs: number): string {
  const at = transition.verdict === 'stale' && transition.kind === 'verdict' ? '' : atMs - offsetMs;
  return JSON.stringify([rule, channel, transition, at]);
}

// ---- Seconds and minutes -------------------------------------------------------------------------------------------------

function minute(i: number, minimum: number, maximum: number, given: Partial<Bucket> = {}): Bucket {
  const values = { minimum: minimum * 1000, maximum: maximum * 1000 };
  return { atMs: BEGIN_MS + i * MINUTE_MS, stepMs: MINUTE_MS, ...values, count: 60, quality: 'ok', ...given };
}

function overBuckets(each: Replay, buckets: readonly Bucket[]): ReplayReport {
  for (const bucket of buckets) each.bucket(ID, bucket);
  return each.report();
}

t.test('of a minute the greatest value counts, and is certain only when the least does too', async (t) => {
  const unsure = only(overBuckets(replay(), [minute(0, 60, 61), minute(1, 60, 78), minute(2, 60, 61)]).episodes);
  t.match(unsure, { certain: false, stepMs: MINUTE_MS, peak: 78_000, severity: 'warning' });
  t.ok(unsure.fromMs > BEGIN_MS + MINUTE_MS && unsure.fromMs <= BEGIN_MS + 2 * MINUTE_MS, 'to a minute');
  t.ok(unsure.toMs !== null, 'and is over when a whole minute was calm');
  t.match(only(overBuckets(replay(), [minute(0, 76, 78)]).episodes), { certain: true });
  t.same(overBuckets(replay(), [minute(0, 60, 78, { count: 1 })]).episodes, [], 'one sample was never two');
});

t.test('a minute that lacks samples, or in which one was lost, is no calm', async (t) => {
  for (const given of [{ count: 50 }, { quality: 'fault' as const }, { count: 0, minimum: null, maximum: null }]) {
    const calm = [1, 2, 3, 4].map((i) => minute(i, 50, 51, given));
    t.match(only(overBuckets(replay(), [minute(0, 76, 78), ...calm]).episodes), { toMs: null }, JSON.stringify(given));
  }
  const missing = overBuckets(replay({ thermal: { keep: 70 } }), [
    minute(0, 76, 78),
    minute(1, 50, 51),
    minute(9, 50, 51),
  ]);
  t.match(only(missing.episodes), { toMs: null }, 'a gap between minutes neither');
});

t.test('minutes show all that the samples behind them show, and hold it no shorter', async () => {
  const celsius = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom<number | null>(60, 71, 74) },
    { weight: 3, arbitrary: fc.constantFrom<number | null>(76, 86, 96) },
    { weight: 1, arbitrary: fc.constant<number | null>(null) },
  );
  const stretch = fc.tuple(celsius, fc.integer({ min: 1, max: 90 })).map(([value, length]) => {
    return Array.from({ length }, () => value);
  });
  fc.assert(
    fc.property(fc.array(stretch, { minLength: 1, maxLength: 20 }), (stretches) => {
      const past = stretches.flat();
      const fine = over(replay(), past);
      const coarse = overBuckets(replay(), bucketsOf(past));
      for (const episode of fine.episodes) {
        const covers = (other: Episode) => {
          const endMs = other.toMs ?? Number.POSITIVE_INFINITY;
          return other.fromMs - MINUTE_MS <= episode.fromMs && (episode.toMs ?? BEGIN_MS + past.length * 1000) <= endMs;
        };
        if (!coarse.episodes.some(covers)) throw new Error(`${JSON.stringify(episode)} is missing`);
      }
      if (fine.fired === 0 && coarse.uncertain !== coarse.fired) throw new Error('certain, and did not happen');
    }),
    { numRuns: 300 },
  );
});

/** As the store makes them. */
function bucketsOf(celsius: readonly (number | null)[]): Bucket[] {
  const buckets: Bucket[] = [];
  for (let from = 0; from < celsius.length; from += 60) {
    const part = celsius.slice(from, from + 60);
    const values = part.filter((value) => value !== null);
    const [minimum, maximum] = values.length === 0 ? [0, 0] : [Math.min(...values), Math.max(...values)];
    const none = values.length === 0 ? { minimum: null, maximum: null } : {};
    const quality = values.length === part.length ? 'ok' : 'no_data';
    buckets.push(minute(from / 60, minimum, maximum, { count: values.length, quality, ...none }));
  }
  return buckets;
}

// ---- Two policies --------------------------------------------------------------------------------------------------------

t.test('puts two policies side by side: what is alike, what differs, what only one of them sees', async (t) => {
  const past = [
    ...hot(78, 5),
    ...hot(68, 30),
    ...hot(50, 60),
    ...hot(72, 5),
    ...hot(50, 60),
    ...hot(97, 5),
    ...hot(50, 90),
  ];
  const strict = over(replay({ thermal: { thresholds: { warning: 70, critical: 85, emergency: 95 } } }), past);
  const plain = over(replay(), past);
  const loose = over(replay({ thermal: { thresholds: { warning: 90, critical: 95, emergency: 99 } } }), past);
  t.ok(paired(plain.episodes, plain.episodes).every(({ same, a }) => same && a !== undefined));
  const found = paired(plain.episodes, strict.episodes);
  t.same(found.map(({ a, b, same }) => [a !== undefined, b !== undefined, same]).slice(0, 2), [
    [true, true, false],
    [false, true, false],
  ]);
  const lost = paired(strict.episodes, loose.episodes).filter(({ b }) => b === undefined);
  t.equal(lost.length, 2);
});

// ---- Files ---------------------------------------------------------------------------------------------------------------

interface Place {
  testdir(): string;
}

async function fed(t: Place, lines: readonly string[]) {
  const file = join(t.testdir(), 'past.csv');
  writeFileSync(file, lines.join('\n'));
  const transitions: Transition[] = [];
  const each = replay({}, (transition) => transitions.push(transition));
  const feed = new PastFeed([each]);
  await feed.csv(file, () => false);
  return { report: each.report(), figures: feed.figures, ids: [...feed.ids], transitions };
}

const at = (seconds: number) => new Date(BEGIN_MS + seconds * 1000).toISOString();
const row = (seconds: number, value: number | string, quality = 'ok') =>
  `${at(seconds)},${ID},${value},celsius,${quality}`;

t.test('passes over lines that are no readings, counts them, and says where the first one is', async (t) => {
  const garbage = [
    'x',
    `${at(3)},${ID},,celsius,ok`,
    `${at(3)},${ID},99,celsius,fault`,
    `${at(3)},${ID},NaN,celsius,ok`,
    `${at(3)},${ID},0x60,celsius,ok`,
    `${at(3)},${ID},99,furlongs,ok`,
    `${at(3)},${ID},99,celsius,fine`,
    `${at(3)},../../etc/passwd,99,celsius,ok`,
    `2026-02-31T00:00:00,${ID},99,celsius,ok`,
    `${at(3)},${ID},99,celsius,ok,more`,
  ];
  const { report, figures } = await fed(t, [csvHeader('samples'), row(0, 50), row(1, 50), ...garbage, row(4, 50)]);
  t.match(figures, { rows: 3, garbage: garbage.length, firstGarbageLine: 4 });
  t.equal(report.fired, 0, 'and fires on none of them');
});

t.test('a file that is none is refused with a code', async (t) => {
  const long = `${at(0)},${ID},${'9'.repeat(5_000)},celsius,ok`;
  for (const lines of [[''], ['time,value'], [csvHeader('samples'), long]]) {
    await t.rejects(fed(t, lines), { code: 'SKOS_REPLAY_CSV' });
  }
  await t.rejects(
    new PastFeed([]).csv('/nonexistent.csv', () => false),
    { code: 'SKOS_REPLAY_CSV' },
  );
});

t.test('rows told twice, out of order or of a clock that jumped never count as readings in a row', async (t) => {
  const twice = await fed(t, [csvHeader('samples'), row(0, 50), row(1, 78), row(1, 78), row(0.5, 78), row(2, 50)]);
  t.match(twice.figures, { late: 2 });
  t.equal(twice.report.fired, 0);
  const back = await fed(t, [csvHeader('samples'), row(0, 78), row(1, 78), row(-3_600, 60), row(-3_590, 60)]);
  t.match(only(back.report.episodes), { toMs: null }, 'an hour back is no calm');
  const absurd = await fed(t, [
    csvHeader('samples'),
    `9999-12-31T23:59:59.000Z,${ID},50,celsius,ok`,
    row(0, 78),
    row(1, 78),
  ]);
  t.equal(absurd.report.fired, 1, 'one absurd time makes it not deaf');
});

t.test('channels that no rule watches change nothing, and are known by name', async (t) => {
  const other = `${at(0)},nvml/x/temperature,99,celsius,ok`;
  const { ids, report } = await fed(t, [csvHeader('samples'), other, row(0, 50)]);
  t.same(ids.sort(), [ID, 'nvml/x/temperature']);
  t.equal(report.fired, 0);
});

t.test('tells minutes, seconds and samples of one file apart', async (t) => {
  const series = (stepMs: number, atMs: readonly number[]) => ({
    channel: ID,
    label: '',
    quantity: 'temperature',
    unit: 'celsius',
    stepMs,
    atMs,
    values: atMs.map(() => 50),
    minimums: atMs.map(() => 50),
    maximums: atMs.map(() => 50.5),
    counts: atMs.map(() => stepMs / 1000 || 1),
    qualities: [[0, 'ok'] as const],
  });
  const parts = [
    series(
      MINUTE_MS,
      [0, 1, 2].map((i) => BEGIN_MS + i * MINUTE_MS),
    ),
    series(
      1000,
      [0, 1, 2, 3].map((i) => BEGIN_MS + 3 * MINUTE_MS + i * 1000),
    ),
    series(
      0,
      [0, 1, 2].map((i) => BEGIN_MS + 3 * MINUTE_MS + 4_000 + i * 100),
    ),
  ];
  const { figures } = await fed(t, [csvHeader('points'), ...parts.flatMap((part) => csvRows(part, 'points'))]);
  t.same(
    [...figures.byStepMs].sort(([a], [b]) => b - a),
    [
      [MINUTE_MS, 3],
      [1000, 4],
      [0, 3],
    ],
  );
});
