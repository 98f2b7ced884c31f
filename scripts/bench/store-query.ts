/** How long it takes to look back over a day of 64 channels at one sample a second. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { HistoryQuery } from '../../src/core/ports.js';
import type { LevelStore } from '../../src/store/store.js';
import { Feed } from './store-feed.js';
import type { Figure } from './store-figure.js';
import { randomWalk } from './store-shapes.js';

const CHANNELS = 64;
const RATE_HZ = 1;
const DAY_MS = 86_400_000;
const STEP_MS = 60_000;
const POINTS = 1_000;
/** The first rounds compile, and bring tables into the page cache. */
const ROUNDS = 15;

interface Answer {
  readonly ms: number;
  readonly points: number;
}

async function ask(store: LevelStore, query: HistoryQuery): Promise<Answer> {
  const startMs = performance.now();
  let points = 0;
  let after: string | null | undefined;
  while (after !== null) {
    const page = await store.history.page(after === undefined ? query : { ...query, after });
    for (const { atMs } of page.series) points += atMs.length;
    after = page.after;
  }
  return { ms: performance.now() - startMs, points };
}

async function quickest(rounds: number, each: () => Promise<Answer>): Promise<Answer> {
  const answers: Answer[] = [];
  for (let round = 0; round < rounds; round++) answers.push(await each());
  return answers.reduce((best, answer) => (answer.ms < best.ms ? answer : best));
}

export async function queryFigures(): Promise<Figure[]> {
  const dataDir = mkdtempSync(join(process.cwd(), '.bench-store-'));
  const series = Array.from({ length: CHANNELS }, (_, i) => randomWalk(i + 1));
  const feed = await Feed.open({ dataDir, rateHz: RATE_HZ, series });
  try {
    for (let ms = 0; ms < DAY_MS; ms += STEP_MS) await feed.pass(STEP_MS);
    // Minutes are made a few seconds after their hour; the accelerated clock did not leave the time.
    for (let i = 0; i < CHANNELS; i++) await feed.store.maintain();
    const toAtMs = feed.timers.clock.wallMs();
    const day = { glob: '**', fromAtMs: toAtMs - DAY_MS, toAtMs };
    const downsampled = await quickest(ROUNDS, () => ask(feed.store, { ...day, points: POINTS }));
    const all = await quickest(2, () => ask(feed.store, day));
    const expected = (CHANNELS * DAY_MS) / 1000;
    // Whoever reads less is not quicker.
    if (downsampled.points < (CHANNELS * POINTS) / 2 || all.points < 0.99 * expected) {
      throw new Error(`${downsampled.points} points and ${all.points} of ${expected} seconds were read`);
    }
    const what = `${CHANNELS} channels × 24 h at 1 s`;
    return [
      { name: `${what}: to ${POINTS} points each`, value: downsampled.ms, unit: 'ms', limit: 50 },
      { name: `${what}: every second`, value: all.ms, unit: 'ms', limit: null },
    ];
  } finally {
    await feed.stop();
    rmSync(dataDir, { recursive: true });
  }
}
