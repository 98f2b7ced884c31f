/** The report that an act leaves, as src/control/README.md states it: whole or not there, and never larger than its reader takes. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { MAX_REPORT_BYTES, reportDirectory } from '../control/job-reports.js';
import { writeAtomically } from '../core/atomic-file.js';
import type { Outcome } from './act.js';

const VERSION = 1;
const MAX_ITEMS = 100;
/** A path that is longer is cut: the digest is over the whole. */
const MAX_ITEM_LENGTH = 512;
const MAX_SUMMARY_LENGTH = 500;
/** For the agent's group; what was deleted is nobody else's business. */
const MODE = 0o640;

export interface ReportParts extends Outcome {
  readonly name: string;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
}

export async function writeReport(
  parts: ReportParts,
  env: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  await writeAtomically(join(reportDirectory(env), `${parts.name}.json`), reportText(parts), MODE);
}

/** Items, then details, are left out where the whole would be too large. */
export function reportText({
  name,
  startedAtMs,
  endedAtMs,
  ok,
  summary,
  items = [],
  total = items.length,
  digest = createHash('sha256').update(items.join('\n')).digest('hex'),
  details = {},
}: ReportParts): string {
  const head = { v: VERSION, name, startedAtMs, endedAtMs, ok, summary: summary.slice(0, MAX_SUMMARY_LENGTH) };
  let told = items.slice(0, MAX_ITEMS).map((item) => item.slice(0, MAX_ITEM_LENGTH));
  for (const said of [details, {}]) {
    for (; ; told = told.slice(0, Math.floor(told.length / 2))) {
      const text = JSON.stringify({ ...head, items: told, total, digest, details: said });
      if (Buffer.byteLength(text) <= MAX_REPORT_BYTES) return text;
      if (told.length === 0) break;
    }
  }
  throw new RangeError('a report without items and details is too large'); // Its head is bounded.
}
