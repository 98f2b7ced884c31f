/**
 * Simulated hours of one node: a machine that is not there (simulated-machine.ts), its sensors read by the rulebook and the executor
 * that an agent runs, which cap it through an actuator in memory. Nothing of the policy is copied here: what is simulated is what runs.
 *
 * Time moves from sample to sample. A stretch in which no reading could change anything, whatever the noise, is passed over:
 * ladders at rest below their lowest bound, or held between the bounds of their rung, and the next event not there yet. A sample does
 * not depend on those before it (simulated-machine.ts), so that the decisions are those of a simulation which looks at every sample;
 * `everySample` is one, and a test compares them.
 */
import type { Antibody, Finding } from '../antibodies/antibody.js';
import { gpuTarget } from '../config/allow-targets.js';
import { compileAllowList } from '../config/compile.js';
import type { Config } from '../config/schema.js';
import { thermalBounds } from '../config/thermal-bounds.js';
import type { Channel, Quality } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { ActionRecord, AuditEntry, AuditInput, Log } from '../core/ports.js';
import { SEVERITIES } from '../core/vocabulary.js';
import { NO_RUNG } from '../policy/ladder.js';
import { Seeded } from '../policy/seeded.js';
import { type Course, celsiusAt, crossingMs } from '../policy/thermal-model.js';
import { MemoryAudit, MemoryStore } from '../store/memory-store.js';
import { Breakers } from './breakers.js';
import { CurrentConfig } from './current-config.js';
import { Executor } from './executor.js';
import { LastingClock } from './lasting-clock.js';
import { RENEWALS_PER_LEASE } from './lease-keeper.js';
import { OperatorWord } from './operator-word.js';
import { Record } from './record.js';
import { RepairGates } from './repair-gates.js';
import { Repairs } from './repairs.js';
import { type BoundRule, Rulebook } from './rulebook.js';
import { type LeaseEvent, SimulatedActuator } from './simulated-actuator.js';
import { type DeviceReport, gpuAddress, HOUR_MS, SimulatedMachine } from './simulated-machine.js';
import { type Figures, SimulationFigures } from './simulation-figures.js';

const BOOT = 'simulated';
/** Wall time of the beginning: 2026-01-01. */
const WALL_BEGIN_MS = Date.UTC(2026, 0, 1);
/** The agent fails about so often, and is away for so long: a crash that systemd mends, or a stop of minutes. */
const OUTAGE_MEAN_MS = 12 * HOUR_MS;
const OUTAGE_MS = { least: 500, most: 4 * 60_000 };
/** Some tens of milliseconds. */
const MOMENTS_PER_TURN = 4_096;
/** Promises that follow each other from a request of the executor to its record. */
const TURNS = 12;
/** Who reads a sensor: each has noise of its own. */
const AGENT = 1;
const ACTUATOR = 2;

/** What a test may put in the place of a part, to show that a check sees it broken. */
export interface SimulatedParts {
  readonly rulebook?: (antibodies: readonly Antibody[]) => Rulebook;
  readonly breakers?: (store: MemoryStore) => Breakers;
  readonly word?: (options: ConstructorParameters<typeof OperatorWord>[0]) => OperatorWord;
  readonly actuator?: (...of: ConstructorParameters<typeof SimulatedActuator>) => SimulatedActuator;
}

/** Told as it happens, in this order within a moment; monotonic times. */
export interface SimulationObserver {
  /** What the agent read; and whenever the actuator read the channel of an order. */
  reading?(channel: number, value: number, quality: Quality, atMs: number): void;
  orderReading?(channel: number, value: number, quality: Quality, atMs: number): void;
  finding?(bound: BoundRule, finding: Finding): void;
  lease?(kind: LeaseEvent, lease: string, held: { target: string; capPpm: number }, atMs: number): void;
  agent?(state: 'stopped' | 'started', atMs: number): void;
  /** The moment is over: what the actuator holds now is what came of it. */
  moment?(atMs: number): void;
}

export interface SimulationOptions {
  readonly config: Config;
  readonly antibodies: readonly Antibody[];
  readonly seed: number;
  readonly hours: number;
  readonly gpus: number;
  /** How often things fail, as a multiple of the ordinary; 0: never. Default 1. */
  readonly faults?: number;
  readonly everySample?: boolean;
  /** Jobs that the actuator lists, and that fail each time; none is listed otherwise, because a simulation starts no unit. */
  readonly failingJobs?: readonly string[];
  readonly parts?: SimulatedParts;
  readonly observer?: SimulationObserver;
}

export interface SimulationReport extends Figures {
  readonly seed: number;
  readonly hours: number;
  readonly outages: number;
  /** Moments that were looked at, of those that there were. */
  readonly moments: number;
  readonly momentsInAll: number;
  readonly devices: readonly (DeviceReport & { readonly bounds: readonly number[] })[];
}

const SILENT: Log = (() => {
  const nothing = () => undefined;
  return { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing, fatal: nothing };
})();

/** Keeps what an agent would find after its restart, and forgets what nobody asks for. */
class ForgetfulStore extends MemoryStore {
  override readonly audit = new ForgetfulAudit({ monotonicMs: () => 0, wallMs: () => 0 });
  readonly unfinished = new Map<string, ActionRecord>();
  onAction: (record: ActionRecord) => void = () => undefined;

  override putAction(record: ActionRecord): void {
    if (record.endedAtMs === null) this.unfinished.set(record.actionId, record);
    else this.unfinished.delete(record.actionId);
    this.onAction(record);
  }
}

class ForgetfulAudit extends MemoryAudit {
  override append(input: AuditInput): Promise<AuditEntry> {
    return Promise.resolve({ ...input, seq: 1, atMs: 0, previous: '', hash: '' });
  }
}

/** What an agent is, from one start to the next. */
interface Life {
  readonly rulebook: Rulebook;
  readonly executor: Executor;
}

export class Simulation {
  readonly machine: SimulatedMachine;
  readonly actuator: SimulatedActuator;
  readonly #options: SimulationOptions;
  readonly #config: CurrentConfig;
  readonly #periodMs: number;
  readonly #store: ForgetfulStore;
  readonly #gates: RepairGates;
  readonly #random: Seeded;
  readonly #figures: SimulationFigures;
  readonly #targets: readonly string[];
  /** Channels that a standing order watches. */
  readonly #ordered: readonly number[];
  readonly #clock: Clock = { monotonicMs: () => this.#nowMs, wallMs: () => WALL_BEGIN_MS + this.#nowMs };
  #nowMs = 0;
  #life: Life | undefined;
  #outageMs = Number.POSITIVE_INFINITY;
  #outages = 0;
  #version = 0;
  #moments = 0;
  #isStopped = false;

  constructor(options: SimulationOptions) {
    const { config, seed, gpus, faults = 1, parts } = options;
    this.#options = options;
    this.#config = new CurrentConfig(config);
    this.#periodMs = 1000 / config.sampling.rate_hz;
    this.#figures = new SimulationFigures(this.#periodMs);
    this.machine = new SimulatedMachine(
      { seed, gpus, periodMs: this.#periodMs, deadlineMs: config.sampling.deadline_ms, faults },
      (channel) => boundsOf(config, channel),
    );
    const { channels } = this.machine;
    const allowList = compileAllowList({
      config,
      channels,
      sysfsRoot: '/sys',
      facts: {
        cpufreqPolicies: ['devices/system/cpu/cpufreq/policy0'],
        pstate: false,
        raplZones: ['class/powercap/intel-rapl:0'],
        gpus: Array.from({ length: gpus }, (_, i) => ({ address: gpuAddress(i), kind: 'nvml_power' as const })),
        fans: [],
        energyZones: [],
        cgroup: { cpu: null, freezer: null },
      },
      controllerUid: 0,
    });
    this.#targets = [...allowList.matchAll(/^target (\S+)/gm)].map(([, target = '']) => target);
    const { failingJobs = [] } = options;
    this.actuator =
      parts?.actuator?.(allowList, channels, failingJobs) ?? new SimulatedActuator(allowList, channels, failingJobs);
    this.#ordered = [...new Set(this.actuator.standingOrders.map(({ order }) => order.channel))];
    this.actuator.onLease = (kind, lease, held) => {
      this.#figures.countLease(kind);
      options.observer?.lease?.(kind, lease, held, this.#nowMs);
    };
    this.#store = new ForgetfulStore({ clock: this.#clock, why: 'it is a simulation', log: SILENT });
    this.#store.onAction = (record) => this.#figures.countAction(record);
    const [store, clock, bootId] = [this.#store, this.#clock, BOOT];
    const breakers = parts?.breakers?.(store) ?? new Breakers(store);
    const lasting = new LastingClock({ store, clock, bootId });
    // Budgets and breakers survive the agent, as they do in its database.
    this.#gates = new RepairGates({ config: this.#config, breakers, lasting, store, clock, bootId });
    this.#random = new Seeded(seed ^ 0x5eed);
    if (faults > 0) this.#outageMs = this.#random.waiting(OUTAGE_MEAN_MS / faults);
  }

  async run(): Promise<SimulationReport> {
    await this.#gates.start();
    try {
      return await this.#run();
    } finally {
      this.#gates.stop();
    }
  }

  async #run(): Promise<SimulationReport> {
    const count = Math.floor((this.#options.hours * HOUR_MS) / this.#periodMs);
    for (let index = 0; index < count; index = this.#next(index, count)) {
      if (this.#isStopped) break;
      // Signals are seen between turns of the event loop only.
      if (this.#moments++ % MOMENTS_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
      const former = this.#nowMs;
      this.#nowMs = index * this.#periodMs;
      this.#countCapped(this.#nowMs - former);
      await this.#moment(index);
    }
    return this.#report(count);
  }

  /** Ends it at the next moment; what was simulated so far is reported. */
  stop(): void {
    this.#isStopped = true;
  }

  async #moment(index: number): Promise<void> {
    const { machine, actuator } = this;
    const nowMs = this.#nowMs;
    machine.advance(nowMs);
    this.#senseOrders(index);
    actuator.work(nowMs);
    await this.#comeAndGo();
    const life = this.#life;
    if (life !== undefined) {
      const { calls } = actuator;
      this.#look(life, index);
      if (actuator.calls !== calls) await turns();
    }
    this.#applyCaps();
    this.#options.observer?.moment?.(nowMs);
  }

  #senseOrders(index: number): void {
    const { machine, actuator } = this;
    const { observer } = this.#options;
    for (const channel of this.#ordered) {
      // A read that hangs or is not made at all is one that cannot be made.
      const { value, quality } = machine.reading(channel, index, ACTUATOR) ?? { value: 0, quality: 'hung' as const };
      observer?.orderReading?.(channel, value, quality, this.#nowMs);
      actuator.sense(channel, value, quality);
    }
  }

  /** One tick: observe, decide, act. */
  #look({ rulebook, executor }: Life, index: number): void {
    const { machine } = this;
    const { observer } = this.#options;
    for (let channel = 0; channel < machine.channels.length; channel++) {
      const reading = machine.reading(channel, index, AGENT);
      if (reading === undefined) continue;
      observer?.reading?.(channel, reading.value, reading.quality, this.#nowMs);
      rulebook.sample(channel, reading.value, reading.quality, this.#nowMs, this.#onFinding);
    }
    rulebook.checkStale(this.#nowMs, this.#onFinding);
    executor.reconcile(this.#nowMs);
  }

  readonly #onFinding = (bound: BoundRule, finding: Finding): void => {
    this.#figures.countFinding(finding, this.#nowMs);
    this.#options.observer?.finding?.(bound, finding);
  };

  // ---- The agent ---------------------------------------------------------------------------------------------------

  /** The first moment starts it. */
  async #comeAndGo(): Promise<void> {
    if (this.#life === undefined && this.#nowMs >= (this.#outages === 0 ? 0 : this.#outageMs)) {
      await this.#start();
      if (this.#outages > 0) {
        this.#outageMs = this.#nowMs + this.#random.waiting(OUTAGE_MEAN_MS / (this.#options.faults ?? 1));
      }
      return;
    }
    if (this.#life === undefined || this.#nowMs < this.#outageMs) return;
    this.#life = undefined;
    this.#outages += 1;
    const lastsMs = OUTAGE_MS.least + (OUTAGE_MS.most - OUTAGE_MS.least) * this.#random.next() ** 2;
    this.#outageMs = this.#nowMs + lastsMs;
    this.#options.observer?.agent?.('stopped', this.#nowMs);
  }

  async #start(): Promise<void> {
    const { config, antibodies, parts = {} } = this.#options;
    const { machine, actuator } = this;
    const [store, clock, log] = [this.#store, this.#clock, SILENT];
    const outlet = { broadcast: () => undefined };
    const rulebook = parts.rulebook?.(antibodies) ?? new Rulebook(antibodies);
    const wordOptions = { bootId: BOOT, store, clock };
    const word = parts.word?.(wordOptions) ?? new OperatorWord(wordOptions);
    const record = new Record({ store, log, outlet });
    rulebook.rebuild({ config, channels: machine.channels, report: { skipped: () => undefined } });
    const acting = { node: config.node, bootId: BOOT, config: this.#config, rulebook, word, store, record };
    const repairs = new Repairs({ ...acting, gate: this.#gates, report: async () => undefined, clock });
    const executor = new Executor({ ...acting, repairs, learn: () => undefined, outlet, log, clock });
    executor.recall([...store.unfinished.values()]);
    this.#options.observer?.agent?.('started', this.#nowMs);
    await executor.attach(actuator);
    await turns();
    this.#life = { rulebook, executor };
  }

  // ---- What is passed over -----------------------------------------------------------------------------------------

  /** The number of the next sample that may matter. */
  #next(index: number, count: number): number {
    if (this.#options.everySample === true) return index + 1;
    const untilMs = this.#quietUntilMs();
    // The last one that certainly does not matter is looked at too, so that what comes next has its predecessor.
    return Math.min(count, Math.max(index + 1, Math.ceil(untilMs / this.#periodMs) - 1));
  }

  #quietUntilMs(): number {
    const nowMs = this.#nowMs;
    const { machine, actuator } = this;
    let untilMs = Math.min(machine.nextMs, this.#outageMs, actuator.nextOrphanMs);
    const life = this.#life;
    // While it holds leases no renewal is passed over.
    if (life !== undefined && life.executor.actions.length > 0) {
      untilMs = Math.min(untilMs, nowMs + (this.#options.config.actuator.lease * 1000) / RENEWALS_PER_LEASE);
    }
    for (let channel = 0; channel < machine.channels.length; channel++) if (machine.isTroubled(channel)) return nowMs;
    for (const [channel, quiet] of this.#bands()) {
      const course = machine.course(channel);
      if (course === undefined || untilMs <= nowMs) return nowMs;
      untilMs = Math.min(untilMs, leavesMs(course, quiet, { noise: machine.noise(channel), nowMs }));
    }
    return untilMs;
  }

  /** Of each ladder and order the values within which nothing about it changes; none where it is on its way somewhere. */
  *#bands(): Generator<readonly [channel: number, band: Band]> {
    const none = { above: Number.POSITIVE_INFINITY, below: Number.NEGATIVE_INFINITY };
    for (const { order, raised, count } of this.actuator.standingOrders) {
      const band = raised
        ? { above: order.clear, below: Number.POSITIVE_INFINITY }
        : { ...none, above: Number.NEGATIVE_INFINITY, below: order.raise };
      yield [order.channel, count > 0 ? none : band];
    }
    for (const { rule, channel, ladder } of this.#life?.rulebook.bound ?? []) {
      const { rung, runs, belowSinceMs } = ladder;
      const isRising = runs.some(({ samples }, i) => i > rung && samples > 0);
      const below = rule.rungs[rung + 1]?.raise ?? Number.POSITIVE_INFINITY;
      const above = rung === NO_RUNG ? Number.NEGATIVE_INFINITY : (rule.rungs[rung]?.clear ?? Number.POSITIVE_INFINITY);
      const index = this.machine.channels.indexOf(channel);
      yield [index, isRising || belowSinceMs !== null || ladder.verdict !== 'ok' ? none : { above, below }];
    }
  }

  // ---- What comes of it --------------------------------------------------------------------------------------------

  #applyCaps(): void {
    const { machine, actuator } = this;
    if (actuator.version === this.#version) return;
    this.#version = actuator.version;
    machine.channels.forEach((channel, i) => {
      if (channel.probe.kind === 'gpu') {
        const power = actuator.capPpm(gpuTarget(channel.probe.address)) / 1e6;
        machine.cap(i, { frequency: 1, power });
      } else {
        const frequency = actuator.capPpm('cpufreq/policy0') / 1e6;
        machine.cap(i, { frequency, power: actuator.capPpm('rapl/intel-rapl:0') / 1e6 });
      }
    });
  }

  #countCapped(passedMs: number): void {
    for (const target of this.#targets) {
      if (this.actuator.capPpm(target) < 1e6) this.#figures.countCapped(target, passedMs);
    }
  }

  #report(count: number): SimulationReport {
    const { seed, config } = this.#options;
    const endMs = this.#nowMs;
    return {
      seed,
      hours: endMs / HOUR_MS,
      outages: this.#outages,
      moments: this.#moments,
      momentsInAll: count,
      devices: this.machine.report(endMs).map((device, i) => {
        const channel = this.machine.channels[i];
        return { ...device, bounds: channel === undefined ? [] : boundsOf(config, channel) };
      }),
      ...this.#figures.report,
    };
  }
}

function boundsOf(config: Config, channel: Channel): number[] {
  const bounds = thermalBounds(config, channel);
  return SEVERITIES.map((severity) => bounds[severity].raise / 1000);
}

/** Canonical units: values that are neither below `above` nor above `below`. */
interface Band {
  readonly above: number;
  readonly below: number;
}

/** Until when every reading lies in the band, whatever its noise; `nowMs` when that is not certain. */
function leavesMs(course: Course, { above, below }: Band, { noise, nowMs }: { noise: number; nowMs: number }): number {
  const [least, most] = [(above + noise) / 1000, (below - noise) / 1000];
  const celsius = celsiusAt(course, nowMs);
  if (!(celsius > least && celsius < most)) return nowMs;
  const down = Number.isFinite(least) ? crossingMs(course, least, nowMs) : Number.POSITIVE_INFINITY;
  const up = Number.isFinite(most) ? crossingMs(course, most, nowMs) : Number.POSITIVE_INFINITY;
  return Math.min(down, up);
}

/** Lets the promises of a request go on to their end; none of them waits for anything outside. */
async function turns(): Promise<void> {
  for (let i = 0; i < TURNS; i++) await undefined;
}
