import fc from 'fast-check';
import t from 'tap';
import { FLIGHT_RECORDER_BYTES, FlightArena, MAX_TRACKS } from '../../src/control/flight-arena.js';
import { QUALITIES } from '../../src/core/channel.js';

const OK = QUALITIES.indexOf('ok');

interface Sample {
  readonly atMs: number;
  readonly value: number;
  readonly quality: number;
}

/** All samples of a track, read in pieces of `piece`. */
function all(arena: FlightArena, track: number, piece = 600): Sample[] {
  const into = { atMs: new Float64Array(piece), values: new Float64Array(piece), qualities: new Uint8Array(piece) };
  const found: Sample[] = [];
  for (let from = 0; ; ) {
    const { length, next } = arena.read(track, from, into);
    if (length === 0) return found;
    for (let i = 0; i < length; i++)
      found.push({ atMs: into.atMs[i] ?? 0, value: into.values[i] ?? 0, quality: into.qualities[i] ?? 0 });
    from = next;
  }
}

function opened(arena: FlightArena, rateHz = 10): number {
  const track = arena.openTrack(rateHz);
  if (track === undefined) throw new Error('no track');
  return track;
}

const time = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 90, max: 110 }) },
  fc.integer({ min: -5_000, max: 600_000 }),
  fc.constantFrom(0, -(2 ** 45), 2 ** 45, 2 ** 40, 2 ** 40 + 101, -(2 ** 40)),
);
const value = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 44_000, max: 46_000 }) },
  fc.maxSafeInteger(),
  fc.constantFrom(2 ** 53, -(2 ** 53), 2 ** 51, -(2 ** 51) - 1, 0, -0, 0.1, 1e300, -1e-300),
);
const quality = fc.oneof({ weight: 8, arbitrary: fc.constant(OK) }, fc.nat(QUALITIES.length - 1));
const series = fc.array(fc.tuple(time, value, quality), { minLength: 1, maxLength: 400, size: 'max' }).map((steps) => {
  let atMs = 1_000_000;
  return steps.map(([step, each, kind]) => {
    atMs += step;
    return { atMs, value: kind === OK ? each + 0 : Number.NaN, quality: kind };
  });
});

t.test('any series comes back as it was: gaps, quality changes, clock steps, values to ±2^53 and beyond', async (t) => {
  fc.assert(
    fc.property(series, fc.integer({ min: 1, max: 50 }), fc.constantFrom(0.1, 10, 33, 1000), (list, piece, rateHz) => {
      const arena = new FlightArena(200_000);
      const track = opened(arena, rateHz);
      for (const each of list) arena.append(track, each.value, each.quality, each.atMs);
      const found = all(arena, track, piece);
      return (
        found.length === list.length &&
        found.every(
          (each, i) =>
            each.atMs === list[i]?.atMs && each.quality === list[i]?.quality && Object.is(each.value, list[i]?.value),
        )
      );
    }),
    { numRuns: 300 },
  );
  t.pass();
});

t.test('tracks do not mix, and what gives way is the oldest of all of them', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat(4), { minLength: 200, maxLength: 3_000, size: 'max' }), (turns) => {
      const arena = new FlightArena(145 * 12);
      const tracks = [0, 1, 2, 3, 4].map(() => opened(arena));
      const given: Sample[][] = tracks.map(() => []);
      turns.forEach((which, i) => {
        const sample = { atMs: i * 50, value: Math.imul(i, 2_654_435_761), quality: OK };
        given[which]?.push(sample);
        arena.append(tracks[which] ?? 0, sample.value, OK, sample.atMs);
      });
      return tracks.every((track, which) => {
        const found = all(arena, track);
        const wanted = given[which] ?? [];
        const tail = wanted.slice(wanted.length - found.length);
        const covered = wanted.filter(({ atMs }) => atMs > arena.coveredSinceMs);
        return JSON.stringify(found) === JSON.stringify(tail) && found.length >= covered.length;
      });
    }),
    { numRuns: 60 },
  );
  t.pass();
});

t.test('a sensor that stands still costs a byte a sample, one that moves in whole degrees two or three', async (t) => {
  for (const [what, of, most] of [
    ['still', () => 45_000, 1.2],
    ['moving', (i: number) => 45_000 + 1000 * (Math.imul(i, 2_654_435_761) >>> 31), 3],
  ] as const) {
    const arena = new FlightArena(145 * 100);
    const track = opened(arena);
    for (let i = 0; i < 100_000; i++) arena.append(track, of(i), OK, i * 100 + (i % 3));
    const bytes = 12_800 / all(arena, track).length;
    t.ok(bytes <= most, `${what}: ${bytes.toFixed(2)} bytes a sample`);
  }
});

t.test('4,096 channels at 10 Hz never take more than the budget, and all reach back alike', async (t) => {
  const arena = new FlightArena();
  t.ok(arena.bytes <= FLIGHT_RECORDER_BYTES, `${arena.bytes}`);
  const before = arena.bytes;
  const tracks = Array.from({ length: 4_096 }, () => opened(arena));
  const seconds = 60;
  for (let i = 0; i < seconds * 10; i++)
    for (const track of tracks) arena.append(track, 40_000 + (Math.imul(i + track, 2_654_435_761) >>> 20), OK, i * 100);
  t.equal(arena.bytes, before);
  const reachMs = (seconds * 10 - 1) * 100 - arena.coveredSinceMs;
  t.comment(`${(reachMs / 1000).toFixed(1)} s of 4,096 channels at 10 Hz whose values all change all the time`);
  t.ok(reachMs > 5_000, `${reachMs}`);
  for (const track of tracks) {
    const found = all(arena, track);
    const from = found[0]?.atMs ?? Number.POSITIVE_INFINITY;
    if (from > arena.coveredSinceMs + 100) t.fail(`track ${track} begins at ${from}`);
  }
});

t.test('what a slow channel writes into is never taken from it, however often the rest comes round', async (t) => {
  const arena = new FlightArena(145 * 20);
  const [slow, fast] = [opened(arena, 0.1), opened(arena)];
  for (let i = 0; i < 20_000; i++) {
    if (i % 1_000 === 0) arena.append(slow, i, OK, i * 100);
    arena.append(fast, i * 7_919, OK, i * 100);
  }
  t.same(
    all(arena, slow).map((each) => each.value),
    Array.from({ length: 20 }, (_, i) => i * 1_000),
  );
  t.ok(all(arena, fast).length < 1_000);
});

t.test('there is an end to tracks, and an empty one is given again', async (t) => {
  const arena = new FlightArena();
  let made = 0;
  while (arena.openTrack(10) !== undefined) made++;
  t.equal(made, MAX_TRACKS);
  t.ok(arena.isEmpty(7));
  arena.freeTrack(7);
  t.equal(arena.openTrack(1), 7);
});

t.test('a track that was closed grows old with the rest', async (t) => {
  const arena = new FlightArena(145 * 8);
  const [gone, other] = [opened(arena), opened(arena)];
  arena.append(gone, 1, OK, 0);
  arena.closeTrack(gone);
  arena.closeTrack(gone);
  t.equal(all(arena, gone).length, 1);
  for (let i = 0; i < 2_000; i++) arena.append(other, i * 7_919, OK, i * 100);
  t.ok(arena.isEmpty(gone));
  arena.append(gone, 5, OK, 200_000);
  t.match(all(arena, gone), [{ value: 5, atMs: 200_000 }]);
});

t.test('finds the first sample of a time', async (t) => {
  const arena = new FlightArena();
  const track = opened(arena);
  t.equal(arena.numberAt(track, 50), 0);
  for (let i = 0; i < 1_000; i++) arena.append(track, i * 1_000_003, OK, i * 100);
  t.equal(arena.numberAt(track, -1), 0);
  t.equal(arena.numberAt(track, 50_000), 500);
  t.equal(arena.numberAt(track, 50_001), 501);
  t.equal(arena.numberAt(track, 1e9), 1_000);
});
