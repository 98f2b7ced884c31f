/**
 * Series as sensors of a node give them, the same at every run: what the bench of the store encodes.
 *
 * Values are in canonical units (millidegrees, microwatts, bytes), rounded to what such a sensor resolves.
 */

export interface Shape {
  readonly name: string;
  /** The next value of a series of its own for each seed. */
  readonly series: (seed: number) => () => number;
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

export const SHAPES: readonly Shape[] = [
  { name: 'random walk', series: randomWalk },
  { name: 'Gaussian steps', series: gaussianSteps },
  { name: 'noise on a level', series: noisyLevel },
  { name: 'constant', series: constant },
  { name: 'ramp', series: ramp },
  { name: 'load up and down', series: load },
  { name: 'power of a training GPU', series: trainingPower },
];
