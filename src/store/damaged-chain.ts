/**
 * The end of the audit chain in a database that was set aside. The mark beside the database lags behind the chain by a second, and
 * a kill may leave it further behind: what was acknowledged in between is in the damaged files, and its numbers must not be given
 * again, or it could not be put back (salvage.ts).
 *
 * Only what links on to the mark counts, entry by entry. Of the files only the blocks behind the mark are read.
 */
import type { AuditHead } from '../core/ports.js';
import { hashFault, parseEntry } from './audit-entry.js';
import { auditKey, auditSeq, PREFIX, prefixRange } from './keys.js';
import { readLevelFiles } from './level-files.js';
import { slicesOf } from './slices.js';

/** What a busy node records in minutes; an agent that starts is waited for. */
const MAX_FOLLOWED = 10_000;
const SLICE_MS = 5;

/** The last entry behind `known` that can be read; `known` where there is none. Never rejects. */
export async function followedInto(path: string, known: AuditHead): Promise<AuditHead> {
  const range = { gte: auditKey(known.seq + 1), lt: prefixRange(PREFIX.audit).lt };
  const pause = slicesOf(SLICE_MS);
  let head = known;
  try {
    for await (const [key, value] of readLevelFiles(path, { range, onDamage: () => undefined })) {
      const entry = parseEntry(value);
      if (typeof entry === 'string' || auditSeq(key) !== entry.seq || entry.seq !== head.seq + 1) break;
      if (entry.previous !== head.hash || hashFault(entry) !== undefined) break;
      head = { seq: entry.seq, hash: entry.hash };
      if (head.seq - known.seq >= MAX_FOLLOWED) break;
      await pause();
    }
  } catch {
    // Whatever stands there is damaged, and that is told already.
  }
  return head;
}
