/**
 * The key space of the database, in one place: a prefix byte per kind of record, then numbers big-endian (so that the
 * order of keys is the order of numbers), then text.
 *
 *   m name                                   meta: format version, run number
 *   a seq:u64                                audit entries
 *   e startedAtMs:u64 id    E id             alerts: history, and those that stand
 *   x startedAtMs:u64 id    X id             actions: history, and those under way
 *   s key                                    state
 *   d channel:u32                            channel dictionary
 *   t channel:u32 startAtMs:u64 run:u32 n:u32  raw time series; run and n keep two chunks apart that begin at the same
 *                                            wall time, which happens when the clock is set back
 *   r recording:u32                          flight recordings: what they are of
 *   R recording:u32 first:u32                their channels, from the first of these numbers on
 *   b recording:u32 block:u32                their samples
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

export function chunkKey({ channel, startAtMs, run, ordinal }: ChunkAddress): Buffer {
  const key = Buffer.alloc(21, PREFIX.rawSeries);
  key.writeUInt32BE(channel, 1);
  writeUint64(key, startAtMs, 5);
  key.writeUInt32BE(run >>> 0, 13);
  key.writeUInt32BE(ordinal >>> 0, 17);
  return key;
}

export function chunkStartAtMs(key: Buffer): number {
  return readUint64(key, 5);
}

/** Chunks of one channel that begin in [fromMs, toMs). */
export function chunkRange(channel: number, { fromMs, toMs }: { fromMs: number; toMs: number }): KeyRange {
  const bound = (startAtMs: number) => chunkKey({ channel, startAtMs, run: 0, ordinal: 0 });
  return { gte: bound(fromMs), lt: bound(toMs) };
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
