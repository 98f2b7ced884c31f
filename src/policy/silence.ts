/**
 * Silences: for a while nobody is notified of alerts that match. They are recorded and shown as ever, and what is done about them is
 * not touched. Pure; times of any one clock that never goes back.
 */
import { globMatches } from '../core/glob.js';

/** A forgotten silence ends by itself; what shall be quiet for longer is a rule that should be mended. */
export const MAX_SILENCE_MS = 30 * 24 * 3_600_000;
/** Written by hand; each is compared with each alert that changes. */
export const MAX_SILENCES = 64;

export interface Silence {
  readonly id: string;
  /** A rule's name, or a glob over rules, channels and alert ids. */
  readonly pattern: string;
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly who: string;
  readonly why: string;
}

export interface Silenceable {
  readonly rule: string;
  readonly channel: string;
  readonly id?: string;
}

export function isCovered(pattern: string, { rule, channel, id }: Silenceable): boolean {
  return globMatches(pattern, rule) || globMatches(pattern, channel) || (id !== undefined && globMatches(pattern, id));
}

/** The silence that covers this, of several the one that ends last. */
export function silenceOf(silences: readonly Silence[], alert: Silenceable, nowMs: number): Silence | undefined {
  let last: Silence | undefined;
  for (const silence of silences) {
    if (!stands(silence, nowMs) || !isCovered(silence.pattern, alert)) continue;
    if (last === undefined || silence.untilMs > last.untilMs) last = silence;
  }
  return last;
}

/** One that lasts longer than any may is damaged: being told is the safe side. */
export function stands({ untilMs }: Silence, nowMs: number): boolean {
  return nowMs < untilMs && untilMs - nowMs <= MAX_SILENCE_MS;
}
