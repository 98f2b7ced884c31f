/**
 * How the audit chain is kept from filling the disk: what is to go, found cheaply and a bounded stretch at a time.
 *
 * Whole stretches are removed, from the first entry up to one that is signed, so that what remains begins right behind a
 * signature. That they go is recorded, signed, before they do (audit-entry.ts: audit.prune); should the agent end in between, the
 * next one goes on by the number that was written together with that entry.
 */
import type { AuditHead } from '../core/ports.js';
import { parseEntry } from './audit-entry.js';
import { isSignedKind } from './checkpoint.js';
import type { Database } from './database.js';
import { auditSeq, PREFIX, prefixRange, textKey } from './keys.js';

/** Up to which entry a recorded removal goes; absent: none is under way. */
export const PRUNED = textKey(PREFIX.meta, 'audit-pruned');
/** Deletions of one step; the same as the memory for a fraction of a batch. */
export const MAX_REMOVED = 2_000;
/** Entries that are looked at for one removal: some MiB. */
const MAX_LOOKED_AT = 5_000;
/** The latest are never removed, however large they are: some days of a quiet node. */
const MIN_KEPT = 2_000;
/** Entries at either end whose size stands for all: sizes vary by kind, and kinds are mixed. */
const SAMPLED = 64;
/** Removes this much more than needed, so that it is not done over and over for a few entries. */
const SLACK = 0.05;
/** What LevelDB adds to an entry: key, lengths, its part of an index. */
const OVERHEAD_BYTES = 24;

export interface Excess {
  readonly from: { readonly seq: number };
  readonly to: AuditHead;
  readonly entries: number;
  /** Those of them that could not be read. */
  readonly damaged: number;
  /** Of all entries, estimated. */
  readonly bytes: number;
}

/** Undefined: no removal is under way. */
export async function prunedSeq(database: Database): Promise<number | undefined> {
  const seq = Number((await database.get(PRUNED))?.toString());
  return Number.isSafeInteger(seq) && seq > 0 ? seq : undefined;
}

/** What must go now so that the entries stay within `maxBytes`; undefined: nothing. */
export async function excessOf(
  database: Database,
  { head, maxBytes }: { head: AuditHead; maxBytes: number },
): Promise<Excess | undefined> {
  const { firstSeq, meanBytes } = await sampled(database);
  const bytes = Math.round((head.seq - firstSeq + 1) * meanBytes);
  if (bytes <= maxBytes) return undefined;
  const excessBytes = bytes - maxBytes + maxBytes * SLACK;
  const stretch = await oldestStretch(database, { excessBytes, lastSeq: head.seq - MIN_KEPT });
  if (stretch === undefined) return undefined;
  return { ...stretch, from: { seq: firstSeq }, bytes };
}

async function sampled(database: Database): Promise<{ firstSeq: number; meanBytes: number }> {
  let firstSeq = 1;
  let count = 0;
  let bytes = 0;
  for (const reverse of [true, false]) {
    let isFirst = true;
    for await (const [key, value] of database.scan({ ...prefixRange(PREFIX.audit), reverse, limit: SAMPLED })) {
      if (isFirst && !reverse) firstSeq = auditSeq(key);
      isFirst = false;
      count++;
      bytes += value.length + key.length + OVERHEAD_BYTES;
    }
  }
  return { firstSeq, meanBytes: count === 0 ? 0 : bytes / count };
}

type Stretch = Pick<Excess, 'to' | 'entries' | 'damaged'>;

/** Up to the first signed entry at which enough is gone, else up to the last signed one that was looked at. */
async function oldestStretch(
  database: Database,
  { excessBytes, lastSeq }: { excessBytes: number; lastSeq: number },
): Promise<Stretch | undefined> {
  let bytes = 0;
  let entries = 0;
  let damaged = 0;
  let signed: Stretch | undefined;
  let any: Stretch | undefined;
  for await (const [key, value] of database.scan({ ...prefixRange(PREFIX.audit), limit: MAX_LOOKED_AT })) {
    const seq = auditSeq(key);
    if (seq > lastSeq) break;
    bytes += value.length + key.length + OVERHEAD_BYTES;
    entries++;
    const entry = parseEntry(value);
    if (typeof entry === 'string') {
      // It goes with the others, or one bad byte would let the record grow without an end; that it was there is recorded.
      damaged++;
      continue;
    }
    any = { to: { seq, hash: entry.hash }, entries, damaged };
    if (isSignedKind(entry.kind)) signed = any;
    if (bytes >= excessBytes && signed === any) break;
  }
  // A long stretch without a signature comes from a node without a key.
  return signed ?? any;
}
