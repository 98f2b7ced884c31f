/**
 * The loop breaker at work: each step of a chain is judged as it comes, and its verdict published, in skos-net, because a workload waits
 * for it. What may be done is what the agent said last (limits, permissions, holds), also while the agent is away.
 *
 * A chain that is told circuit_break is held from then on: each of its steps, and each of a chain that it started, gets the same answer
 * until the agent says that it was reset. A hold is never ended by the agent not knowing of it: what it does not know is reported
 * again, until it has taken it.
 */
import { randomBytes } from 'node:crypto';
import { type ChainReport, type ChainTruth, type ChainVerdict, MAX_HELD_CHAINS, MAX_REPORTS } from '../core/chains.js';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { ChainStepPayload, Credential } from '../core/guests.js';
import type { Log } from '../core/ports.js';
import { afterVerdict, FRESH_CHAIN, type Judgement, judge, takeStep } from '../policy/chain.js';
import { type ChainWords, chainVerdictPayload, type Origin } from './payloads.js';
import { type Message, message, topic } from './topics.js';

/** Chains that are looked at; beyond it the one that was silent longest is forgotten. Each has some KiB at most. */
const MAX_CHAINS = 1_024;
/** A chain that takes no step for so long is over. */
const IDLE_MS = 10 * 60_000;
/** The same finding of the same chain is told to the agent so often while it goes on. */
const TELL_AGAIN_MS = 60_000;
/** Findings that wait for the agent; what does not fit is found again with the chain's next step. */
const MAX_PENDING = 256;
/** Findings that come together are told together; a flood of chains is a few hundred findings a second for the agent. */
const TELL_AFTER_MS = 50;
const TELL_SPACING_MS = 200;
/** Who started whom; a longer line is too deep anyway. */
const MAX_ANCESTORS = 16;
const HOLD_BYTES = 8;

interface Chain {
  state: typeof FRESH_CHAIN;
  parent: string | null;
  lastMs: number;
  /** What the agent was told last, and when. */
  told: string;
  toldMs: number;
}

interface Held {
  readonly hold: string;
  readonly reason: string;
  /** Whose step it was; null: the agent said that it is held. */
  readonly report: { readonly credential: Credential; readonly report: ChainReport } | null;
  isKnown: boolean;
}

export interface ChainDeskOptions {
  /** Rejects when the agent does not take them; with SKOS_TOKEN_DENIED when it never will. */
  readonly report: (credential: Credential, reports: readonly ChainReport[]) => Promise<void>;
  readonly clock: Clock;
  readonly log: () => Log;
}

/** Where verdicts go; another one with another configuration. */
export interface ChainOutlet {
  readonly origin: Origin;
  readonly prefix: string;
  publish(message: Message): void;
}

export class ChainDesk {
  readonly #options: ChainDeskOptions;
  /** Those silent longest first. */
  readonly #chains = new Map<string, Chain>();
  readonly #held = new Map<string, Held>();
  #pending: { credential: Credential; report: ChainReport }[] = [];
  #truth: ChainTruth | undefined;
  #outlet: ChainOutlet | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isTelling = false;

  constructor(options: ChainDeskOptions) {
    this.#options = options;
  }

  use(outlet: ChainOutlet): void {
    this.#outlet = outlet;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** What may be done is known. */
  get isReady(): boolean {
    return this.#truth !== undefined;
  }

  get watched(): number {
    return this.#chains.size;
  }

  // ---- What the agent says ---------------------------------------------------------------------------------------------

  take(truth: ChainTruth): void {
    this.#truth = truth;
    const reset = new Set(truth.reset);
    for (const [chain, { hold }] of this.#held) if (reset.has(hold)) this.#free(chain);
    const known = new Map(truth.held.map((each) => [each.chain, each]));
    for (const [chain, held] of this.#held) held.isKnown = known.has(chain);
    for (const { chain, hold, reason: why } of truth.held) {
      if (this.#held.get(chain)?.hold === hold) continue;
      this.#held.set(chain, { hold, reason: why, report: null, isKnown: true });
    }
  }

  #free(chain: string): void {
    this.#held.delete(chain);
    this.#chains.delete(chain);
    this.#say({
      chain,
      iteration: null,
      depth: 0,
      verdict: 'reset_chain',
      would: null,
      reason: 'reset by an operator',
    });
  }

  /** Each second: what is over is forgotten, and what the agent does not know yet is told again. */
  tick(): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const [id, { lastMs }] of this.#chains) {
      if (nowMs - lastMs < IDLE_MS) break; // The others were heard later.
      this.#chains.delete(id);
    }
    for (const { isKnown, report } of this.#held.values()) if (!isKnown && report !== null) this.#queue(report);
  }

  // ---- Steps -----------------------------------------------------------------------------------------------------------

  /** Judges a step and publishes the verdict, at once. */
  step(credential: Credential, { chain_id: id, iteration, depth, parent, state, timestamp }: ChainStepPayload): void {
    const truth = this.#truth;
    if (truth === undefined) return;
    const nowMs = this.#options.clock.monotonicMs();
    const said = { chain: id, iteration };
    const brokenBy = this.#brokenBy(id, parent);
    if (brokenBy !== undefined) {
      this.#say({ ...said, depth, verdict: 'circuit_break', would: null, reason: brokenBy });
      return;
    }
    const chain = this.#chainOf(id);
    chain.lastMs = nowMs;
    chain.parent = parent;
    const above = parent === null ? undefined : this.#chains.get(parent);
    const realDepth = above === undefined || parent === id ? depth : Math.max(depth, above.state.depth + 1);
    const key = `${iteration} ${timestamp}`;
    const taken = takeStep(truth.limits, chain.state, { iteration, depth: realDepth, state, key }, nowMs);
    const judgement = judge(taken.excesses, truth.responses);
    chain.state = taken.isRepeat ? taken.state : afterVerdict(taken.state, judgement.verdict);
    const why = wordsOf(judgement);
    this.#say({ ...said, depth: realDepth, verdict: judgement.verdict, would: judgement.would, reason: why });
    if (judgement.because !== null) this.#found({ id, chain, credential, judgement, why, nowMs });
  }

  /** Why a step is answered with circuit_break without a look at it. */
  #brokenBy(id: string, parent: string | null): string | undefined {
    const own = this.#held.get(id);
    if (own !== undefined) return `held: ${own.reason}`;
    let above = parent;
    for (let n = 0; above !== null && n < MAX_ANCESTORS; n++) {
      if (this.#held.has(above)) return `held: it was started by ${above}, which is held`;
      above = this.#chains.get(above)?.parent ?? null;
    }
    return undefined;
  }

  #chainOf(id: string): Chain {
    const known = this.#chains.get(id);
    const chain = known ?? { state: FRESH_CHAIN, parent: null, lastMs: 0, told: '', toldMs: 0 };
    this.#chains.delete(id);
    this.#chains.set(id, chain);
    const [silent] = this.#chains.keys();
    if (this.#chains.size > MAX_CHAINS && silent !== undefined) this.#chains.delete(silent);
    return chain;
  }

  #found({
    id,
    chain,
    credential,
    judgement: { verdict, would, because },
    why,
    nowMs,
  }: {
    id: string;
    chain: Chain;
    credential: Credential;
    judgement: Judgement;
    why: string;
    nowMs: number;
  }): void {
    if (because === null) return;
    const acts = verdict !== 'continue';
    const told = acts ? verdict : (would ?? 'continue');
    const finding = `${told} ${acts} ${because.condition}`;
    const isHold = told === 'circuit_break' && acts;
    if (!isHold && chain.told === finding && nowMs - chain.toldMs < TELL_AGAIN_MS) return;
    chain.told = finding;
    chain.toldMs = nowMs;
    const mayHold = isHold && this.#held.size < MAX_HELD_CHAINS;
    const hold = mayHold ? randomBytes(HOLD_BYTES).toString('hex') : null;
    const report: ChainReport = { chain: id, verdict: told, acts, ...because, hold };
    if (hold !== null) {
      this.#held.set(id, { hold, reason: why, report: { credential, report }, isKnown: false });
      this.#chains.delete(id);
    }
    this.#queue({ credential, report });
  }

  #say(words: Omit<ChainWords, 'atMs'>): void {
    const outlet = this.#outlet;
    if (outlet === undefined) return;
    const at = topic(outlet.prefix, 'chainVerdict', outlet.origin.node, words.chain, 'verdict');
    const payload = chainVerdictPayload(outlet.origin, { ...words, atMs: this.#options.clock.wallMs() });
    outlet.publish(message('chainVerdict', at, JSON.stringify(payload)));
  }

  // ---- What the agent is told ------------------------------------------------------------------------------------------

  #queue(finding: { credential: Credential; report: ChainReport }): void {
    if (this.#pending.length >= MAX_PENDING || this.#pending.some(({ report }) => report === finding.report)) return;
    this.#pending.push(finding);
    if (!this.#isTelling) this.#tellIn(TELL_AFTER_MS);
  }

  #tellIn(delayMs: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#tell();
    }, delayMs);
  }

  async #tell(): Promise<void> {
    const first = this.#pending[0];
    if (this.#isTelling || first === undefined) return;
    this.#isTelling = true;
    const { user } = first.credential;
    const batch = this.#pending.filter(({ credential }) => credential.user === user).slice(0, MAX_REPORTS);
    this.#pending = this.#pending.filter((each) => !batch.includes(each));
    const reports = batch.map(({ report }) => report);
    try {
      await this.#options.report(first.credential, reports);
      this.#know(reports);
    } catch (error) {
      // Its holds are told again each second; of a token that was revoked nobody wants to hear.
      if (error instanceof SkosError && error.code === 'SKOS_TOKEN_DENIED') this.#know(reports);
      this.#options.log().debug(`what was found of chains is not taken: ${reason(error)}`);
    } finally {
      this.#isTelling = false;
    }
    if (this.#pending.length > 0) this.#tellIn(TELL_SPACING_MS);
  }

  #know(reports: readonly ChainReport[]): void {
    for (const { chain, hold } of reports) {
      const held = this.#held.get(chain);
      if (held !== undefined && held.hold === hold) held.isKnown = true;
    }
  }
}

const WORDS: Readonly<Record<ChainReport['condition'], string>> = {
  depth: 'depth',
  repeats: 'equal states',
  rate: 'steps a second',
  iterations: 'iterations',
};

function wordsOf({ because }: { because: Judgement['because']; verdict: ChainVerdict }): string {
  return because === null ? '' : `${WORDS[because.condition]}: ${because.value}, the limit is ${because.limit}`;
}
