/**
 * A sampler around another one, which adds what is derived (derived.ts): in drain() every sample of the base goes through
 * as it is and into the windows that feed on it; once a second all derived channels speak, each with the time of that
 * beat.
 *
 * A derived reading is ok only while all that it needs is ok and fresh; otherwise it has the worst of their qualities, and
 * no_data while the formula has no answer. The list may hold derived channels whose base is gone: they say no_data.
 *
 * Windows outlive the sampler: a new discovery hands them on (`former`), or each change of the machine would blind the
 * slopes for seconds.
 */
import { type Channel, isDerived, QUALITIES, type Quality, type Reading } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Sampler, Tripwire } from '../core/ports.js';
import { blindMs, LastLoad, LastSeen } from '../policy/blind-gpu.js';
import { FanHistory, fanStopped } from '../policy/fan-stopped.js';
import { FillForecast } from '../policy/fill-forecast.js';
import { MeanPower } from '../policy/mean-power.js';
import { sortedMedian } from '../policy/median.js';
import { sampleGapMs } from '../policy/rule.js';
import { SlopeWindow } from '../policy/slope.js';
import { CounterShare, FlagShare } from '../policy/throttled-share.js';
import { timeToLimitMs } from '../policy/time-to-limit.js';
import { DERIVED_RATE_HZ, type Derivation, derivationsOf, type Formula, MIN_BALANCED_GPUS } from './derived.js';

const BEAT_MS = 1000 / DERIVED_RATE_HZ;

interface Window {
  take(value: number, atMs: number): void;
  lost(): void;
}

/** A channel of the base that something feeds on, and its latest sample. */
interface Input {
  value: number;
  quality: Quality;
  atMs: number;
  /** Older than this it is stale. */
  readonly freshMs: number;
  readonly windows: Window[];
}

interface Output {
  /** In the whole list. */
  readonly index: number;
  readonly own: Input | undefined;
  /** The value in its canonical unit, as it is now; null: there is none. Asked only while `own` is ok. */
  readonly compute: (nowMs: number) => number | null;
  /** Of an imbalance: the inputs of all GPUs. */
  readonly peers: readonly Input[];
  /** It is about the loss of its own channel: it speaks when that is not ok. */
  readonly isAboutLoss: boolean;
  value: number;
  quality: Quality;
  atMs: number;
}

export interface DerivedSamplerOptions {
  /** Of the base and derived, in any order: the list that rules know. */
  readonly channels: readonly Channel[];
  readonly tripwires: readonly Tripwire[];
  /** Makes the sampler of those that are not derived; indexes are of the list that it is given. */
  readonly createBase: (channels: readonly Channel[], tripwires: readonly Tripwire[]) => Sampler;
  readonly clock: Clock;
  /** sampling.deadline_ms: how late a sample may be and still be fresh. */
  readonly deadlineMs: number;
  /** The sampler that this one takes the place of. */
  readonly former?: DerivedSampler | undefined;
}

type OnSample = (channel: number, value: number, quality: Quality, atMs: number) => void;

export class DerivedSampler implements Sampler {
  readonly channels: readonly Channel[];
  readonly #base: Sampler;
  readonly #clock: Clock;
  readonly #staleMs: number;
  /** Index of the base → index in the whole list, and back (−1: derived). */
  readonly #whole: readonly number[];
  readonly #ofBase: readonly number[];
  /** By index of the base. */
  readonly #inputs: (Input | undefined)[] = [];
  readonly #outputs: Output[];
  readonly #outputAt = new Map<number, Output>();
  readonly #windows = new Map<string, Window>();
  readonly #former: ReadonlyMap<string, Window>;
  readonly #onBase: OnSample;
  #each: OnSample = () => undefined;
  #beatMs = Number.NEGATIVE_INFINITY;

  constructor({ channels, tripwires, createBase, clock, deadlineMs, former }: DerivedSamplerOptions) {
    this.channels = channels;
    this.#clock = clock;
    this.#staleMs = sampleGapMs({ rateHz: DERIVED_RATE_HZ, deadlineMs });
    this.#whole = [...channels.keys()].filter((i) => !isDerived(channels[i] as Channel));
    const position = new Map(this.#whole.map((i, n) => [i, n]));
    this.#ofBase = channels.map((_, i) => position.get(i) ?? -1);
    this.#former = former === undefined ? new Map() : former.#windows;
    const base = this.#whole.map((i) => channels[i] as Channel);
    // A derived channel has no tripwire: its ladder is asked with its next sample, within a second.
    const wires = tripwires.flatMap((wire) => {
      const channel = position.get(wire.channel);
      return channel === undefined ? [] : [{ ...wire, channel }];
    });
    this.#base = createBase(base, wires);
    const byId = new Map(derivationsOf(base).map((derivation) => [derivation.channel.id, derivation]));
    const inputOf = this.#inputMaker(base, deadlineMs);
    this.#outputs = channels.flatMap((channel, index) => {
      if (!isDerived(channel)) return [];
      const output = this.#output(index, byId.get(channel.id), inputOf);
      this.#outputAt.set(index, output);
      return [output];
    });
    this.#onBase = (index, value, quality, atMs) => this.#pass(index, value, quality, atMs);
  }

  start(): void {
    this.#base.start();
  }

  stop(): void {
    this.#base.stop();
  }

  refresh(): void {
    this.#base.refresh();
  }

  latest(i: number): Reading {
    const output = this.#outputAt.get(i);
    if (output === undefined) return this.#base.latest(this.#ofBase[i] ?? -1);
    const { quality, value, atMs } = output;
    if (quality !== 'ok') return { value: null, quality, atMs };
    // Nobody has drained for seconds: what was computed then is not how it is.
    const isStale = this.#clock.monotonicMs() - atMs > this.#staleMs;
    return isStale ? { value: null, quality: 'stale', atMs } : { value, quality, atMs };
  }

  drain(each: OnSample): void {
    this.#each = each;
    this.#base.drain(this.#onBase);
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#beatMs < BEAT_MS) return;
    // The beat keeps its pace though ticks are late; after a pause it begins anew.
    this.#beatMs = nowMs - this.#beatMs < 2 * BEAT_MS ? this.#beatMs + BEAT_MS : nowMs;
    for (const output of this.#outputs) this.#speak(output, nowMs);
  }

  get overruns(): number {
    return this.#base.overruns;
  }

  #pass(index: number, value: number, quality: Quality, atMs: number): void {
    this.#each(this.#whole[index] as number, value, quality, atMs);
    const input = this.#inputs[index];
    if (input === undefined) return;
    input.value = value;
    input.quality = quality;
    input.atMs = atMs;
    for (const window of input.windows) {
      if (quality === 'ok') window.take(value, atMs);
      else window.lost();
    }
  }

  #speak(output: Output, nowMs: number): void {
    output.quality = qualityOf(output, nowMs);
    const value = output.quality === 'ok' ? output.compute(nowMs) : null;
    if (value === null && output.quality === 'ok') output.quality = 'no_data';
    // Adding zero turns a rounded −0 into 0.
    output.value = value === null ? Number.NaN : Math.round(value) + 0;
    output.atMs = nowMs;
    this.#each(output.index, output.value, output.quality, nowMs);
  }

  #inputMaker(base: readonly Channel[], deadlineMs: number): (id: string) => Input | undefined {
    const indexes = new Map(base.map(({ id }, i) => [id, i]));
    return (id) => {
      const index = indexes.get(id);
      const channel = index === undefined ? undefined : base[index];
      if (index === undefined || channel === undefined) return undefined;
      const freshMs = sampleGapMs({ rateHz: channel.rateHz, deadlineMs });
      this.#inputs[index] ??= { value: 0, quality: 'no_data', atMs: 0, freshMs, windows: [] };
      return this.#inputs[index];
    };
  }

  #output(index: number, derivation: Derivation | undefined, inputOf: (id: string) => Input | undefined): Output {
    const fresh = { index, value: Number.NaN, quality: 'no_data', atMs: 0 } as const;
    const own = derivation === undefined ? undefined : inputOf(derivation.base);
    if (derivation === undefined || own === undefined) {
      return { ...fresh, own: undefined, peers: [], isAboutLoss: false, compute: () => null };
    }
    const { formula, base } = derivation;
    const all = derivation.peers.flatMap((id) => inputOf(id) ?? []);
    const compute = this.#formula({ formula, base, own, peers: all });
    const peers = formula.kind === 'imbalance' ? all : [];
    return { ...fresh, own, peers, isAboutLoss: formula.kind === 'blind', compute };
  }

  #formula(given: { formula: Formula; base: string; own: Input; peers: readonly Input[] }): Output['compute'] {
    const { formula, base, own, peers } = given;
    switch (formula.kind) {
      case 'power': {
        const power = this.#window({ key: `power ${base}`, own, kind: MeanPower, make: () => new MeanPower() });
        return () => power.powerMilliWatts();
      }
      case 'slope': {
        const slope = this.#slope(base, own);
        return (nowMs) => slope.slopePerSecond(nowMs);
      }
      case 'time_to_limit': {
        const slope = this.#slope(base, own);
        const { limitMilliCelsius } = formula;
        return (nowMs) => {
          const slopeMilliCelsiusPerSecond = slope.slopePerSecond(nowMs);
          return timeToLimitMs({ valueMilliCelsius: own.value, limitMilliCelsius, slopeMilliCelsiusPerSecond });
        };
      }
      case 'imbalance': {
        const values = new Float64Array(peers.length);
        return (nowMs) => deviation(own, { peers, values, nowMs });
      }
      case 'flag_share': {
        const { ignored } = formula;
        const key = `flags ${ignored} ${base}`;
        const share = this.#window({ key, own, kind: FlagShare, make: () => new FlagShare(ignored) });
        return (nowMs) => share.sharePpm(nowMs);
      }
      case 'forecast': {
        const fill = this.#window({ key: `fill ${base}`, own, kind: FillForecast, make: () => new FillForecast() });
        return (nowMs) => fill.forecastPpm(nowMs);
      }
      case 'reason_share': {
        const { bits } = formula;
        const key = `flags ${bits.low}/${bits.high} ${base}`;
        const share = this.#window({ key, own, kind: FlagShare, make: () => new FlagShare(bits) });
        return (nowMs) => share.sharePpm(nowMs);
      }
      case 'fan_stopped': {
        const { askedFrom } = formula;
        const fan = this.#window({ key: `fan ${base}`, own, kind: FanHistory, make: () => new FanHistory() });
        return (nowMs) => {
          const fresh = peers.filter((peer) => freshQuality(peer, nowMs) === 'ok');
          const witnesses = fresh.map(({ value }) => value);
          return fanStopped({ rpm: own.value, hasTurned: fan.hasTurned, witnesses, askedFrom });
        };
      }
      case 'blind':
        return this.#blind(base, own, peers[0]);
      case 'counter_share': {
        const share = this.#window({ key: `counter ${base}`, own, kind: CounterShare, make: () => new CounterShare() });
        return (nowMs) => share.sharePpm(nowMs);
      }
    }
  }

  #blind(base: string, own: Input, utilization: Input | undefined): Output['compute'] {
    const seen = this.#window({ key: `seen ${base}`, own, kind: LastSeen, make: () => new LastSeen() });
    if (utilization === undefined) return () => null;
    const load = this.#window({ key: `load ${base}`, own: utilization, kind: LastLoad, make: () => new LastLoad() });
    return (nowMs) => {
      const quality = freshQuality(own, nowMs);
      // A GPU that is not there, or was detached, is not one that nobody can read.
      if (quality === 'no_data') return null;
      return blindMs({ isRead: quality === 'ok', seenMs: seen.atMs, loadedMs: load.atMs, nowMs });
    };
  }

  /** One window for the slope and the time to the limit. */
  #slope(base: string, own: Input): SlopeWindow {
    return this.#window({ key: `slope ${base}`, own, kind: SlopeWindow, make: () => new SlopeWindow() });
  }

  /** The window of that key: ours, else the former sampler's, else a new one. */
  #window<W extends Window>(given: {
    key: string;
    own: Input;
    kind: abstract new (...given: never[]) => W;
    make: () => W;
  }): W {
    const { key, own, kind, make } = given;
    const known = this.#windows.get(key) ?? this.#former.get(key);
    const window = known instanceof kind ? known : make();
    this.#windows.set(key, window);
    if (!own.windows.includes(window)) own.windows.push(window);
    return window;
  }
}

function freshQuality({ quality, atMs, freshMs }: Input, nowMs: number): Quality {
  return quality === 'ok' && nowMs - atMs > freshMs ? 'stale' : quality;
}

/** Of all that the output needs. An imbalance needs its own GPU, and enough of the others: a lost one must not blind them all. */
function qualityOf({ own, peers, isAboutLoss }: Output, nowMs: number): Quality {
  if (own === undefined) return 'no_data';
  if (isAboutLoss) return 'ok';
  const quality = freshQuality(own, nowMs);
  if (quality !== 'ok' || peers.length === 0) return quality;
  let ok = 0;
  let worst = 0;
  for (const peer of peers) {
    const each = freshQuality(peer, nowMs);
    if (each === 'ok') ok++;
    worst = Math.max(worst, QUALITIES.indexOf(each));
  }
  return ok >= MIN_BALANCED_GPUS ? 'ok' : (QUALITIES[worst] ?? 'no_data');
}

function deviation(
  own: Input,
  { peers, values, nowMs }: { peers: readonly Input[]; values: Float64Array; nowMs: number },
): number {
  let count = 0;
  for (const peer of peers) if (freshQuality(peer, nowMs) === 'ok') values[count++] = peer.value;
  return own.value - sortedMedian(values, count);
}
