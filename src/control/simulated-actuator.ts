/**
 * skos-actuator as a simulation needs it: leases that stack, are renewed and are orphaned, and the standing orders of the compiled
 * allow-list, with the semantics of native/actuator/README.md. Devices take what they are asked; how the real one deals with devices
 * that do not is tested where it lives.
 */
import { orderNameOf } from '../config/standing-orders.js';
import type { Channel, Quality } from '../core/channel.js';
import { SkosError } from '../core/errors.js';
import type {
  Actuator,
  ActuatorEvent,
  ActuatorJob,
  ActuatorLease,
  ActuatorOrder,
  ActuatorPower,
  ActuatorTarget,
  LeaseRequest,
  LeaseResult,
} from '../core/ports.js';

const UNCAPPED_PPM = 1_000_000;

interface Lease {
  readonly target: string;
  readonly capPpm: number;
  untilMs: number;
}

export interface SimulatedOrder {
  readonly name: string;
  /** Index of its channel. */
  readonly channel: number;
  readonly raise: number;
  readonly clear: number;
  readonly samples: number;
  readonly capPpm: number;
  readonly targets: readonly string[];
}

interface OrderState {
  readonly order: SimulatedOrder;
  raised: boolean;
  /** Readings in a row towards the other state. */
  count: number;
  isBelowClear: boolean;
  last: { readonly value: number | null; readonly quality: Quality };
}

export type LeaseEvent = 'set' | 'released' | 'ended';

export class SimulatedActuator implements Actuator {
  readonly connected = true;
  nowMs = 0;
  /** Requests so far: whoever made one has an answer to take. */
  calls = 0;
  /** Counts changes of the caps. */
  version = 0;
  onLease: (kind: LeaseEvent, lease: string, held: { readonly target: string; readonly capPpm: number }) => void = () =>
    undefined;
  readonly #jobs: readonly string[];
  readonly #floors: ReadonlyMap<string, number>;
  readonly #leases = new Map<string, Lease>();
  readonly #orders: readonly OrderState[];
  readonly #caps = new Map<string, number>();
  /** Something changed since the caps were worked out. */
  #isStale = false;

  /** `allowList` as config/compile.ts makes it; of jobs only those are listed that fail. */
  constructor(allowList: string, channels: readonly Channel[], failingJobs: readonly string[]) {
    this.#jobs = failingJobs;
    const targets = [...allowList.matchAll(/^target (\S+) .*floor_ppm=(\d+)/gm)];
    this.#floors = new Map(targets.map(([, id = '', floor]) => [id, Number(floor)]));
    this.#orders = ordersOf(allowList, channels).map((order) => ({
      order,
      raised: false,
      count: 0,
      isBelowClear: false,
      last: { value: null, quality: 'no_data' },
    }));
  }

  get standingOrders(): readonly Readonly<OrderState>[] {
    return this.#orders;
  }

  /** Of a target, in parts per million; 1,000,000: none. */
  capPpm(target: string): number {
    return this.#caps.get(target) ?? UNCAPPED_PPM;
  }

  /** When the first lease is orphaned unless it is renewed. */
  get nextOrphanMs(): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const { untilMs } of this.#leases.values()) nextMs = Math.min(nextMs, untilMs);
    return nextMs;
  }

  /** One sample of an order's channel; what cannot be read counts as hot. */
  sense(channel: number, value: number, quality: Quality): void {
    for (const state of this.#orders) {
      const { order } = state;
      if (order.channel !== channel) continue;
      const isHot = quality !== 'ok' || value > order.raise;
      state.isBelowClear = quality === 'ok' && value < order.clear;
      state.last = { value: quality === 'ok' ? value : null, quality };
      const isOnItsWay = state.raised ? state.isBelowClear : isHot;
      state.count = isOnItsWay ? state.count + 1 : 0;
      if (state.count < order.samples) continue;
      state.raised = !state.raised;
      state.count = 0;
      this.#isStale = true;
    }
  }

  /** The actuator's own work: an orphaned lease ends when every order on its target is below its clear bound. */
  work(nowMs: number): void {
    this.nowMs = nowMs;
    for (const [name, lease] of this.#leases) {
      if (lease.untilMs > nowMs || this.isStillHot(lease.target)) continue;
      this.#leases.delete(name);
      this.#isStale = true;
      this.onLease('ended', name, lease);
    }
    if (!this.#isStale) return;
    this.#isStale = false;
    this.version += 1;
    this.#caps.clear();
    for (const { target, capPpm } of this.#leases.values()) this.#tighten(target, capPpm);
    for (const { raised, order } of this.#orders) {
      if (raised) for (const target of order.targets) this.#tighten(target, order.capPpm);
    }
  }

  protected isStillHot(target: string): boolean {
    return this.#orders.some(({ order, raised, isBelowClear }) => {
      return order.targets.includes(target) && (raised || !isBelowClear);
    });
  }

  #tighten(target: string, capPpm: number): void {
    this.#caps.set(target, Math.min(this.capPpm(target), Math.max(capPpm, this.#floors.get(target) ?? 0)));
  }

  // ---- Requests ----------------------------------------------------------------------------------------------------

  set({ lease, target, capPpm, ttlMs }: LeaseRequest): Promise<LeaseResult> {
    this.calls += 1;
    if (!this.#floors.has(target)) return Promise.reject(new SkosError('SKOS_ACTUATOR_DENIED', 'not_listed'));
    const isNew = !this.#leases.has(lease);
    const held = { target, capPpm, untilMs: this.nowMs + ttlMs };
    this.#leases.set(lease, held);
    this.#isStale = true;
    this.work(this.nowMs);
    if (isNew) this.onLease('set', lease, held);
    return Promise.resolve(this.#result(target, 'applied'));
  }

  release(lease: string): Promise<LeaseResult> {
    this.calls += 1;
    const held = this.#leases.get(lease);
    if (held === undefined) return Promise.resolve({ ok: true, outcome: 'released' });
    this.#leases.delete(lease);
    this.#isStale = true;
    this.work(this.nowMs);
    this.onLease('released', lease, held);
    return Promise.resolve(this.#result(held.target, this.#caps.has(held.target) ? 'applied' : 'released'));
  }

  #result(target: string, outcome: string): LeaseResult {
    const standing = String(this.capPpm(target));
    return { ok: true, outcome, former: String(UNCAPPED_PPM), written: standing, readBack: standing };
  }

  renew(leases: readonly string[], ttlMs: number): Promise<number> {
    this.calls += 1;
    const known = leases.flatMap((lease) => this.#leases.get(lease) ?? []);
    for (const lease of known) lease.untilMs = this.nowMs + ttlMs;
    return Promise.resolve(known.length);
  }

  targets(): Promise<ActuatorTarget[]> {
    this.calls += 1;
    return Promise.resolve(
      [...this.#floors.keys()].map((target) => ({
        target,
        state: this.#caps.has(target) ? 'held' : 'idle',
        former: String(UNCAPPED_PPM),
        current: String(this.capPpm(target)),
      })),
    );
  }

  leases(): Promise<ActuatorLease[]> {
    this.calls += 1;
    return Promise.resolve(
      [...this.#leases].map(([lease, { target, capPpm, untilMs }]) => {
        return { lease, target, capPpm, orphaned: untilMs <= this.nowMs };
      }),
    );
  }

  orders(): Promise<ActuatorOrder[]> {
    this.calls += 1;
    return Promise.resolve(this.#orders.map(({ order, raised, last }) => ({ order: order.name, raised, ...last })));
  }

  powers(): Promise<ActuatorPower[]> {
    return Promise.resolve([]);
  }

  events(): Promise<ActuatorEvent[]> {
    return Promise.resolve([]);
  }

  /** A simulation starts no unit. */
  run(): Promise<void> {
    this.calls += 1;
    return Promise.reject(new SkosError('SKOS_ACTUATOR_DENIED', 'simulated'));
  }

  jobs(): Promise<ActuatorJob[]> {
    this.calls += 1;
    return Promise.resolve(this.#jobs.map((job) => ({ job, state: 'idle', key: '', exit: null, ageMs: 0 })));
  }

  reload(): Promise<void> {
    return Promise.resolve();
  }
}

/** The `order` lines; which channel one is of is told by its name, because a GPU has no file. */
function ordersOf(allowList: string, channels: readonly Channel[]): SimulatedOrder[] {
  const lines = [...allowList.matchAll(/^order (\S+) (.*)$/gm)];
  return lines.flatMap(([, name = '', rest = '']) => {
    const own = name.replace(/@\d+$/, '');
    const rule = own.slice(0, own.indexOf(':'));
    const channel = channels.findIndex((each) => orderNameOf(rule, each) === own);
    if (channel === -1) return [];
    const number = (key: string) => Number(new RegExp(`\\b${key}=(-?[\\d.]+)`).exec(rest)?.[1] ?? Number.NaN);
    const targets = /\btargets=(\S+)/.exec(rest)?.[1]?.split(',') ?? [];
    const [raise, clear, samples, capPpm] = [number('raise'), number('clear'), number('samples'), number('cap_ppm')];
    return [{ name, channel, raise, clear, samples, capPpm, targets }];
  });
}
