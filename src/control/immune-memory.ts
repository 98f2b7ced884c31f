/**
 * What the node has learnt of its actions, kept across restarts; policy/memory.ts says what may follow from it.
 *
 * Of every so many firings that memory would raise, one begins where the readings put it: only so does it show that a fan was
 * replaced meanwhile. What a ladder began with is a recorded input of the decision (`firstRung` in the transition and in its
 * audit entry), so that a replay needs no memory.
 */
import { actionClass, parseAction } from '../core/action-names.js';
import type { RecordKind, Records, Store } from '../core/ports.js';
import type { LessonView } from '../core/protocol.js';
import { list, nullable, number, object, oneOf, string } from '../core/shape.js';
import { type Lesson, learnt, NO_LESSON, RECENT, rememberedRung, weighed } from '../policy/memory.js';
import type { Rule } from '../policy/rule.js';
import { isCovered } from '../policy/silence.js';
import type { CurrentConfig } from './current-config.js';
import { inTime, RECALL_MS } from './in-time.js';
import type { ActionOutcome } from './repair-gate.js';
import type { BeginsWith } from './rulebook.js';

interface KeptLesson extends Lesson {
  readonly rule: string;
  readonly channel: string;
  readonly action: string;
  readonly firstAtMs: number;
  readonly lastAtMs: number;
}

const count = number({ min: 0, integer: true });
const LESSONS: RecordKind<KeptLesson> = {
  name: 'lesson',
  version: 1,
  shape: object({
    rule: string({ max: 64 }),
    channel: string({ max: 256 }),
    action: string({ max: 128 }),
    attempts: count,
    helped: count,
    recent: list(
      object({
        outcome: oneOf('helped', 'unhelpful', 'failed'),
        tookMs: number({ min: 0 }),
        fell: nullable(number()),
      }),
      { max: RECENT },
    ),
    firstAtMs: number(),
    lastAtMs: number(),
  }),
  upgrades: [],
  /** Three actions on each of 16 GPUs, 64 cores and 64 file systems; about 1 MB. The one that taught nothing for longest goes. */
  maxCount: 500,
  maxBytes: 4 * 1024,
};
/** One firing in so many begins as if nothing were remembered. */
export const TRY_AGAIN_EVERY = 8;

export class ImmuneMemory implements BeginsWith {
  readonly name = 'immune memory';
  readonly #config: CurrentConfig;
  readonly #records: Records<KeptLesson>;
  /** Firings that memory would have raised, by rule and channel. */
  readonly #firings = new Map<string, number>();

  constructor({ config, store }: { config: CurrentConfig; store: Pick<Store, 'records'> }) {
    this.#config = config;
    this.#records = store.records(LESSONS);
  }

  /** What a slow disk says later is remembered from then on. */
  async start(): Promise<void> {
    await inTime(this.#records.load(), RECALL_MS);
  }

  stop(): void {}

  note({ action, rule, channel, result, tookMs, valueBefore, valueAfter }: ActionOutcome, nowAtMs: number): void {
    const id = idOf({ rule, channel, action: action.text });
    const former = this.#records.get(id);
    const fell = valueBefore === null || valueAfter === null ? null : valueBefore - valueAfter;
    const observation = { outcome: result, tookMs: Math.max(0, Math.round(tookMs)), fell };
    const firstAtMs = former?.firstAtMs ?? nowAtMs;
    this.#records.put(id, {
      rule,
      channel,
      action: action.text,
      ...learnt(former ?? NO_LESSON, observation),
      firstAtMs,
      lastAtMs: nowAtMs,
    });
  }

  // ---- What a ladder begins with -------------------------------------------------------------------------------------

  firstRung(rule: Rule): number {
    const rung = this.remembered(rule);
    const isTriedAgain = (this.#firings.get(keyOf(rule)) ?? 0) % TRY_AGAIN_EVERY === TRY_AGAIN_EVERY - 1;
    return isTriedAgain ? -1 : rung;
  }

  fired(rule: Rule): void {
    const key = keyOf(rule);
    if (this.remembered(rule) < 0) this.#firings.delete(key);
    else this.#firings.set(key, (this.#firings.get(key) ?? 0) + 1);
  }

  /** The rung that is remembered, −1 for none. In mode auto only: where nothing is done, a higher rung would only be a louder word. */
  remembered(rule: Rule): number {
    const { memory, hooks } = this.#config.get();
    if (!memory.raise || rule.mode !== 'auto') return -1;
    return rememberedRung(rule, (text) => {
      const action = parseAction(text, hooks);
      if (typeof action === 'string') return undefined;
      const lesson = this.#records.get(idOf({ rule: rule.name, channel: rule.channelId, action: text }));
      return { class: actionClass(action.verb), lesson };
    });
  }

  // ---- What an operator sees and says --------------------------------------------------------------------------------

  /** The latest first. */
  list(): LessonView[] {
    return [...this.#records.all().values()]
      .sort((a, b) => b.lastAtMs - a.lastAtMs)
      .map((lesson) => ({
        rule: lesson.rule,
        channel: lesson.channel,
        action: lesson.action,
        attempts: lesson.attempts,
        helped: lesson.helped,
        recent: weighed(lesson),
        firstAtMs: lesson.firstAtMs,
        lastAtMs: lesson.lastAtMs,
      }));
  }

  /** A pattern as silences have it, over rules and channels, or an action; undefined: everything. Answers how many. */
  forget(pattern: string | undefined): number {
    const found = [...this.#records.all()].filter(
      ([, { rule, channel, action }]) =>
        pattern === undefined || action === pattern || isCovered(pattern, { rule, channel }),
    );
    for (const [id] of found) this.#records.remove(id);
    return found.length;
  }
}

function idOf({ rule, channel, action }: { rule: string; channel: string; action: string }): string {
  return `${rule} ${channel} ${action}`;
}

function keyOf({ name, channelId }: Rule): string {
  return `${name} ${channelId}`;
}
