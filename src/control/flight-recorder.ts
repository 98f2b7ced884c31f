/**
 * The flight recorder: the latest samples of every channel in memory (flight-arena.ts), and a recording on disk of what was
 * seen around each alert: from BEFORE_MS before it until AFTER_MS after it cleared, at most LONGEST_MS in all.
 *
 * A recording is written in pieces, at once and then every FLUSH_EVERY_MS, each channel from where its last piece ended, so
 * that a crash loses no more than that. The work is done in small slices between which the event loop runs; a tick only
 * appends. Overlapping alerts make recordings of their own, up to MAX_OPEN; a later one joins the newest that is open.
 *
 * Times inside are monotonic; a recording has the wall time that held when it began, also when the clock is set meanwhile.
 */
import { type Every, ownTimer } from '../core/beat.js';
import { type Channel, QUALITIES, type Quality } from '../core/channel.js';
import type { Clock } from '../core/clock.js';
import { reason } from '../core/errors.js';
import type { Alert, Log, RecordedSamples, Store } from '../core/ports.js';
import { FlightArena } from './flight-arena.js';

/** What memory is asked for: beyond it samples are not shown though they may still be there. */
const MEMORY_MS = 600_000;
export const BEFORE_MS = 60_000;
export const AFTER_MS = 60_000;
/** An alert may stand for days; what led to it and what came of it is at its beginning. */
export const LONGEST_MS = 600_000;
/** With the second that the store's writer waits, a crash loses less than ten. */
const FLUSH_EVERY_MS = 5_000;
/** A storm of alerts is one event: more copies of the same minutes tell nothing new. */
export const MAX_OPEN = 4;
/** A quarter of what the store keeps: ten minutes of a thousand channels at 10 Hz. */
const MAX_RECORDING_BYTES = 16 * 1024 * 1024;
/** Alerts that one recording is listed under. */
const MAX_ALERTS = 64;
/** Samples of the last moments may come with the next tick. */
const SETTLE_MS = 2_000;
/** Of one channel at once: store/chunk.ts takes no more. */
const PIECE_SAMPLES = 600;
/** Before the event loop runs again: well below a millisecond. Compressing a piece is what costs, looking at a track is next to nothing. */
const SLICE_PIECES = 4;
const SLICE_TRACKS = 64;

const OK = QUALITIES.indexOf('ok');
const NO_DATA = QUALITIES.indexOf('no_data');
/** In place of indexOf on the path of every sample. */
const QUALITY_INDEX = Object.fromEntries(QUALITIES.map((quality, i) => [quality, i])) as Readonly<
  globalThis.Record<Quality, number>
>;

interface Track {
  readonly number: number;
  readonly channel: Channel;
}

interface Recording {
  readonly number: number;
  readonly alerts: { readonly alert: string; readonly atMs: number }[];
  readonly standing: Set<string>;
  readonly fromMs: number;
  /** Wall time − monotonic time. */
  readonly wallOffsetMs: number;
  /** Where the last piece of a track ended. */
  readonly next: Map<number, number>;
  /** Ids of channels that have samples in it. */
  readonly channels: Set<string>;
  clearedMs: number;
  samples: number;
  bytes: number;
  /** Latest sample written. */
  toMs: number;
}

/** For `skos recorder list`. */
export interface RecorderMemory {
  readonly bytes: number;
  readonly channels: number;
  /** Channels that there was no room for. */
  readonly notRecorded: number;
  /** How far all channels reach back. */
  readonly reachMs: number;
}

export class FlightRecorder {
  readonly name = 'flight recorder';
  readonly #arena: FlightArena;
  readonly #store: Pick<Store, 'recordings'>;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #every: Every;
  /** By id and rate: with another rate a channel's times are told in other steps. */
  readonly #tracks = new Map<string, Track>();
  /** The list that #trackAt is of, and track by index of it; −1: none. */
  #channels: readonly Channel[] = [];
  #trackAt = new Int32Array(0);
  #notRecorded = 0;
  #sinceMs: number | undefined;
  readonly #open: Recording[] = [];
  /** Alerts that stand and have, or had, their recording. */
  readonly #known = new Set<string>();
  #unbeat: () => void = () => undefined;
  #soon: NodeJS.Immediate | undefined;
  #flushing: Promise<void> | undefined;
  #failed = false;
  readonly #into = {
    atMs: new Float64Array(PIECE_SAMPLES),
    values: new Float64Array(PIECE_SAMPLES),
    qualities: new Uint8Array(PIECE_SAMPLES),
  };

  constructor({
    store,
    clock,
    every = ownTimer,
    log,
    bytes,
  }: { store: Pick<Store, 'recordings'>; clock: Clock; every?: Every; log: Log; bytes?: number }) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
    this.#every = every;
    this.#arena = new FlightArena(bytes);
  }

  start(): void {
    this.#unbeat = this.#every(FLUSH_EVERY_MS, () => void this.flush());
  }

  /** Hands what is there to the store, and closes what is open. */
  stop(): void {
    this.#unbeat();
    clearImmediate(this.#soon);
    for (const recording of [...this.#open]) {
      this.#guarded(() => {
        for (const _ of this.#slices(recording));
        this.#put(recording, false);
      });
    }
    this.#open.length = 0;
  }

  /** The channels whose indexes sample() speaks of; the same list costs nothing. */
  use(channels: readonly Channel[]): void {
    if (channels === this.#channels) return;
    this.#channels = channels;
    const present = new Set(channels.map(keyOf));
    for (const [key, { number }] of this.#tracks) {
      if (present.has(key)) continue;
      this.#arena.closeTrack(number);
      if (!this.#arena.isEmpty(number)) continue;
      this.#arena.freeTrack(number);
      this.#tracks.delete(key);
    }
    this.#trackAt = Int32Array.from(channels, (channel) => this.#trackOf(channel));
    const { length } = this.#trackAt.filter((track) => track < 0);
    if (length > 0 && this.#notRecorded === 0) this.#log.warn(`the flight recorder has no room for ${length} channels`);
    this.#notRecorded = length;
  }

  /** One sample of the channel at this index of the list in use. Allocates nothing. */
  sample(index: number, value: number, quality: Quality, atMs: number): void {
    const track = this.#trackAt[index];
    if (track === undefined || track < 0 || !Number.isFinite(atMs)) return;
    this.#sinceMs ??= atMs;
    const kind = QUALITY_INDEX[quality];
    this.#arena.append(track, value, kind === OK && Number.isNaN(value) ? NO_DATA : kind, atMs);
  }

  /** An alert began, changed or is over (severity null). */
  alert({ id, severity, sinceAtMs }: Pick<Alert, 'id' | 'severity' | 'sinceAtMs'>): void {
    const nowMs = this.#clock.monotonicMs();
    const recording = this.#open.find(({ alerts }) => alerts.some(({ alert }) => alert === id));
    if (severity === null) {
      this.#known.delete(id);
      if (recording?.standing.delete(id)) recording.clearedMs = nowMs;
      return;
    }
    // It has had its recording: the ten minutes are over, and it still stands.
    if (this.#known.has(id)) return;
    this.#known.add(id);
    // It came back within the minute after: one story.
    if (recording !== undefined) recording.standing.add(id);
    else this.#begin({ alert: id, atMs: sinceAtMs }, nowMs);
  }

  get memory(): RecorderMemory {
    const nowMs = this.#clock.monotonicMs();
    return {
      bytes: this.#arena.bytes,
      channels: this.#channels.length - this.#notRecorded,
      notRecorded: this.#notRecorded,
      reachMs: this.#sinceMs === undefined ? 0 : Math.round(nowMs - this.#reachesTo(nowMs)),
    };
  }

  /** Writes what came since the last time. Never rejects. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flushAll().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  /** Monotonic time from which on all channels are there. */
  #reachesTo(nowMs: number): number {
    return Math.max(nowMs - MEMORY_MS, this.#arena.coveredSinceMs, this.#sinceMs ?? nowMs);
  }

  #trackOf(channel: Channel): number {
    const key = keyOf(channel);
    const known = this.#tracks.get(key);
    const number = known?.number ?? this.#arena.openTrack(channel.rateHz);
    if (number === undefined) return -1;
    this.#tracks.set(key, { number, channel });
    return number;
  }

  #begin(alert: { alert: string; atMs: number }, nowMs: number): void {
    const newest = this.#open.at(-1);
    if (newest !== undefined && this.#open.length >= MAX_OPEN) {
      if (newest.alerts.length < MAX_ALERTS) newest.alerts.push(alert);
      newest.standing.add(alert.alert);
      return;
    }
    // The arena keeps whole milliseconds: the very first sample must not fall before the moment that it was taken at.
    const fromMs = Math.floor(Math.max(nowMs - BEFORE_MS, this.#reachesTo(nowMs)));
    const state = {
      alerts: [alert],
      standing: new Set([alert.alert]),
      fromMs,
      wallOffsetMs: this.#clock.wallMs() - nowMs,
      next: new Map<number, number>(),
      channels: new Set<string>(),
      clearedMs: 0,
      samples: 0,
      bytes: 0,
      toMs: fromMs,
    };
    this.#guarded(() => {
      const number = this.#store.recordings.begin(stateOf(state, true));
      this.#open.push({ ...state, number });
    });
    // What led to it is written now, and not by this tick.
    this.#soon ??= setImmediate(() => {
      this.#soon = undefined;
      void this.flush();
    });
  }

  async #flushAll(): Promise<void> {
    for (const recording of [...this.#open]) {
      try {
        for (const _ of this.#slices(recording)) await new Promise((resolve) => setImmediate(resolve));
      } catch (error) {
        this.#tell(error);
      }
      // stop() may have closed it in the meantime.
      if (!this.#open.includes(recording)) continue;
      const isOver = this.#clock.monotonicMs() > endMs(recording) + SETTLE_MS || recording.bytes >= MAX_RECORDING_BYTES;
      this.#guarded(() => this.#put(recording, !isOver));
      if (isOver) this.#open.splice(this.#open.indexOf(recording), 1);
    }
  }

  /** Everything that is to be written of a recording now, a slice at each step. */
  *#slices(recording: Recording): Generator<void, void, undefined> {
    const untilMs = endMs(recording);
    let [pieces, tracks] = [0, 0];
    for (const track of [...this.#tracks.values()]) {
      let length: number;
      do {
        length = this.#piece(recording, track, untilMs);
        if (recording.bytes >= MAX_RECORDING_BYTES) return;
        if (length > 0) pieces++;
        if (length < PIECE_SAMPLES) tracks++;
        if (pieces < SLICE_PIECES && tracks < SLICE_TRACKS) continue;
        yield;
        [pieces, tracks] = [0, 0];
      } while (length === PIECE_SAMPLES);
    }
  }

  /** The next piece of one channel; its length, 0 when there is nothing new. */
  #piece(recording: Recording, { number, channel }: Track, untilMs: number): number {
    const from = recording.next.get(number) ?? this.#arena.numberAt(number, recording.fromMs);
    const { length: read, next } = this.#arena.read(number, from, this.#into);
    const { atMs } = this.#into;
    let length = read;
    while (length > 0 && (atMs[length - 1] ?? 0) > untilMs) length--;
    if (length === 0) return 0;
    const startMs = atMs[0] ?? 0;
    const samples: RecordedSamples = {
      startAtMs: Math.round(startMs + recording.wallOffsetMs),
      length,
      atMs: atMs.subarray(0, length).map((each) => each - startMs),
      values: this.#into.values,
      qualities: this.#into.qualities,
    };
    recording.bytes += this.#store.recordings.putSamples(recording.number, channel, samples);
    // Only now: what could not be put is tried again.
    recording.next.set(number, next - (read - length));
    recording.toMs = Math.max(recording.toMs, atMs[length - 1] ?? 0);
    recording.samples += length;
    recording.channels.add(channel.id);
    return length;
  }

  #put(recording: Recording, open: boolean): void {
    this.#store.recordings.put(recording.number, stateOf(recording, open));
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#tell(error);
    }
  }

  /** Once: what cannot be recorded now cannot be for as long as its reason lasts. */
  #tell(error: unknown): void {
    if (!this.#failed) this.#log.error(`the flight recorder cannot write: ${reason(error)}`, { error });
    this.#failed = true;
  }
}

function keyOf({ id, rateHz }: Channel): string {
  return `${id} ${rateHz}`;
}

/** Monotonic. */
function endMs({ fromMs, standing, clearedMs }: Recording): number {
  return Math.min(fromMs + LONGEST_MS, standing.size > 0 ? Number.POSITIVE_INFINITY : clearedMs + AFTER_MS);
}

function stateOf(recording: Omit<Recording, 'number'>, open: boolean) {
  const { alerts, fromMs, toMs, wallOffsetMs, channels, samples } = recording;
  return {
    alerts: [...alerts],
    fromAtMs: Math.round(fromMs + wallOffsetMs),
    toAtMs: Math.round(toMs + wallOffsetMs),
    channels: channels.size,
    samples,
    open,
  };
}
