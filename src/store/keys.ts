/**
 * The key space of the database, in one place: a prefix byte per kind of record, then numbers big-endian (so that the
 * order of keys is the order of numbers), then text.
 * src/store/README.md lists them.
 */
export const PREFIX = {
  meta: 'm',
  audit: 'a',
  alertHistory: 'e',
  alertStanding: 'E',
  actionHistory: 'x',
  actionOpen: 'X',
  state: 's',
  channel: 'd',
  rawSeries: 't',
  secondSeries: 'u',
  minuteSeries: 'v',
  named: 'n',
  outboxItem: 'o',
  outboxQueue: 'O',
  recording: 'r',
  recordingChannels: 'R',
  recordingBlock: 'b',
} as const;
export type Prefix = (typeof PREFIX)[keyof typeof PREFIX];

/** Half-open: gte ≤ key < lt. */
export interface KeyRange {
  readonly gte: Buffer;
  readonly lt: Buffer;
}

const TWO_TO_32 = 2 ** 32;

function writeUint64(target: Buffer, value: number, offset: number): void {
  // A clock before 1970 sorts first rather than throwing.
  const clamped = Math.min(Math.max(0, Math.floor(value)), Number.MAX_SAFE_INTEGER);
  target.writeUInt32BE(Math.floor(clamped / TWO_TO_32), offset);
  target.writeUInt32BE(clamped % TWO_TO_32, offset + 4);
}

function readUint64(source: Buffer, offset: number): number {
  return source.readUInt32BE(offset) * TWO_TO_32 + source.readUInt32BE(offset + 4);
}

/** Everything under a prefix. */
export function prefixRange(prefix: Prefix): KeyRange {
  return { gte: Buffer.from(prefix), lt: Buffer.from([prefix.charCodeAt(0) + 1]) };
}

export function textKey(prefix: Prefix, text: string): Buffer {
  return Buffer.from(prefix + text, 'utf8');
}

/** The form of the records, as a number. */
export const FORMAT_KEY = textKey(PREFIX.meta, 'format');
/** Of a database that says nothing: those before the number was written down. */
export const FIRST_FORMAT = 1;

/** No key is between the two. */
export function nextKey(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)]);
}

/** Of a typed record. A kind's name holds no 0, so that no kind is the beginning of another. */
export function namedKey(kind: string, id: string): Buffer {
  return Buffer.from(`${PREFIX.named}${kind}\0${id}`, 'utf8');
}

/** Its id. */
export function namedPart(key: Buffer): string {
  return key.subarray(key.indexOf(0) + 1).toString('utf8');
}

export function namedRange(kind: string): KeyRange {
  return { gte: Buffer.from(`${PREFIX.named}${kind}\0`), lt: Buffer.from(`${PREFIX.named}${kind}\x01`) };
}

/** An item of an outbox queue, whose name holds no 0. */
export function outboxKey(queue: string, seq: number): Buffer {
  const name = Buffer.from(`${PREFIX.outboxItem}${queue}\0`, 'utf8');
  const key = Buffer.alloc(name.length + 8);
  name.copy(key);
  writeUint64(key, seq, name.length);
  return key;
}

export function outboxQueueOf(key: Buffer): string {
  return key.subarray(1, key.length - 9).toString('utf8');
}

export function outboxSeq(key: Buffer): number {
  return readUint64(key, key.length - 8);
}

/** Items with fromSeq ≤ seq < toSeq. */
export function outboxRange(queue: string, { fromSeq, toSeq }: { fromSeq: number; toSeq: number }): KeyRange {
  return { gte: outboxKey(queue, fromSeq), lt: outboxKey(queue, toSeq) };
}

/** What is known of the salvage of a database that was set aside under this name: salvage.ts. */
export function salvageKey(name: string): Buffer {
  return textKey(PREFIX.meta, `salvage:${name}`);
}

/** All of them, and the name in one. */
export const SALVAGE_RANGE: KeyRange = { gte: salvageKey(''), lt: textKey(PREFIX.meta, 'salvage;') };

export function salvageName(key: Buffer): string {
  return key.subarray(SALVAGE_RANGE.gte.length).toString('utf8');
}

export function auditKey(seq: number): Buffer {
  const key = Buffer.alloc(9, PREFIX.audit);
  writeUint64(key, seq, 1);
  return key;
}

export function auditSeq(key: Buffer): number {
  return readUint64(key, 1);
}

export function historyKey(prefix: Prefix, { startedAtMs, id }: { startedAtMs: number; id: string }): Buffer {
  const name = Buffer.from(id, 'utf8');
  const key = Buffer.alloc(9 + name.length, prefix);
  writeUint64(key, startedAtMs, 1);
  name.copy(key, 9);
  return key;
}

export function channelKey(channel: number): Buffer {
  const key = Buffer.alloc(5, PREFIX.channel);
  key.writeUInt32BE(channel, 1);
  return key;
}

export function channelNumber(key: Buffer): number {
  return key.readUInt32BE(1);
}

export interface ChunkAddress {
  readonly channel: number;
  readonly startAtMs: number;
  readonly run: number;
  readonly ordinal: number;
}

/** Of a raw chunk, and of the second buckets made of it. */
type ChunkPrefix = typeof PREFIX.rawSeries | typeof PREFIX.secondSeries;

export function chunkKey(prefix: ChunkPrefix, { channel, startAtMs, run, ordinal }: ChunkAddress): Buffer {
  const key = Buffer.alloc(21, prefix);
  key.writeUInt32BE(channel, 1);
  writeUint64(key, startAtMs, 5);
  key.writeUInt32BE(run >>> 0, 13);
  key.writeUInt32BE(ordinal >>> 0, 17);
  return key;
}

export function chunkAddress(key: Buffer): ChunkAddress {
  return {
    channel: key.readUInt32BE(1),
    startAtMs: readUint64(key, 5),
    run: key.readUInt32BE(13),
    ordinal: key.readUInt32BE(17),
  };
}

export function chunkStartAtMs(key: Buffer): number {
  return readUint64(key, 5);
}

/** Chunks of one channel that begin in [fromMs, toMs). */
export function chunkRange(
  prefix: ChunkPrefix,
  channel: number,
  { fromMs, toMs }: { fromMs: number; toMs: number },
): KeyRange {
  const bound = (startAtMs: number) => chunkKey(prefix, { channel, startAtMs, run: 0, ordinal: 0 });
  return { gte: bound(fromMs), lt: bound(toMs) };
}

/** The minutes of one channel in the window that begins at `windowAtMs`. chunkStartAtMs() reads that back. */
export function minutesKey(channel: number, windowAtMs: number): Buffer {
  const key = Buffer.alloc(13, PREFIX.minuteSeries);
  key.writeUInt32BE(channel, 1);
  writeUint64(key, windowAtMs, 5);
  return key;
}

type RecordingPrefix = typeof PREFIX.recordingChannels | typeof PREFIX.recordingBlock;

export function recordingKey(recording: number): Buffer {
  const key = Buffer.alloc(5, PREFIX.recording);
  key.writeUInt32BE(recording, 1);
  return key;
}

export function recordingNumber(key: Buffer): number {
  return key.readUInt32BE(1);
}

export function recordingPartKey(
  prefix: RecordingPrefix,
  { recording, part }: { recording: number; part: number },
): Buffer {
  const key = Buffer.alloc(9, prefix);
  key.writeUInt32BE(recording, 1);
  key.writeUInt32BE(part, 5);
  return key;
}

/** The second number of a part's key. */
export function recordingPart(key: Buffer): number {
  return key.readUInt32BE(5);
}

/** Parts of the recordings from `from` up to, and without, `to`. */
export function recordingPartRange(prefix: RecordingPrefix, { from, to }: { from: number; to: number }): KeyRange {
  const bound = (recording: number) => recordingPartKey(prefix, { recording, part: 0 });
  return { gte: bound(from), lt: bound(to) };
}

/** A key as a Map key: one character per byte, so that text order is key order. */
export function keyText(key: Buffer): string {
  return key.toString('latin1');
}
