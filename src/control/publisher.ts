/**
 * What the node says of itself at its own pace: heartbeats, its presence, sensor values. Alerts and actions are said by those
 * who change them. Sensor values go out on change and only while somebody subscribes, else every 30 s.
 */

import type { Antibody } from '../antibodies/antibody.js';
import { type Every, ownTimer } from '../core/beat.js';
import {
  type Channel,
  type ChannelJson,
  channelJson,
  type DeviceClass,
  isTemperature,
  type Quality,
} from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Log, Store } from '../core/ports.js';
import type { Heartbeat, PeerStatus } from '../core/protocol.js';
import { toBase } from '../core/units.js';
import type { AlertBook } from './alert-book.js';
import type { Outlet } from './outlet.js';
import type { Rulebook } from './rulebook.js';
import type { Sensing } from './sensing.js';

const EVERY_MS = 1_000;
const HEARTBEAT_EVERY_S = 5;
const SENSORS_EVERY_S = 30;
/** Two reports of skos-net may be lost. */
const DEMAND_VALID_MS = 10_000;
/** The chain's head in the journal: who changes the database must then change the journal too. */
const HEAD_EVERY_S = 600;
/** The first one soon, so that a node that is cut off shortly after its start has one in the journal. */
const FIRST_HEAD_S = 30;

export interface PublisherOptions {
  readonly sensing: Sensing;
  readonly rulebook: Rulebook;
  readonly alerts: AlertBook;
  readonly store: Store;
  readonly outlet: Outlet;
  readonly clock: Clock;
  readonly every?: Every;
  readonly log: Log;
}

export class Publisher {
  readonly name = 'publisher';
  readonly #options: PublisherOptions;
  readonly #said = new Map<string, { channel: Channel; value: number | null; quality: Quality }>();
  /** The channels that were compared with what was said; a new sampler brings a new list. */
  #saidOf: readonly Channel[] = [];
  #unbeat: () => void = () => undefined;
  #seconds = 0;
  #demandUntilMs = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  start(): void {
    this.#unbeat = (this.#options.every ?? ownTimer)(EVERY_MS, () => this.#beat());
  }

  stop(): void {
    this.#unbeat();
    this.sayHead();
  }

  /** Whether somebody subscribes to sensor topics, as skos-net says every few seconds; its last word does not outlive it long. */
  set demand(wanted: boolean) {
    this.#demandUntilMs = wanted ? this.#options.clock.monotonicMs() + DEMAND_VALID_MS : 0;
  }

  /** The retained truth, for a new subscriber. */
  retained(send: Outlet['broadcast']): void {
    for (const alert of this.#options.alerts.standing) send('active', alert);
    for (const antibody of this.#options.rulebook.antibodies) send('heartbeat', this.#heartbeat(antibody));
    send('peer', this.peer());
    for (const json of this.sensors()) send('sensor', json);
    // They are retained there now: when one leaves, that must be said. What is not known as said goes out at the next beat.
    for (const channel of this.#options.sensing.channels) {
      if (!this.#said.has(channel.id)) this.#said.set(channel.id, { channel, value: null, quality: 'no_data' });
    }
  }

  sensors(): ChannelJson[] {
    const { sensing } = this.#options;
    sensing.refresh();
    return sensing.channels.map((channel, index) => this.#json(channel, index));
  }

  peer(): PeerStatus {
    const { clock, store } = this.#options;
    return { state: 'online', atMs: clock.wallMs(), seq: this.#seconds, auditHead: store.audit.head() };
  }

  sayHead(): void {
    const { audit } = this.#options.store;
    // A head of a chain that ends with this process would contradict the one on disk for ever.
    if (audit.durable !== true) return;
    const { seq, hash } = audit.head();
    const fields = { event: 'audit.head', auditSeq: seq, auditHead: hash, auditKey: audit.keyId };
    this.#options.log.info(`audit head ${seq} ${hash}`, fields);
  }

  #beat(): void {
    const { outlet, rulebook } = this.#options;
    this.#seconds += 1;
    outlet.broadcast('peer', this.peer());
    if (this.#seconds % HEARTBEAT_EVERY_S === 0) {
      for (const antibody of rulebook.antibodies) outlet.broadcast('heartbeat', this.#heartbeat(antibody));
    }
    if (this.#seconds % HEAD_EVERY_S === 0 || this.#seconds === FIRST_HEAD_S) this.sayHead();
    const all = this.#seconds % SENSORS_EVERY_S === 0;
    if (all || this.#options.clock.monotonicMs() < this.#demandUntilMs) this.#saySensors(all);
    this.#forgetGone();
  }

  #saySensors(all: boolean): void {
    const { sensing, outlet } = this.#options;
    sensing.refresh();
    sensing.channels.forEach((channel, index) => {
      const { value, quality } = sensing.latest(index);
      const said = this.#said.get(channel.id);
      if (!all && said !== undefined && said.value === value && said.quality === quality) return;
      this.#said.set(channel.id, { channel, value, quality });
      outlet.broadcast('sensor', this.#json(channel, index));
    });
  }

  /** A channel that left: its retained topic must not stand as if it were read. */
  #forgetGone(): void {
    const { sensing, outlet, clock } = this.#options;
    if (this.#saidOf === sensing.channels) return;
    this.#saidOf = sensing.channels;
    const present = new Set(sensing.channels.map(({ id }) => id));
    for (const [id, { channel }] of this.#said) {
      if (present.has(id)) continue;
      this.#said.delete(id);
      const gone = { value: null, quality: 'no_data', atMs: clock.monotonicMs() } as const;
      outlet.broadcast('sensor', channelJson(channel, gone, clock.wallMs()));
    }
  }

  #json(channel: Channel, index: number): ChannelJson {
    const { sensing, clock } = this.#options;
    const reading = sensing.latest(index);
    const ageMs = reading.atMs === 0 ? 0 : clock.monotonicMs() - reading.atMs;
    return channelJson(channel, reading, Math.round(clock.wallMs() - ageMs));
  }

  #heartbeat({ name, type, metadata }: Antibody): Heartbeat {
    const { clock, rulebook } = this.#options;
    const own = rulebook.bound.filter(({ antibody }) => antibody.name === name).map(({ rule }) => rule);
    return {
      agentType: type,
      atMs: clock.wallMs(),
      cpuTemp: this.#hottest('cpu'),
      gpuTemp: this.#hottest('gpu'),
      metadata: metadata(own),
    };
  }

  /** °C of the hottest ok channel of the class, or null. */
  #hottest(deviceClass: DeviceClass): number | null {
    const { sensing } = this.#options;
    sensing.refresh();
    let hottest: number | null = null;
    sensing.channels.forEach((channel, index) => {
      if (channel.class !== deviceClass || !isTemperature(channel)) return;
      const { value } = sensing.latest(index);
      if (value !== null && (hottest === null || value > hottest)) hottest = value;
    });
    return hottest === null ? null : toBase('temperatureMilliCelsius', hottest);
  }
}
