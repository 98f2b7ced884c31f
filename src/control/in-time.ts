/** What may sit on a dead disk while protection waits to begin: it is had in time, or done without. */
import { within } from '../core/deadline.js';

/** For what a part reads of the store when it starts: several parts wait one after the other, and caps wait for them. */
export const RECALL_MS = 500;

/** undefined when it fails or takes longer; the work itself is left alone. */
export async function inTime<T>(work: Promise<T>, deadlineMs: number): Promise<T | undefined> {
  try {
    return await within(work, deadlineMs, () => undefined);
  } catch {
    return undefined;
  }
}
