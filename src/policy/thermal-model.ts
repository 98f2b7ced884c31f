/**
 * A first-order thermal model: one body that is heated by a power and cooled through one resistance,
 *
 *   C dT/dt = P − (T − T_ambient) / R,    hence T(t) = T_steady + (T_0 − T_steady) exp(−(t − t_0) / RC),
 *   T_steady = T_ambient + P R.
 *
 * Between two changes of its inputs a course is this one formula: it is asked for any moment and never stepped, so that it does not
 * depend on how often anybody looks. It is monotonic, which is what makes crossings and times above a bound exact. Pure.
 */

export interface Course {
  readonly atMs: number;
  readonly celsius: number;
  readonly steadyCelsius: number;
  readonly timeConstantMs: number;
}

export function celsiusAt({ atMs, celsius, steadyCelsius, timeConstantMs }: Course, nowMs: number): number {
  return steadyCelsius + (celsius - steadyCelsius) * Math.exp((atMs - nowMs) / timeConstantMs);
}

/** When it passes a temperature, at or after `nowMs`; Infinity: never. */
export function crossingMs(course: Course, celsius: number, nowMs: number): number {
  const now = celsiusAt(course, nowMs);
  const { steadyCelsius, timeConstantMs } = course;
  const isOnItsWay = (now - celsius) * (steadyCelsius - celsius) < 0;
  if (!isOnItsWay) return now === celsius ? nowMs : Number.POSITIVE_INFINITY;
  return nowMs + timeConstantMs * Math.log((now - steadyCelsius) / (celsius - steadyCelsius));
}

/** How much of the time from `fromMs` to `toMs` it is above a temperature. */
export function msAbove(course: Course, celsius: number, { fromMs, toMs }: { fromMs: number; toMs: number }): number {
  const crossesMs = Math.min(crossingMs(course, celsius, fromMs), toMs);
  const isAboveFirst = celsiusAt(course, fromMs) > celsius;
  const isAboveLast = celsiusAt(course, toMs) > celsius;
  return (isAboveFirst ? crossesMs - fromMs : 0) + (isAboveLast && !isAboveFirst ? toMs - crossesMs : 0);
}

/** How a processor turns load into power, and power into heat. */
export interface Body {
  readonly idleWatts: number;
  /** At full load, beside the idle power. */
  readonly dynamicWatts: number;
  readonly kelvinPerWatt: number;
  readonly timeConstantMs: number;
}

export interface Caps {
  /** Share of the frequency, 0 to 1. */
  readonly frequency: number;
  /** Share of the greatest power. */
  readonly power: number;
}

/**
 * Power falls with the square of the frequency: it is proportional to f V², and V falls with f, but no more than by half of its range.
 * A power limit cuts what is above it; below its idle power nothing gets a processor.
 */
export function watts({ idleWatts, dynamicWatts }: Body, load: number, { frequency, power }: Caps): number {
  const wanted = idleWatts + dynamicWatts * load * frequency ** 2;
  return Math.max(idleWatts, Math.min(wanted, power * (idleWatts + dynamicWatts)));
}
