/**
 * The silences that stand, kept across restarts and reboots on the lasting clock, so that a clock that was set neither ends one early
 * nor makes one last for ever. Who made and ended one is on record. They decide about notifications and nothing else: no action
 * ever asks here.
 */
import { randomBytes } from 'node:crypto';
import { SkosError } from '../core/errors.js';
import type { RecordKind, Records, Store } from '../core/ports.js';
import type { SilenceView } from '../core/protocol.js';
import { number, object, string } from '../core/shape.js';
import { MAX_SILENCE_MS, MAX_SILENCES, type Silence, type Silenceable, silenceOf, stands } from '../policy/silence.js';
import { inTime, RECALL_MS } from './in-time.js';
import type { LastingClock } from './lasting-clock.js';
import type { Record } from './record.js';

const SILENCES: RecordKind<Silence> = {
  name: 'silence',
  version: 1,
  shape: object({
    id: string({ max: 16 }),
    pattern: string({ max: 256 }),
    sinceMs: number({ min: 0 }),
    untilMs: number({ min: 0 }),
    who: string({ max: 64 }),
    why: string({ max: 200 }),
  }),
  upgrades: [],
  maxCount: MAX_SILENCES,
  maxBytes: 2 * 1024,
};
const ID_BYTES = 3;
/** A store that failed is asked again. */
const ASK_AGAIN_MS = 60_000;

export interface SilencesOptions {
  readonly store: Pick<Store, 'records'>;
  readonly lasting: LastingClock;
  readonly record: Pick<Record, 'add'>;
}

export class Silences {
  readonly name = 'silences';
  readonly #options: SilencesOptions;
  readonly #records: Records<Silence>;
  #isKnown = false;
  #isAsking = false;
  #askedMs = 0;
  #revision = 0;

  constructor(options: SilencesOptions) {
    this.#options = options;
    this.#records = options.store.records(SILENCES);
  }

  /** Silences that a slow disk tells of later stand from then on. */
  async start(): Promise<void> {
    await inTime(this.#recall(), RECALL_MS);
  }

  stop(): void {}

  /** Never rejects: the store has said what is wrong with it. */
  async #recall(): Promise<void> {
    const { lasting } = this.#options;
    this.#isAsking = true;
    this.#askedMs = lasting.nowMs();
    try {
      await Promise.all([lasting.load(), this.#records.load()]);
      const sinceMs = [...this.#records.all().values()].map((silence) => silence.sinceMs);
      lasting.notBefore(Math.max(0, ...sinceMs));
      this.#isKnown = true;
      this.#revision += 1;
    } catch {
      // Until it can be read, everybody is told of everything.
    } finally {
      this.#isAsking = false;
    }
  }

  /** Another number whenever another answer of of() is possible. Asked each tick; ends what is over. */
  get revision(): number {
    const nowMs = this.#options.lasting.nowMs();
    if (!this.#isKnown && !this.#isAsking && nowMs - this.#askedMs >= ASK_AGAIN_MS) void this.#recall();
    for (const silence of this.#known()) {
      if (!stands(silence, nowMs)) this.#end(silence, { who: 'agent', how: 'is over' });
    }
    return this.#revision;
  }

  /** The silence that covers this alert now. */
  of(alert: Silenceable): Silence | undefined {
    const known = this.#known();
    return known.length === 0 ? undefined : silenceOf(known, alert, this.#options.lasting.nowMs());
  }

  /** SKOS_SILENCE_LIMIT when too many stand, SKOS_STORE_READ while those that stand are not known. */
  add({ pattern, forMs, who, why }: { pattern: string; forMs: number; who: string; why: string }): SilenceView {
    if (!this.#isKnown) throw new SkosError('SKOS_STORE_READ', 'the silences that stand are not known yet');
    if (this.#known().length >= MAX_SILENCES) {
      throw new SkosError('SKOS_SILENCE_LIMIT', `${MAX_SILENCES} silences stand already`);
    }
    const { lasting } = this.#options;
    const sinceMs = lasting.nowMs();
    const untilMs = sinceMs + Math.min(forMs, MAX_SILENCE_MS);
    const silence = { id: randomBytes(ID_BYTES).toString('hex'), pattern, sinceMs, untilMs, who, why };
    this.#records.put(silence.id, silence);
    lasting.touch({ isWritten: true });
    this.#revision += 1;
    const view = this.#view(silence);
    const until = new Date(view.untilAtMs).toISOString();
    this.#tell('silence.add', silence, { who, until, how: `was silenced until ${until} by ${who}` });
    return view;
  }

  /** SKOS_SILENCE_UNKNOWN when there is none of this id. */
  end(id: string, who: string): SilenceView {
    const silence = this.#records.get(id);
    if (silence === undefined) throw new SkosError('SKOS_SILENCE_UNKNOWN', `there is no silence "${id}"`);
    const view = this.#view(silence);
    this.#end(silence, { who, how: `was ended by ${who}` });
    return view;
  }

  /** The one that ends first, first. */
  list(): SilenceView[] {
    return this.#known()
      .sort((a, b) => a.untilMs - b.untilMs)
      .map((silence) => this.#view(silence));
  }

  #known(): Silence[] {
    return this.#isKnown ? [...this.#records.all().values()] : [];
  }

  #end(silence: Silence, { who, how }: { who: string; how: string }): void {
    this.#records.remove(silence.id);
    this.#revision += 1;
    this.#tell('silence.end', silence, { who, until: null, how: `the silence ${how}` });
  }

  #tell(
    kind: 'silence.add' | 'silence.end',
    { id, pattern, why }: Silence,
    { who, until, how }: { who: string; until: string | null; how: string },
  ): void {
    const reason = why === '' ? '' : ` (${why})`;
    this.#options.record.add({
      kind,
      who,
      what: { silence: id, pattern, why, ...(until === null ? {} : { until }) },
      level: 'info',
      message: `${pattern}: ${how}${reason}`,
      fields: { event: kind, silence: id },
    });
  }

  #view({ id, pattern, sinceMs, untilMs, who, why }: Silence): SilenceView {
    const { lasting } = this.#options;
    return { id, pattern, sinceAtMs: lasting.wallAtMs(sinceMs), untilAtMs: lasting.wallAtMs(untilMs), who, why };
  }
}
