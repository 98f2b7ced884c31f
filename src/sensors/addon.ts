/**
 * The only loader of the native addon, and its typed face: the sampler, journal and sd_notify datagrams, peer
 * credentials, and seqpacket sockets. Errors of the native side carry a code of core/errors.ts and become SkosError.
 *
 * Readings are stamped with CLOCK_MONOTONIC in milliseconds, the clock of process.hrtime() and core/clock.ts.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Channel, QUALITIES, type Quality, type Reading } from '../core/channel.js';
import { ERRORS, type ErrorCode, reason, SkosError } from '../core/errors.js';
import type { HardwareEvent, Region, Sampler, Tripwire } from '../core/ports.js';

/** A tripwire was raised or cleared. The reading that did it is in latest() and drain() already. */
export interface Crossing {
  /** Index into the tripwires given to createSampler. */
  readonly tripwire: number;
  readonly channel: number;
  /** false: cleared. */
  readonly raised: boolean;
  readonly reading: Reading;
}

export interface SamplerSettings {
  /** A read that takes longer quarantines its hazard domain, 1–600000. */
  readonly readDeadlineMs: number;
  /**
   * Called in the main thread with all crossings since the last call, in order; `lost` of them did not fit into the
   * queue. Does not keep the process alive. What it throws is an uncaughtException.
   */
  readonly onCrossing: (crossings: readonly Crossing[], lost: number) => void;
  /** Records kept between two drains. Default: ten seconds of all channels. */
  readonly ringRecords?: number;
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups; empty where the kernel does not tell. */
  readonly groups: readonly number[];
}

/** A client of an AF_UNIX SOCK_SEQPACKET socket. Results are 0 or an errno. */
export interface SeqPacket {
  /** A path, or "@name" in the abstract name space. Connects once; EISCONN while it is connected. */
  connect(path: string): number;
  /** One packet of 1 to 8192 bytes; EAGAIN when the peer does not read. Never blocks. */
  send(packet: string): number;
  /** Idempotent; onMessage is not called again. */
  close(): void;
  /** Whether an open connection keeps the process alive: it does from the beginning. */
  ref(): void;
  unref(): void;
}

/**
 * `null`, once: the peer is gone. `fd` is −1 or a descriptor that came with the packet: whoever is called closes it. Who takes
 * no second parameter talks to peers that send none.
 */
export type OnMessage = (packet: string | null, fd: number) => void;
export type JournalFields = Readonly<Record<string, string | number | Uint8Array>>;

/** News of a device, as the kernel tells it: "add", "block". */
export interface Uevent {
  readonly action: string;
  readonly subsystem: string;
  /** A disk or network interface with nothing behind it; an md array is none. */
  readonly isVirtual: boolean;
}

/** Each combination once; `lost`: there were more than could be kept. At most once in 300 ms. */
export type OnUevents = (events: readonly Uevent[], lost: boolean) => void;

/** Does not keep the process alive. */
export interface UeventSocket {
  /** 0 or an errno. */
  open(): number;
  /** Idempotent; onUevents is not called again. */
  close(): void;
}

/** An event of the kernel's log: HardwareEvent without its origin. */
export type KernelEvent = Omit<HardwareEvent, 'origin'>;

export interface KernelEvents {
  readonly events: readonly KernelEvent[];
  /** Of the last record that was looked at; null before the first. */
  readonly sequence: number | null;
  /** Records that the kernel overwrote before they were read, since the last take(). */
  readonly overwritten: number;
  /** Events that did not fit into the queue, since the last take(). */
  readonly dropped: number;
  /** Nothing is read any more: an errno. */
  readonly error: number;
}

/** Follows /dev/kmsg or a double of it. Does not keep the process alive. */
export interface KmsgReader {
  /**
   * 0 or an errno; never blocks. `after`: go on behind that record, null: with what comes from now on, unless `fromStart`
   * asks for all that the kernel still has. A descriptor is duplicated.
   */
  open(
    what: ({ readonly path: string } | { readonly fd: number }) & {
      readonly after: number | null;
      readonly fromStart: boolean;
    },
  ): number;
  take(): KernelEvents;
  /** Idempotent; onReady is not called again. */
  close(): void;
}

/** Extended attributes and times of an open file. Names are bytes, one character for each; numbers are errnos, 0 for done. */
export interface FileAttributes {
  /** Without those that this process may not see; empty where the file system has none. */
  attributeNames(fd: number): readonly string[] | number;
  getAttribute(fd: number, name: string): Buffer | number;
  setAttribute(fd: number, name: string, value: Buffer): number;
  removeAttribute(fd: number, name: string): number;
  /** Since 1970. */
  setTimes(fd: number, atimeNs: bigint, mtimeNs: bigint): number;
}

export interface Addon extends FileAttributes {
  createSampler(channels: readonly Channel[], tripwires: readonly Tripwire[], settings: SamplerSettings): Sampler;
  /** Takes the descriptor over in any case. Throws SKOS_GPU_PROTOCOL when it is no region. */
  openRegion(fd: number): Region;
  /** One journal entry by the native protocol; 0 or an errno. Names are A–Z, 0–9 and '_'. Never blocks. */
  journalSend(socketPath: string, fields: JournalFields): number;
  /** sd_notify(3): 0 or an errno, ENOENT when there is no $NOTIFY_SOCKET. */
  notify(state: string): number;
  /** Of a connected Unix stream or seqpacket socket. Throws an Error whose code is the errno's name. */
  peerCredentials(fileDescriptor: number): PeerCredentials;
  /** A descriptor that holds an exclusive flock while it is open, or −errno (−EWOULDBLOCK: held by another). */
  lockFile(path: string): number;
  createSeqPacket(onMessage: OnMessage): SeqPacket;
  /** `onReady`: there is something to take, at most every 50 ms. */
  createKmsgReader(onReady: () => void): KmsgReader;
  createUeventSocket(onUevents: OnUevents): UeventSocket;
}

interface NativeCrossing {
  readonly tripwire: number;
  readonly channel: number;
  readonly raised: boolean;
  readonly value: number;
  readonly quality: number;
  readonly atMs: number;
}

/** native/binding/reading_arrays.h. */
interface NativeReadings {
  readonly values: Float64Array;
  readonly timesMs: Float64Array;
  readonly qualities: Uint8Array;
  readonly drainedChannels: Uint32Array;
  readonly drainedValues: Float64Array;
  readonly drainedTimesMs: Float64Array;
  readonly drainedQualities: Uint8Array;
  readonly overruns: number;
  refresh(): void;
  drain(): number;
}

interface NativeSampler extends NativeReadings {
  start(): void;
  stop(): void;
}

interface NativeRegion extends NativeReadings {
  readonly description: string;
  readonly channelCount: number;
  close(): void;
}

interface NativeSettings {
  readonly ringRecords: number;
  readonly readDeadlineMs: number;
  readonly onCrossing: (crossings: readonly NativeCrossing[], lost: number) => void;
}

interface NativeAddon extends FileAttributes {
  readonly NativeSampler: new (
    channels: readonly Channel[],
    tripwires: readonly Tripwire[],
    settings: NativeSettings,
  ) => NativeSampler;
  readonly NativeRegion: new (fd: number) => NativeRegion;
  readonly SeqPacket: new (onMessage: OnMessage) => SeqPacket;
  readonly KmsgReader: new (onReady: () => void) => KmsgReader;
  readonly UeventSocket: new (onUevents: OnUevents) => UeventSocket;
  journalSend(socketPath: string, fields: JournalFields): number;
  notify(state: string): number;
  peerCredentials(fileDescriptor: number): PeerCredentials;
  lockFile(path: string): number;
}

const RING_SECONDS = 10; // Far longer than a tick; who drains later than that has stopped.
const MIN_RING_RECORDS = 1024; // 32 KiB.
const MAX_RING_RECORDS = 65_536; // 2 MiB: what 64 channels at 1 kHz produce in a second.
const INSTALLED_PATH = '/usr/lib/skos/skos.node';

/** Loads the addon of this process. $SKOS_ADDON, when set, is the only place that is tried. */
export function loadAddon(): Addon {
  const path = addonPath();
  let native: NativeAddon;
  try {
    native = createRequire(import.meta.url)(path) as NativeAddon;
  } catch (thrown) {
    throw coded(thrown, 'SKOS_ADDON_LOAD', path);
  }
  return {
    createSampler: (channels, tripwires, settings) => new AddonSampler(native, { channels, tripwires, settings }),
    openRegion: (fd) => new AddonRegion(native, fd),
    journalSend: native.journalSend,
    notify: native.notify,
    peerCredentials: native.peerCredentials,
    lockFile: native.lockFile,
    attributeNames: native.attributeNames,
    getAttribute: native.getAttribute,
    setAttribute: native.setAttribute,
    removeAttribute: native.removeAttribute,
    setTimes: native.setTimes,
    createSeqPacket: (onMessage) => new native.SeqPacket(onMessage),
    createKmsgReader: (onReady) => new native.KmsgReader(onReady),
    createUeventSocket: (onUevents) => new native.UeventSocket(onUevents),
  };
}

function addonPath(): string {
  const given = process.env.SKOS_ADDON;
  if (given !== undefined && given !== '') return given;
  const found = candidates().find((path) => existsSync(path));
  if (found === undefined) throw new SkosError('SKOS_ADDON_LOAD', `no addon at ${candidates().join(', ')}`);
  return found;
}

/** In a checkout this file is compiled or bundled somewhere below the directory that has build/native. */
function candidates(): string[] {
  const paths: string[] = [];
  let directory = dirname(fileURLToPath(import.meta.url));
  while (directory !== dirname(directory)) {
    paths.push(join(directory, 'build', 'native', 'skos.node'));
    directory = dirname(directory);
  }
  return [...paths, INSTALLED_PATH];
}

/** The code that the native side gave, if it is one of ours, else `fallback`. */
function coded(thrown: unknown, fallback: ErrorCode, where?: string): SkosError {
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
  const known = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : fallback;
  const message = where === undefined ? reason(thrown) : `${where}: ${reason(thrown)}`;
  return new SkosError(known, message, { cause: thrown });
}

function toReading(value: number, qualityByte: number, atMs: number): Reading {
  const quality = toQuality(qualityByte);
  return { value: quality === 'ok' ? value : null, quality, atMs };
}

function toQuality(byte: number): Quality {
  // The native side and QUALITIES have the same order; a byte beyond it can only be a mistake of ours.
  return QUALITIES[byte] ?? 'fault';
}

class AddonSampler implements Sampler {
  readonly channels: readonly Channel[];
  readonly #native: NativeSampler;

  constructor(
    { NativeSampler }: NativeAddon,
    given: { channels: readonly Channel[]; tripwires: readonly Tripwire[]; settings: SamplerSettings },
  ) {
    const { readDeadlineMs, onCrossing, ringRecords } = given.settings;
    this.channels = given.channels;
    try {
      this.#native = new NativeSampler(given.channels, given.tripwires, {
        readDeadlineMs,
        ringRecords: ringRecords ?? defaultRingRecords(given.channels),
        onCrossing: (crossings, lost) => onCrossing(crossings.map(toCrossing), lost),
      });
    } catch (thrown) {
      throw coded(thrown, 'SKOS_SAMPLER_SPEC');
    }
  }

  start(): void {
    try {
      this.#native.start();
    } catch (thrown) {
      throw coded(thrown, 'SKOS_SAMPLER_START');
    }
  }

  stop(): void {
    this.#native.stop();
  }

  latest(i: number): Reading {
    return readingAt(this.#native, i);
  }

  refresh(): void {
    this.#native.refresh();
  }

  drain(each: OnRecord): void {
    drainTo(this.#native, each);
  }

  get overruns(): number {
    return this.#native.overruns;
  }
}

class AddonRegion implements Region {
  readonly description: string;
  readonly channelCount: number;
  readonly #native: NativeRegion;

  constructor({ NativeRegion }: NativeAddon, fd: number) {
    try {
      this.#native = new NativeRegion(fd);
    } catch (thrown) {
      throw coded(thrown, 'SKOS_GPU_PROTOCOL');
    }
    this.description = this.#native.description;
    this.channelCount = this.#native.channelCount;
  }

  latest(i: number): Reading {
    return readingAt(this.#native, i);
  }

  refresh(): void {
    this.#native.refresh();
  }

  drain(each: OnRecord): void {
    drainTo(this.#native, each);
  }

  get overruns(): number {
    return this.#native.overruns;
  }

  close(): void {
    this.#native.close();
  }
}

type OnRecord = (channel: number, value: number, quality: Quality, atMs: number) => void;

function readingAt({ values, qualities, timesMs }: NativeReadings, i: number): Reading {
  const value = values[i];
  const quality = qualities[i];
  const atMs = timesMs[i];
  if (value === undefined || quality === undefined || atMs === undefined) {
    throw new SkosError('SKOS_SAMPLER_SPEC', `there is no channel ${i}`);
  }
  return toReading(value, quality, atMs);
}

/** Ends also when samples come in faster than `each` takes them: the rest is there at the next call. */
function drainTo(native: NativeReadings, each: OnRecord): void {
  // Looked up once: they are filled anew by drain(), never replaced.
  const { drainedChannels, drainedValues, drainedQualities, drainedTimesMs } = native;
  const batch = drainedChannels.length;
  for (let left = MAX_RING_RECORDS; left > 0; left -= batch) {
    const count = native.drain();
    for (let i = 0; i < count; i++) {
      each(
        drainedChannels[i] as number,
        drainedValues[i] as number,
        toQuality(drainedQualities[i] as number),
        drainedTimesMs[i] as number,
      );
    }
    if (count < batch) return;
  }
}

function toCrossing({ tripwire, channel, raised, value, quality, atMs }: NativeCrossing): Crossing {
  return { tripwire, channel, raised, reading: toReading(value, quality, atMs) };
}

function defaultRingRecords(channels: readonly Channel[]): number {
  const perSecond = channels.reduce((sum, { rateHz }) => sum + rateHz, 0);
  const wanted = Math.ceil(perSecond * RING_SECONDS);
  return Number.isFinite(wanted) ? Math.min(MAX_RING_RECORDS, Math.max(MIN_RING_RECORDS, wanted)) : MIN_RING_RECORDS;
}
