/**
 * Immune memory: what followed an action, per (rule, channel, action), and what of it a ladder may begin with. Pure.
 *
 * Memory may raise the rung with which a ladder starts; it never lowers one, and adds no action that the rule does not name. It
 * raises to rung R when each rung below R is *futile* and R is *proven*:
 *
 * - futile: the rung has actions that change something, and of each of them at least MIN_OBSERVATIONS outcomes are known, of which the
 *   share that did not help is, with 95 % confidence, more than half;
 * - proven: of at least one action of the rung so many outcomes are known, of which the share that helped is, with the same
 *   confidence, more than half;
 * - no rung up to R has an irreversible action: that one waits for its own bound, whatever was learnt.
 *
 * "With 95 % confidence" is the lower end of Wilson's score interval (E. B. Wilson, JASA 22, 1927), which holds for small numbers and
 * for shares near 0 and 1, where the normal approximation does not. Eight outcomes of eight give 0.68, seven of eight 0.53, six 0.41.
 */
import type { ActionClass } from '../core/action-names.js';
import { sortedMedian } from './median.js';
import type { Rule } from './rule.js';

/** Outcomes that are weighed, of each action: the machine of last year is another one. */
export const RECENT = 16;
export const MIN_OBSERVATIONS = 8;
export const MOST = 0.5;
/** 97.5th percentile of the normal distribution: both ends together leave 5 %. */
const Z = 1.959964;

export type Outcome = 'helped' | 'unhelpful' | 'failed';

export interface Observation {
  readonly outcome: Outcome;
  readonly tookMs: number;
  /** By how much the value fell, canonical unit; negative when it rose; null where a reading was missing. */
  readonly fell: number | null;
}

/** What is known of one action under one condition. */
export interface Lesson {
  /** Since it was begun to be remembered. */
  readonly attempts: number;
  readonly helped: number;
  /** Oldest first, at most RECENT. */
  readonly recent: readonly Observation[];
}

export const NO_LESSON: Lesson = { attempts: 0, helped: 0, recent: [] };

export function learnt(lesson: Lesson, observation: Observation): Lesson {
  return {
    attempts: lesson.attempts + 1,
    helped: lesson.helped + (observation.outcome === 'helped' ? 1 : 0),
    recent: [...lesson.recent, observation].slice(-RECENT),
  };
}

/** The least share that `hits` of `tries` speak for, with 95 % confidence; 0 without any. */
export function wilsonLower(hits: number, tries: number): number {
  if (tries <= 0) return 0;
  const share = hits / tries;
  const z2 = Z * Z;
  const spread = Z * Math.sqrt((share * (1 - share)) / tries + z2 / (4 * tries * tries));
  return Math.max(0, (share + z2 / (2 * tries) - spread) / (1 + z2 / tries));
}

export interface Weighed {
  readonly observations: number;
  readonly helped: number;
  /** Of the helped ones; null without any. */
  readonly medianTookMs: number | null;
  readonly meanTookMs: number | null;
  /** Of all with both readings. */
  readonly medianFell: number | null;
  readonly isFutile: boolean;
  readonly isProven: boolean;
}

/** What the recent outcomes say. */
export function weighed({ recent }: Lesson): Weighed {
  const helped = recent.filter(({ outcome }) => outcome === 'helped');
  const took = helped.map(({ tookMs }) => tookMs);
  const fell = recent.flatMap((each) => (each.fell === null ? [] : [each.fell]));
  const isKnown = recent.length >= MIN_OBSERVATIONS;
  return {
    observations: recent.length,
    helped: helped.length,
    medianTookMs: medianOf(took),
    meanTookMs: took.length === 0 ? null : took.reduce((sum, each) => sum + each, 0) / took.length,
    medianFell: medianOf(fell),
    isFutile: isKnown && wilsonLower(recent.length - helped.length, recent.length) > MOST,
    isProven: isKnown && wilsonLower(helped.length, recent.length) > MOST,
  };
}

function medianOf(values: readonly number[]): number | null {
  return values.length === 0 ? null : sortedMedian(Float64Array.from(values), values.length);
}

export interface KnownAction {
  readonly class: ActionClass;
  readonly lesson: Lesson | undefined;
}

/** The rung that a ladder may begin with, an index; −1: what is remembered raises none. `known`: undefined for a name that is none. */
export function rememberedRung(
  { rungs }: Pick<Rule, 'rungs'>,
  known: (action: string) => KnownAction | undefined,
): number {
  for (const [rung, { actions }] of rungs.entries()) {
    const found = actions.flatMap((action) => known(action) ?? []);
    if (found.some((each) => each.class === 'irreversible')) return -1;
    const acting = found.filter((each) => each.class !== 'notice');
    const lessons = acting.map(({ lesson }) => weighed(lesson ?? NO_LESSON));
    if (rung > 0 && lessons.some(({ isProven }) => isProven)) return rung;
    if (lessons.length === 0 || !lessons.every(({ isFutile }) => isFutile)) return -1;
  }
  return -1;
}
