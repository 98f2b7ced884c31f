/**
 * Series as sensors of a node give them, the same at every run: what the bench of the store encodes.
 *
 * Values are in canonical units (millidegrees, milliwatts, bytes), rounded to what such a sensor resolves. Some are synthetic, some
 * were captured on a machine (test/fixtures/series).
 */
import { readFileSync } from 'node:fs';

export interface Shape {
  readonly name: string;
  /** The next value of a series of its own for each seed. */
  readonly series: (seed: number) => () => number;
  /** Samples a second, where it was captured. */
  readonly rateHz?: number;
  readonly captured?: true;
}

/** Mulberry32 (public domain, Tommy Ettinger). */
function uniform(seed: number): () => number {
  let state = Math.imul(seed, 0x9e37_79b1);
  return () => {
    state = (state + 0x6d2b_79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Normally distributed, by Box and Muller. */
function normal(random: () => number): () => number {
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** A sensor in whole degrees that moves in one of ten samples, as coretemp does under changing load. */
export function randomWalk(seed: number): () => number {
  let state = seed;
  let value = 45_000;
  const random = () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state / 2 ** 32;
  };
  return () => {
    if (random() < 0.1) value += random() < 0.5 ? 1_000 : -1_000;
    return value;
  };
}

/** Degrees that move by normally distributed steps of 2 degrees at the mean. */
function gaussianSteps(seed: number): () => number {
  const step = normal(uniform(seed));
  let value = 60_000;
  return () => {
    value += Math.round(2 * step()) * 1_000;
    return value;
  };
}

/** A voltage regulator in millivolts, noise of 3 mV around one level. */
function noisyLevel(seed: number): () => number {
  const noise = normal(uniform(seed));
  return () => 12_000 + Math.round(3 * noise());
}

function constant(seed: number): () => number {
  return () => 45_000 + seed;
}

/** An energy counter under constant power. */
function ramp(seed: number): () => number {
  let value = 1_000_000_000 + seed;
  return () => {
    value += 15_250;
    return value;
  };
}

/** Load that comes and goes: up 10 degrees and back every half minute, with noise of a degree on the way. */
function load(seed: number): () => number {
  const random = uniform(seed);
  let n = 0;
  return () => {
    const draw = random();
    const noise = draw < 0.1 ? -1 : draw < 0.2 ? 1 : 0;
    return 1_000 * (50 + noise + (Math.floor(n++ / 30) % 2) * 10);
  };
}

/** Power of a GPU in milliwatts under training steps: two levels with noise of a watt, in steps of 100 mW. */
function trainingPower(seed: number): () => number {
  const random = uniform(seed);
  const noise = normal(random);
  let busy = false;
  return () => {
    if (random() < 0.05) busy = !busy;
    return Math.round(((busy ? 640_000 : 310_000) + 1_000 * noise()) / 100) * 100;
  };
}

const CAPTURED = new URL('../../../../test/fixtures/series/linux-vm.txt', import.meta.url);
/** Seeds begin so many samples apart, half a minute and a bit; behind the last sample comes the first one. */
const SEED_SAMPLES = 307;

/** The file says how it is to be read. */
function captured(): Shape[] {
  const lines = readFileSync(CAPTURED, 'utf8').split('\n');
  return lines.filter((line) => line !== '' && !line.startsWith('#')).map(capturedShape);
}

function capturedShape(line: string): Shape {
  const [name = '', kind, unit, different = '', indexes = ''] = line.split(';');
  const list = different.split(' ').map((number) => Number.parseInt(number, 36) * Number(unit));
  const listed = indexes.split(' ').flatMap((token) => {
    const [index = '', times = '1'] = token.split('*');
    return Array<number>(Number.parseInt(times, 36)).fill(list[Number.parseInt(index, 36)] ?? 0);
  });
  let sum = 0;
  const values = kind === 'values' ? listed : listed.map((difference) => (sum += difference));
  const series = (seed: number) => {
    let next = (seed - 1) * SEED_SAMPLES;
    return () => values[next++ % values.length] ?? 0;
  };
  return { name: `captured: ${name}`, series, rateHz: 10, captured: true };
}

export const SHAPES: readonly Shape[] = [
  { name: 'random walk', series: randomWalk },
  { name: 'Gaussian steps', series: gaussianSteps },
  { name: 'noise on a level', series: noisyLevel },
  { name: 'constant', series: constant },
  { name: 'ramp', series: ramp },
  { name: 'load up and down', series: load },
  { name: 'power of a training GPU', series: trainingPower },
  ...captured(),
];
