/**
 * WireGuard tunnels, from the dump that skos-wireguard-dump makes every ten seconds (wireguard-dump.ts): of each peer the age of its
 * last handshake and what went to and fro, and of each interface the youngest handshake of the peers that count.
 *
 * A tunnel that carries nothing makes no handshake, so that an old one says nothing by itself. Peers count that the configuration names,
 * and those whose persistent keepalive makes a handshake within `stale` seconds; the others are shown and watched by nobody. What
 * counts has `stale` as the limit of its channel. Source: WireGuard, next generation kernel network tunnel, section 6: a handshake after
 * 120 s (Rekey-After-Time), nothing carried after 180 s (Reject-After-Time).
 *
 * The kernel stamps handshakes with wall time. The age is computed once, when a stamp is first seen, and counted on by the time since boot,
 * so that a clock that is set later changes nothing. A stamp of the future is a fault, and no stamp at all is no_data, until the time that
 * has passed since proves by itself that the tunnel is down: an interface that was just restarted has forgotten its handshakes,
 * which is no recovery. A dump that nobody renews makes everything stale.
 */
import type { Config, InterfaceConfig } from '../config/schema.js';
import type { Every } from '../core/beat.js';
import type { Channel } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import type { Discovery, Tree } from '../core/ports.js';
import type { Quantity } from '../core/units.js';
import { makeChannel } from './make-channel.js';
import { PolledFeed, type Told } from './polled-feed.js';
import { parseDump, readDump, readDumpText, type WireguardDump, type WireguardPeer } from './wireguard-dump.js';

export const WIREGUARD_SOURCE = 'wireguard';
export const WIREGUARD_FEED = 'wireguard';
const HANDSHAKE_AGE = 'handshake_age';
/** Twice in the life of a dump. */
const POLL_MS = 5_000;
/** Reading a file of some kilobytes of a tmpfs. */
const STALE_AFTER_MS = 15_000;
/** Three dumps were not made. */
const DUMP_STALE_MS = 35_000;
/** Stamps are whole seconds, and a handshake may be made while the dump is. */
const SKEW_MS = 2_000;
/** WireGuard's Rekey-After-Time: with a keepalive a handshake is at most so much older than it. */
const REKEY_AFTER_SECONDS = 120;
/** Shown, of each interface: more are a server of remote users, not the tunnels of a node. */
const MAX_PEERS = 64;

const PEER_CHANNELS: readonly { readonly suffix: string; readonly label: string; readonly quantity: Quantity }[] = [
  { suffix: HANDSHAKE_AGE, label: 'handshake age', quantity: 'durationMs' },
  { suffix: 'received', label: 'received', quantity: 'sizeBytes' },
  { suffix: 'sent', label: 'sent', quantity: 'sizeBytes' },
];

/** Since when there was no handshake, by the time since boot. */
interface Silence {
  /** The stamp that this was made of; null: none was there. */
  readonly stampMs: number | null;
  readonly sinceMs: number;
  /** What is said while `sinceMs` is only the latest it can be, and proves nothing yet. */
  readonly unproven: 'no_data' | 'fault' | null;
}

interface PeerChannel {
  readonly device: string;
  /** '' for that of the whole interface. */
  readonly key: string;
  readonly suffix: string;
  /** Of an interface: keys of the peers that count. */
  readonly counted: readonly string[];
  readonly isExpected: boolean;
}

export interface WireguardOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly proc: Tree;
  readonly clock: Clock;
  readonly every?: Every;
}

/** Outlives the feeds that it makes: what was seen of a peer must not be forgotten with a new discovery. */
export class WireguardWatch {
  readonly #options: WireguardOptions;
  readonly #silences = new Map<string, Silence>();

  constructor(options: WireguardOptions) {
    this.#options = options;
  }

  /** Of the interfaces that the configuration names; none without them, and nothing is read then. */
  async discover({ wireguard }: Config): Promise<Pick<Discovery, 'channels' | 'skipped'>> {
    const interfaces = Object.entries(wireguard.interfaces);
    if (interfaces.length === 0) return { channels: [], skipped: [] };
    const dump = await readDump(this.#options.env);
    const skipped: Discovery['skipped'][number][] = [];
    const skip = (what: string, why: string) => skipped.push({ source: WIREGUARD_SOURCE, what, why });
    if (dump === undefined) skip('dump', 'there is none: systemctl enable --now skos-wireguard-dump.timer');
    const channels = interfaces.flatMap(([name, config]) =>
      interfaceChannels({ name, config, dump, staleMs: wireguard.stale * 1000, skip }),
    );
    return { channels, skipped };
  }

  /** `channels` as discover() made them. */
  feed(channels: readonly Channel[], staleMs: number): PolledFeed {
    const parts = channels.map((channel) => partsOf(channel, channels));
    // Peers come and go; of those that are listed no more nothing is remembered.
    const listed = new Set(parts.map(idOf));
    for (const id of this.#silences.keys()) if (!listed.has(id)) this.#silences.delete(id);
    return new PolledFeed({
      ...this.#options,
      channels,
      everyMs: POLL_MS,
      staleAfterMs: STALE_AFTER_MS,
      ask: async () => {
        const [text, uptime] = await Promise.all([
          // What cannot be read is there, and no dump.
          readDumpText(this.#options.env).catch(() => ''),
          this.#options.proc.text('uptime'),
        ]);
        return this.told(parts, { text, uptimeMs: Number.parseFloat(uptime ?? '') * 1000, staleMs });
      },
    });
  }

  told(
    parts: readonly PeerChannel[],
    { text, uptimeMs, staleMs }: { text: string | undefined; uptimeMs: number; staleMs: number },
  ): Told[] {
    const all = (told: Told) => parts.map(() => told);
    if (text === undefined) return all('no_data');
    const dump = parseDump(text);
    if (dump === undefined) return all('fault');
    const ageMs = uptimeMs - dump.uptimeMs;
    // A dump of the future is of another boot, or of another machine.
    if (!(ageMs >= -SKEW_MS && ageMs <= DUMP_STALE_MS)) return all('stale');
    const peers = new Map(dump.peers.map((peer) => [idOf(peer), peer]));
    const seen = { dump, peers, staleMs };
    return parts.map((part) => (part.key === '' ? this.#youngest(part, seen) : this.#ofPeer(part, seen)));
  }

  #ofPeer({ device, key, suffix, isExpected }: PeerChannel, { dump, peers, staleMs }: Seen): Told {
    const peer = peers.get(idOf({ device, key }));
    if (suffix === 'received') return peer?.receivedBytes ?? 'no_data';
    if (suffix === 'sent') return peer?.sentBytes ?? 'no_data';
    // Taken out of a tunnel that is up, by somebody who may: nothing is missing.
    if (peer === undefined && !isExpected && dump.devices.includes(device)) {
      this.#silences.delete(idOf({ device, key }));
      return 'no_data';
    }
    return this.#age({ device, key }, { dump, peers, staleMs });
  }

  #age(who: Pick<WireguardPeer, 'device' | 'key'>, { dump, peers, staleMs }: Seen): Told {
    const id = idOf(who);
    const stampMs = peers.get(id)?.handshakeAtMs ?? null;
    const silence = silenceNow(this.#silences.get(id), stampMs, dump);
    this.#silences.set(id, silence);
    const ageMs = Math.max(0, Math.round(dump.uptimeMs - silence.sinceMs));
    return silence.unproven === null || ageMs > staleMs ? ageMs : silence.unproven;
  }

  /** One fresh handshake proves that the interface works; that none is fresh is known only when all are known. */
  #youngest({ device, counted }: PeerChannel, seen: Seen): Told {
    const told = counted.map((key) => this.#age({ device, key }, seen));
    const youngestMs = Math.min(...told.filter((each) => typeof each === 'number'));
    const unknown = told.find((each) => typeof each !== 'number');
    return youngestMs > seen.staleMs ? (unknown ?? youngestMs) : youngestMs;
  }
}

interface Seen {
  readonly dump: WireguardDump;
  readonly peers: ReadonlyMap<string, WireguardPeer>;
  readonly staleMs: number;
}

function idOf({ device, key }: Pick<WireguardPeer, 'device' | 'key'>): string {
  return `${device} ${key}`;
}

/** An interface that was made anew knows of no handshake; what was known of the one before still holds. */
function silenceNow(former: Silence | undefined, stampMs: number | null, { wallMs, uptimeMs }: WireguardDump): Silence {
  if (former !== undefined && (stampMs === null || stampMs === former.stampMs)) return former;
  if (stampMs === null) return { stampMs, sinceMs: uptimeMs, unproven: 'no_data' };
  const ageMs = wallMs - stampMs;
  return ageMs < -SKEW_MS
    ? { stampMs, sinceMs: uptimeMs, unproven: 'fault' }
    : { stampMs, sinceMs: uptimeMs - Math.max(0, ageMs), unproven: null };
}

// ---- Channels ------------------------------------------------------------------------------------------------------

function interfaceChannels(given: {
  name: string;
  config: InterfaceConfig;
  dump: WireguardDump | undefined;
  staleMs: number;
  skip: (what: string, why: string) => void;
}): Channel[] {
  const { name, config, dump, staleMs, skip } = given;
  if (dump !== undefined && !dump.devices.includes(name)) skip(name, 'there is no such WireGuard interface now');
  const named = Object.entries(config.peers).map(([peer, { key }]) => ({ peer, key, isCounted: true }));
  const others = (dump?.peers ?? [])
    .filter(({ device, key }) => device === name && !named.some((each) => each.key === key))
    .map(({ key, keepaliveSeconds }) => ({
      peer: unnamed(key),
      key,
      isCounted: isKeptFresh(keepaliveSeconds, staleMs),
    }));
  if (others.length > MAX_PEERS) skip(name, `${others.length - MAX_PEERS} peers are not shown: more than ${MAX_PEERS}`);
  const peers = [...named, ...others.slice(0, MAX_PEERS)];
  const counted = peers.filter(({ isCounted }) => isCounted);
  if (counted.length === 0) {
    skip(name, 'nobody can tell whether it is down: name its peers, or give one a persistent keepalive');
  }
  const common = { source: WIREGUARD_SOURCE, device: name, class: 'network', domain: WIREGUARD_SOURCE } as const;
  const probe = { kind: 'pushed', feed: WIREGUARD_FEED } as const;
  const limits = { max: staleMs };
  const ofPeers = peers.flatMap(({ peer, key, isCounted }) =>
    PEER_CHANNELS.map(({ suffix, label, quantity }) =>
      makeChannel({
        ...common,
        name: `${peer}_${suffix}`,
        label: `${name} ${peer} ${label}`,
        quantity,
        ...(isCounted && suffix === HANDSHAKE_AGE ? { limits } : {}),
        probe,
        rateHz: 1000 / POLL_MS,
        path: `${name} ${key}`,
      }),
    ),
  );
  if (counted.length === 0) return ofPeers;
  const label = `${name} youngest handshake age`;
  const rateHz = 1000 / POLL_MS;
  const own = {
    ...common,
    name: HANDSHAKE_AGE,
    label,
    quantity: 'durationMs',
    limits,
    probe,
    rateHz,
    path: name,
  } as const;
  return [makeChannel(own), ...ofPeers];
}

/** A public key as a part of an id, in which upper and lower case are one. */
function unnamed(key: string): string {
  return `peer_${Buffer.from(key, 'base64').toString('hex').slice(0, 16)}`;
}

/** Also where a handshake comes as late as its keepalive lets it. */
function isKeptFresh(keepaliveSeconds: number | null, staleMs: number): boolean {
  return keepaliveSeconds !== null && (REKEY_AFTER_SECONDS + keepaliveSeconds) * 1000 < staleMs;
}

/** What a channel's path and name say; src/sensors/wireguard.ts makes them above. */
function partsOf({ device, name, path }: Channel, channels: readonly Channel[]): PeerChannel {
  const [, key = ''] = path.split(' ');
  const counted = channels.filter((each) => each.device === device && isCounted(each) && each.path !== device);
  const suffix = PEER_CHANNELS.find((each) => name.endsWith(each.suffix))?.suffix ?? '';
  // The key of a peer that the configuration does not name is its name.
  const isExpected = key !== '' && name !== `${unnamed(key)}_${suffix}`;
  return { device, key, suffix, isExpected, counted: counted.map((each) => each.path.split(' ')[1] ?? '') };
}

/** A handshake age that must stay fresh. */
export function isCounted({ source, quantity, limits }: Channel): boolean {
  return source === WIREGUARD_SOURCE && quantity === 'durationMs' && limits.max !== undefined;
}

/** The peer of a channel, by the name that the configuration gives it; undefined: an interface's own, or not of a tunnel. */
export function tunnelPeerOf({ source, name }: Pick<Channel, 'source' | 'name'>): string | undefined {
  const suffix = `_${HANDSHAKE_AGE}`;
  return source === WIREGUARD_SOURCE && name.endsWith(suffix) ? name.slice(0, -suffix.length) : undefined;
}
