/**
 * The parts of skos-net, put together: the agent's socket on one side, the MQTT bus and the links to peers on the other.
 *
 * It knows nothing by itself: config and truth come from the agent, and both are asked for anew whenever the agent is
 * (back) there. Without the agent the broker stays up and says so: the node's own peer topic is offline.
 */
import { AgentClient } from '../core/agent-client.js';
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { Log } from '../core/ports.js';
import { MQTT_QUEUE, type NetConfig, type NetReport, type PeerView, QUEUED_EVENTS } from '../core/protocol.js';
import type { LogLevel } from '../core/vocabulary.js';
import { isPlainLoopback } from '../mesh/address.js';
import { BackOff } from '../mesh/back-off.js';
import { EmbeddedBroker } from '../mesh/broker.js';
import type { Bus } from '../mesh/bus.js';
import { ChainDesk } from '../mesh/chain-desk.js';
import { Courier } from '../mesh/courier.js';
import { GuestDesk } from '../mesh/guest-desk.js';
import { PeerLinks } from '../mesh/peer-links.js';
import { Publisher } from '../mesh/publisher.js';
import { RemoteBus } from '../mesh/remote-bus.js';

/** The agent's word, each second, is what time passes by: a timer of its own would be one more wake-up. This is for a silent agent. */
const SILENT_TICK_MS = 1_500;
/** What changes is reported at once; the rest is a sign of life, and each costs both programs a wake-up. */
const TICKS_PER_REPORT = 4;
/** Changes that come together are reported together; a client that subscribes to and fro cannot flood the agent. */
const REPORT_SPACING_MS = 100;
/** The agent's socket is there again within a second of its restart. */
const AGENT_RETRY_FIRST_MS = 100;
const AGENT_RETRY_LIMIT_MS = 2_000;

export interface NetServiceOptions {
  readonly socketPath: string;
  readonly clock: Clock;
  readonly random: () => number;
  /** Before the agent has said who we are. */
  readonly log: Log;
  /** The log of this node, at the level that the agent says. */
  readonly logFor: (node: string, level: LogLevel) => Log;
}

/** What is built from one config, and replaced with it. */
interface Running {
  readonly config: NetConfig;
  readonly bus: Bus;
  /** The bus, where it is our own: guests are at it, and nowhere else. */
  readonly broker: EmbeddedBroker | undefined;
  /** The bus, where it is a site's broker: what must not be missed is carried there from the agent's outbox. */
  readonly remote: RemoteBus | undefined;
  readonly links: PeerLinks;
  readonly publisher: Publisher;
}

export class NetService {
  readonly #options: NetServiceOptions;
  #log: Log;
  /** Both outlive a change of the configuration: what is held stays held. */
  readonly #chains: ChainDesk;
  readonly #guests: GuestDesk;
  #running: Running | undefined;
  #client: AgentClient | undefined;
  #courier: Courier | undefined;
  #timer: NodeJS.Timeout | undefined;
  #soon: NodeJS.Timeout | undefined;
  #stopping = false;
  /** Ends the wait before the next attempt. */
  #wake: () => void = () => undefined;
  /** Ends the session from this side; null: begin the next one at once. */
  #endSession: (why: string | null) => void = () => undefined;
  #loop: Promise<void> | undefined;
  #ticks = 0;
  #reportOutstanding = false;
  #reportAgain = false;
  #said = '';

  constructor(options: NetServiceOptions) {
    this.#options = options;
    this.#log = options.log;
    const { clock } = options;
    // It changes with the name of the node.
    const log = () => this.#log;
    this.#chains = new ChainDesk({
      report: async (credential, reports) => {
        await this.#agent().request('net.chains', { ...credential, reports });
      },
      clock,
      log,
    });
    this.#guests = new GuestDesk({ chains: this.#chains, clock, log });
  }

  /** Returns at once: the agent may come later. */
  start(): void {
    if (this.#loop !== undefined) return;
    this.#timer = setInterval(() => this.#tick(), SILENT_TICK_MS);
    this.#loop = this.#serve();
  }

  /** Says that this node is offline, to everybody who can still hear it, and closes. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#timer);
    clearTimeout(this.#soon);
    this.#endSession('stopping');
    this.#client?.close();
    this.#wake();
    await this.#loop;
    this.#chains.stop();
    await this.#tearDown('skos-net was stopped');
  }

  // ---- The agent ---------------------------------------------------------------------------------------------------

  async #serve(): Promise<void> {
    const { random } = this.#options;
    const backOff = new BackOff({ firstMs: AGENT_RETRY_FIRST_MS, limitMs: AGENT_RETRY_LIMIT_MS, random });
    while (!this.#stopping) {
      const why = await this.#session(() => backOff.reset());
      if (this.#stopping) break;
      if (why === null) continue;
      this.#running?.publisher.offline(`the agent is gone: ${why}`);
      if (this.#said !== why) this.#log.warn(`no agent: ${why}; trying again`, { event: 'net.no_agent' });
      this.#said = why;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, backOff.delayMs());
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** One connection to the agent, from its begin to its end. Returns why it ended; null: to be begun anew at once. */
  async #session(onReady: () => void): Promise<string | null> {
    const client = new AgentClient();
    const over = new Promise<string | null>((resolve) => {
      client.onClose((why) => resolve(why.message));
      this.#endSession = resolve;
    });
    this.#client = client;
    try {
      await client.connect(this.#options.socketPath);
      const config = await client.request('net.config', {});
      const running = await this.#apply(config);
      const { publisher } = running;
      if (this.#stopping) return 'stopping';
      this.#listen(client, publisher);
      this.#carry(client, running);
      this.#guests.use(client);
      publisher.startReplay();
      await client.request('subscribe', {});
      publisher.endReplay();
      this.#log.info('connected to the agent', { event: 'net.agent' });
      void this.#recheck(client, running);
      this.#said = '';
      onReady();
      this.#report();
      return await over;
    } catch (error) {
      return reason(error);
    } finally {
      this.#courier?.stop();
      this.#courier = undefined;
      this.#guests.use(undefined);
      client.close();
    }
  }

  #listen(client: AgentClient, publisher: Publisher): void {
    const { on } = publisher;
    client.on('heartbeat', on.heartbeat);
    client.on('active', on.active);
    client.on('sensor', on.sensor);
    client.on('peer', (status) => {
      on.peer(status);
      this.#timer?.refresh();
      this.#tick();
    });
    client.on('chains', (truth) => this.#chains.take(truth));
    client.on('answer', on.answer);
    client.on('antibody.command', on['antibody.command']);
    client.on('token.revoked', ({ name }) => this.#revoked(name));
    client.on('net.config', () => {
      this.#reload(client).catch((error) => this.#log.error(`config not taken over: ${reason(error)}`, { error }));
    });
  }

  #agent(): AgentClient {
    const client = this.#client;
    if (client?.connected) return client;
    throw new SkosError('SKOS_SOCKET_UNAVAILABLE', 'the agent is not there');
  }

  #revoked(user: string): void {
    const { broker } = this.#running ?? {};
    this.#guests.forget(user);
    broker?.dropGuests(user);
    // Who was let in by an answer that came just before this.
    setImmediate(() => broker?.dropGuests(user));
  }

  /** Tokens may have been revoked while there was no agent to tell it. */
  async #recheck(client: AgentClient, { broker }: Running): Promise<void> {
    const passes = new Map(broker?.passes.map(({ user, token }) => [`${user} ${token}`, { user, token }]));
    for (const credential of passes.values()) {
      try {
        await client.request('net.authenticate', credential);
      } catch (error) {
        if (error instanceof SkosError && error.code === 'SKOS_TOKEN_DENIED') this.#revoked(credential.user);
      }
    }
  }

  /** What must not be missed: as it is heard, or from the outbox where a site's broker may be away. Never both. */
  #carry(client: AgentClient, { publisher, remote }: Running): void {
    if (remote === undefined) {
      const { on } = publisher;
      client.on('alert', on.alert);
      client.on('command', on.command);
      client.on('result', on.result);
      client.on('audit', on.audit);
      return;
    }
    const courier = new Courier({
      read: (limit) => client.request('outbox.read', { queue: MQTT_QUEUE, limit }),
      take: (position) => client.request('outbox.take', { queue: MQTT_QUEUE, ...position }),
      messageOf: (item) => publisher.queued(item),
      bus: remote,
      log: this.#log,
    });
    for (const event of QUEUED_EVENTS) client.on(event, () => courier.poke());
    this.#courier = courier;
    courier.start();
  }

  /** A config that differs needs other parts, and they the whole truth: connecting anew gives both. */
  async #reload(client: AgentClient): Promise<void> {
    const config = await client.request('net.config', {});
    if (this.#running !== undefined && same(config, this.#running.config)) {
      this.#log = this.#options.logFor(config.node, config.logLevel);
      return;
    }
    this.#log.info('the config has changed', { event: 'net.config' });
    this.#endSession(null);
  }

  // ---- The parts ---------------------------------------------------------------------------------------------------

  async #apply(config: NetConfig): Promise<Running> {
    this.#log = this.#options.logFor(config.node, config.logLevel);
    if (this.#running !== undefined) {
      if (same(config, this.#running.config)) return this.#running;
      await this.#tearDown('the config has changed');
    }
    const running = this.#build(config);
    this.#running = running;
    await running.bus.start();
    running.links.start();
    return running;
  }

  async #tearDown(why: string): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    if (running === undefined) return;
    running.publisher.offline(why);
    await running.links.stop();
    await running.bus.stop();
  }

  #build(config: NetConfig): Running {
    const { clock, random } = this.#options;
    const log = this.#log;
    const origin = { node: config.node, bootId: config.bootId };
    const { prefix, mesh } = config;
    const heartbeatTimeoutMs = config.heartbeatTimeoutSeconds * 1000;
    const onChange = () => {
      this.#courier?.poke();
      this.#reportSoon();
    };
    const own = () =>
      new EmbeddedBroker({
        node: config.node,
        prefix,
        listen: config.mqttListen,
        meshListen: mesh.listen,
        tls: mesh.tls,
        peers: new Map(Object.entries(mesh.peers).map(([n, { url }]) => [n, { plainLoopback: isPlainLoopback(url) }])),
        onSensorDemand: (node) => {
          links.sensorDemandChanged(node);
          if (node === config.node) onChange();
        },
        onLastWill: (peer) => links.lastWill(peer),
        guests: this.#guests,
        clock,
        log,
      });
    const { mqttUrl: url } = config;
    const bus: EmbeddedBroker | RemoteBus =
      url === null ? own() : new RemoteBus({ url, origin, prefix, tls: mesh.tls, onChange, clock, random, log });
    const remote = bus instanceof RemoteBus ? bus : undefined;
    const broker = bus instanceof EmbeddedBroker ? bus : undefined;
    this.#guests.at({ node: origin.node, prefix });
    this.#chains.use({ origin, prefix, publish: (sent) => bus.publish(sent) });
    // On a site's broker the peers' own messages are there already: to mirror them would double them.
    const linked = config.mqttUrl === null ? mesh : { ...mesh, peers: {} };
    const links: PeerLinks = new PeerLinks({
      origin,
      prefix,
      mesh: linked,
      heartbeatTimeoutMs,
      bus,
      onChange,
      clock,
      random,
      log,
    });
    const publisher = new Publisher({ origin, prefix, bus, peers: () => links.views, heartbeatTimeoutMs, clock, log });
    return { config, bus, broker, remote, links, publisher };
  }

  // ---- Reports -----------------------------------------------------------------------------------------------------

  #tick(): void {
    this.#running?.links.tick();
    this.#running?.publisher.tick();
    this.#chains.tick();
    this.#ticks += 1;
    if (this.#ticks % TICKS_PER_REPORT === 0) this.#report();
  }

  #reportSoon(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#report();
    }, REPORT_SPACING_MS);
  }

  #report(): void {
    const running = this.#running;
    const client = this.#client;
    if (running === undefined || client === undefined || !client.connected) return;
    this.#reportAgain = this.#reportOutstanding;
    if (this.#reportOutstanding) return;
    this.#reportOutstanding = true;
    client
      .request('net.report', { ...reportOf(running), chains: this.#chains.watched })
      .catch((error) => this.#log.debug(`report not taken: ${reason(error)}`))
      .finally(() => {
        this.#reportOutstanding = false;
        if (this.#reportAgain) this.#reportSoon();
      });
  }
}

function reportOf({ config, bus, links }: Running): NetReport {
  return {
    mqttListen: bus.address,
    listening: bus.listening,
    clients: bus.clients,
    sensorDemand: bus.sensorDemand(config.node),
    peers: links.views satisfies readonly PeerView[],
    rssBytes: process.memoryUsage.rss(),
  };
}

/** The log level changes without anything being built anew. */
function same(a: NetConfig, b: NetConfig): boolean {
  return JSON.stringify({ ...a, logLevel: null }) === JSON.stringify({ ...b, logLevel: null });
}
