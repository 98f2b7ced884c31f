/**
 * Flight recordings: what the recorder saw around an alert, kept for as long as there is room.
 *
 * A recording has a number, what it is of (a small JSON record, written anew as it goes on), the list of its channels (written
 * as they come) and its samples in blocks (recording-block.ts). All of it goes through the writer's queue; nothing here waits
 * for a disk. What an earlier process left open is closed when the store is opened.
 *
 * The oldest closed recordings give way when there are too many or they are too large. Their samples are deleted in the
 * steps of retention.
 */
import type { Channel } from '../core/channel.js';
import { reason } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type {
  Log,
  RecordedSamples,
  RecordingInfo,
  RecordingLog,
  RecordingPage,
  RecordingQuery,
  RecordingSeries,
  RecordingState,
} from '../core/ports.js';
import { QUANTITIES } from '../core/units.js';
import { decodeChunk, type Samples } from './chunk.js';
import { type BlockEntry, blockEntries, blockEntry } from './recording-block.js';
import { type RecordedChannel, seriesOf, thinned } from './recording-series.js';

/** Some bad weeks of a node: who wants to keep one for longer takes it out with `--csv`. */
export const MAX_RECORDINGS = 200;
/** A recording of 64 channels at 10 Hz takes 0.2 to 0.6 MiB in its longest form; a tenth of what the time series takes. */
export const MAX_RECORDINGS_BYTES = 64 * 1024 * 1024;
/** A block is closed when it is so large, or when the recorder says that it has put what there was. */
const BLOCK_BYTES = 64 * 1024;
/** Samples in one page: half a MiB of JSON, and a few milliseconds of the agent's time. */
export const MAX_PAGE_SAMPLES = 20_000;
/** Their numbers are 16 bits wide. */
const MAX_RECORDED_CHANNELS = 65_535;

export interface Limits {
  readonly recordings: number;
  readonly bytes: number;
}

/** Where recordings lie: the database, or memory. */
export interface Shelf {
  putState(recording: number, text: Buffer): void;
  putChannels(recording: number, first: number, text: Buffer): void;
  putBlock(recording: number, block: number, bytes: Buffer): void;
  /** [number of the first one, JSON list]. */
  channels(recording: number): AsyncIterable<readonly [number, Buffer]>;
  blocks(recording: number): AsyncIterable<Buffer>;
  erase(recording: number): void;
}

interface Filed extends RecordingState {
  readonly bytes: number;
}

/** A recording that is being written. */
interface Opened {
  readonly numbers: Map<string, number>;
  /** By number; so many of them are on the shelf. */
  readonly channels: RecordedChannel[];
  shelved: number;
  pieces: Buffer[];
  pieceBytes: number;
  nextBlock: number;
}

export class Recordings implements RecordingLog {
  readonly #shelf: Shelf;
  readonly #limits: Limits;
  readonly #log: Log | undefined;
  readonly #filed = new Map<number, Filed>();
  readonly #opened = new Map<number, Opened>();
  #next = 1;
  #bytes = 0;

  constructor({ shelf, limits, log }: { shelf: Shelf; limits: Limits; log?: Log }) {
    this.#shelf = shelf;
    this.#limits = limits;
    this.#log = log;
  }

  /**
   * What an earlier process left: its records by number, ascending. Without any, numbers begin at `first`: a number that grows with
   * time keeps the recordings of a damaged database, which may come back, from having the same ones.
   */
  adopt(records: Iterable<readonly [number, Buffer]>, { first = 1 }: { first?: number } = {}): void {
    this.#adopt(records);
    if (this.#filed.size === 0) this.#next = Math.max(this.#next, first);
    this.#makeRoom();
  }

  /** Records of a damaged database that are back with all their parts. The order stays that of their numbers. */
  restore(records: Iterable<readonly [number, Buffer]>): void {
    this.#adopt([...records].filter(([recording]) => !this.#filed.has(recording)));
    const inOrder = [...this.#filed].sort(([a], [b]) => a - b);
    this.#filed.clear();
    for (const [recording, filed] of inOrder) this.#filed.set(recording, filed);
    this.#makeRoom();
  }

  #adopt(records: Iterable<readonly [number, Buffer]>): void {
    for (const [recording, text] of records) {
      this.#next = Math.max(this.#next, recording + 1);
      const filed = parsedState(text);
      if (filed === undefined) {
        this.#damaged(`The record of flight recording ${recording} is damaged and passed over`);
        continue;
      }
      this.#file(recording, { ...filed, open: false });
      if (filed.open) this.#putState(recording);
    }
  }

  begin(state: RecordingState): number {
    const recording = this.#next++;
    this.#opened.set(recording, {
      numbers: new Map(),
      channels: [],
      shelved: 0,
      pieces: [],
      pieceBytes: 0,
      nextBlock: 0,
    });
    this.#file(recording, { ...state, bytes: 0 });
    this.#makeRoom();
    this.#putState(recording);
    return recording;
  }

  putSamples(recording: number, channel: Channel, samples: RecordedSamples): number {
    const opened = this.#opened.get(recording);
    const filed = this.#filed.get(recording);
    if (opened === undefined || filed === undefined || samples.length === 0) return 0;
    const number = opened.numbers.get(channel.id) ?? this.#newChannel(opened, channel);
    if (number === undefined || this.#bytes >= this.#limits.bytes) return 0;
    const entry = blockEntry(number, samples, filed.fromAtMs);
    opened.pieces.push(entry);
    opened.pieceBytes += entry.length;
    this.#file(recording, { ...filed, bytes: filed.bytes + entry.length });
    this.#makeRoom();
    if (opened.pieceBytes >= BLOCK_BYTES) this.#putBlock(recording, opened);
    return entry.length;
  }

  put(recording: number, state: RecordingState): void {
    const opened = this.#opened.get(recording);
    const filed = this.#filed.get(recording);
    if (opened === undefined || filed === undefined) return;
    this.#putBlock(recording, opened);
    this.#file(recording, { ...state, bytes: filed.bytes });
    this.#putState(recording);
    if (!state.open) this.#opened.delete(recording);
  }

  list(): Promise<RecordingInfo[]> {
    return Promise.resolve(this.#listed().map(({ info }) => info));
  }

  async page({ alert, nth = 1, glob, points, after }: RecordingQuery): Promise<RecordingPage | undefined> {
    const found = this.#listed().filter(({ info }) => info.alert === alert)[nth - 1];
    if (found === undefined) return undefined;
    const { recording, info } = found;
    const channels = await this.#channels(recording);
    const [from, skip] = cursor(after);
    const wanted = [...channels.keys()]
      .filter((number) => number >= from && (glob === undefined || globMatches(glob, channels.get(number)?.id ?? '')))
      .sort((a, b) => a - b);
    const entries = await this.#entries(recording, new Set(wanted));
    const thin = (samples: Samples) =>
      points === undefined ? undefined : thinned(samples, { ...info, points, keepAtMs: info.alertAtMs });
    const series: RecordingSeries[] = [];
    let left = MAX_PAGE_SAMPLES;
    for (const number of wanted) {
      const channel = channels.get(number);
      if (channel === undefined) continue;
      const samples = this.#decoded(entries.get(number) ?? [], info.fromAtMs);
      const all = thin(samples) ?? [...Array(samples.length).keys()];
      const picked = all.slice(number === from ? skip : 0);
      if (picked.length > left) {
        if (left > 0) series.push(seriesOf(channel, samples, picked.slice(0, left)));
        const next = (number === from ? skip : 0) + left;
        return { recording: info, series, after: `${number}:${next}` };
      }
      left -= picked.length;
      if (picked.length > 0 || number !== from) series.push(seriesOf(channel, samples, picked));
      // Decoding a long recording must not hold up the tick.
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { recording: info, series, after: null };
  }

  /** The database is a new one: what is still being written begins in it with its channels. Earlier samples are lost with the old one. */
  republish(): void {
    for (const recording of [...this.#filed.keys()]) if (!this.#opened.has(recording)) this.#forget(recording);
    for (const [recording, opened] of this.#opened) {
      opened.shelved = 0;
      this.#putState(recording);
    }
  }

  /** The oldest one that is kept: what the shelf holds of earlier ones is of no use. */
  get oldest(): number {
    const [first] = this.#filed.keys();
    return first ?? this.#next;
  }

  #listed(): { recording: number; info: RecordingInfo }[] {
    const all = [...this.#filed].flatMap(([recording, { alerts, bytes: _, ...rest }]) =>
      alerts.map(({ alert, atMs }) => ({ recording, info: { ...rest, alert, alertAtMs: atMs } })),
    );
    return all.sort((a, b) => b.info.alertAtMs - a.info.alertAtMs || b.recording - a.recording);
  }

  #newChannel(opened: Opened, { id, label, quantity }: Channel): number | undefined {
    const number = opened.channels.length;
    if (number >= MAX_RECORDED_CHANNELS) return undefined;
    opened.numbers.set(id, number);
    opened.channels.push({ id, label, quantity });
    return number;
  }

  #putBlock(recording: number, opened: Opened): void {
    const { shelved, pieces, channels } = opened;
    if (channels.length > shelved) {
      this.#shelf.putChannels(recording, shelved, Buffer.from(JSON.stringify(channels.slice(shelved))));
    }
    if (pieces.length > 0) this.#shelf.putBlock(recording, opened.nextBlock++, Buffer.concat(pieces));
    opened.shelved = channels.length;
    opened.pieces = [];
    opened.pieceBytes = 0;
  }

  #file(recording: number, filed: Filed): void {
    this.#bytes += filed.bytes - (this.#filed.get(recording)?.bytes ?? 0);
    this.#filed.set(recording, filed);
  }

  #putState(recording: number): void {
    this.#shelf.putState(recording, Buffer.from(JSON.stringify(this.#filed.get(recording))));
  }

  #makeRoom(): void {
    for (const [recording, { open }] of this.#filed) {
      if (this.#filed.size <= this.#limits.recordings && this.#bytes <= this.#limits.bytes) return;
      if (open) continue;
      this.#forget(recording);
      this.#shelf.erase(recording);
    }
  }

  #forget(recording: number): void {
    this.#bytes -= this.#filed.get(recording)?.bytes ?? 0;
    this.#filed.delete(recording);
  }

  async #channels(recording: number): Promise<Map<number, RecordedChannel>> {
    const channels = new Map<number, RecordedChannel>();
    for await (const [first, text] of this.#shelf.channels(recording)) {
      parsedChannels(text).forEach((channel, i) => {
        channels.set(first + i, channel);
      });
    }
    return channels;
  }

  /** Entries of the wanted channels, in the order of time. At most what a recording may take. */
  async #entries(recording: number, wanted: ReadonlySet<number>): Promise<Map<number, BlockEntry[]>> {
    const entries = new Map<number, BlockEntry[]>();
    for await (const block of this.#shelf.blocks(recording)) {
      for (const entry of blockEntries(block)) {
        if (!wanted.has(entry.channel)) continue;
        const list = entries.get(entry.channel);
        if (list === undefined) entries.set(entry.channel, [entry]);
        else list.push(entry);
      }
    }
    return entries;
  }

  #decoded(entries: readonly BlockEntry[], fromAtMs: number): Samples {
    const pieces = entries.flatMap(({ chunk, offsetMs }) => {
      try {
        return [decodeChunk(chunk, fromAtMs + offsetMs)];
      } catch (error) {
        this.#damaged(`A piece of a flight recording cannot be decoded and is passed over: ${reason(error)}`);
        return [];
      }
    });
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const whole = {
      length,
      atMs: new Float64Array(length),
      values: new Float64Array(length),
      qualities: new Uint8Array(length),
    };
    let at = 0;
    for (const { atMs, values, qualities, length: each } of pieces) {
      whole.atMs.set(atMs, at);
      whole.values.set(values, at);
      whole.qualities.set(qualities, at);
      at += each;
    }
    return whole;
  }

  #damaged(message: string): void {
    this.#log?.error(message, { event: 'store.damaged', code: 'SKOS_STORE_READ' });
  }
}

/** "12:4000": channel, and samples of it that were shown already. */
function cursor(after: string | undefined): [number, number] {
  const [, channel = '0', skip = '0'] = /^(\d{1,5}):(\d{1,9})$/.exec(after ?? '') ?? [];
  return [Number(channel), Number(skip)];
}

function parsedState(text: Buffer): Filed | undefined {
  try {
    const filed = JSON.parse(text.toString('utf8')) as Partial<Filed> | null;
    const whole = Array.isArray(filed?.alerts) && Number.isFinite(filed.fromAtMs) && Number.isFinite(filed.bytes);
    return whole ? (filed as Filed) : undefined;
  } catch {
    return undefined;
  }
}

function parsedChannels(text: Buffer): RecordedChannel[] {
  try {
    const channels = JSON.parse(text.toString('utf8')) as RecordedChannel[];
    // What a newer version wrote may have quantities that this one does not know.
    return channels.filter(({ quantity }) => Object.hasOwn(QUANTITIES, quantity));
  } catch {
    return [];
  }
}
