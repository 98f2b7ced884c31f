/** What may sit on a dead disk while protection waits to begin: it is had in time, or done without. */
import { within } from '../core/deadline.js';

/** undefined when it fails or takes longer; the work itself is left alone. */
export async function inTime<T>(work: Promise<T>, deadlineMs: number): Promise<T | undefined> {
  try {
    return await within(work, deadlineMs, () => undefined);
  } catch {
    return undefined;
  }
}
