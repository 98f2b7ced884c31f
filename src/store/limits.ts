/** How much the store keeps, and for how long: the section `store` of the configuration in milliseconds and bytes. */
import { type Config, configShape } from '../config/schema.js';

export interface StoreLimits {
  /** What a kill or a power cut may take of the raw samples. */
  readonly flushMs: number;
  readonly rawMs: number;
  readonly secondMs: number;
  readonly minuteMs: number;
  /** Of the database on disk. */
  readonly maxBytes: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export function storeLimits({
  flush_seconds,
  raw_hours,
  second_days,
  minute_days,
  max_mib,
}: Config['store']): StoreLimits {
  return {
    flushMs: flush_seconds * 1_000,
    rawMs: raw_hours * HOUR_MS,
    secondMs: second_days * DAY_MS,
    minuteMs: minute_days * DAY_MS,
    maxBytes: max_mib * 1024 * 1024,
  };
}

/** Those of an empty configuration. */
export const DEFAULT_LIMITS: StoreLimits = storeLimits(configShape.check({}, [], []).store);
