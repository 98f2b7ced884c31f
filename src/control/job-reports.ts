/**
 * What oneshot units say of themselves: small files that they leave in a directory of theirs, read when their job is over. They are
 * somebody else's words: bounded, checked, and never needed to know whether the job succeeded.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { anything, boolean, type Infer, list, number, object, optional, parse, record, string } from '../core/shape.js';

export const MAX_REPORT_BYTES = 64 * 1024;
const DIRECTORY = '/run/skos-act';
const TEXT = string({ pattern: /^[^\0]{0,4096}$/s, expected: 'a text' });
/** Clocks of the same machine, but a file's times are those of the kernel's last tick. */
const EARLY_MS = 1_000;

const shape = object({
  v: number({ min: 1, max: 1 }),
  name: TEXT,
  startedAtMs: number(),
  endedAtMs: number(),
  ok: boolean,
  summary: string({ pattern: /^[^\0]{0,1024}$/s, expected: 'one sentence' }),
  items: optional(list(TEXT, { max: 100 })),
  total: optional(number({ min: 0 })),
  digest: optional(string({ pattern: /^[0-9a-f]{64}$/, expected: 'a SHA-256, hex' })),
  details: optional(record(anything, { max: 32 })),
});
export type JobReport = Infer<typeof shape>;

/** SKOS_ACT_DIR names another place than the installed one. */
export function reportDirectory(env: Readonly<Record<string, string | undefined>>): string {
  return env.SKOS_ACT_DIR || DIRECTORY;
}

/** The report on a run of this job that began at that time; undefined: there is none, or not one that can be read. */
export async function readReport(
  directory: string,
  { job, sinceAtMs }: { job: string; sinceAtMs: number },
): Promise<JobReport | undefined> {
  const name = job.slice(job.lastIndexOf('/') + 1);
  try {
    const file = await open(
      join(directory, `${name}.json`),
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    );
    try {
      const stat = await file.stat();
      if (!stat.isFile() || stat.size > MAX_REPORT_BYTES || stat.mtimeMs < sinceAtMs - EARLY_MS) return undefined;
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_REPORT_BYTES), 0, MAX_REPORT_BYTES, 0);
      return checked(JSON.parse(buffer.subarray(0, bytesRead).toString('utf8')), { name, sinceAtMs });
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}

/** A report of another job, or of a run before ours, is none of ours. */
function checked(found: unknown, { name, sinceAtMs }: { name: string; sinceAtMs: number }): JobReport | undefined {
  const { value, issues } = parse(shape, found);
  if (issues.length > 0 || value === undefined) return undefined;
  return value.name === name && value.endedAtMs >= sinceAtMs - EARLY_MS ? value : undefined;
}
