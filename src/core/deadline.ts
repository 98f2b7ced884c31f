/**
 * A deadline for work that may never end: a read in a driver, a write to a dead disk, a process that sits in the kernel. The
 * work itself goes on, because nothing can stop a system call; who waits no longer says what that means.
 */
const LATE = Symbol('late');

/** What the work gives; when it is not done in time, what `late` returns or throws. Rejects as the work does. */
export async function within<T, L>(work: Promise<T>, deadlineMs: number, late: () => L): Promise<T | L> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(() => resolve(LATE), deadlineMs);
  });
  try {
    const outcome = await Promise.race([work, deadline]);
    return outcome === LATE ? late() : outcome;
  } finally {
    clearTimeout(timer);
  }
}

/** Rejects when the work is not done in time. */
export function withDeadline<T>(work: Promise<T>, deadlineMs: number): Promise<T> {
  return within(work, deadlineMs, () => {
    throw new Error(`did not answer within ${deadlineMs} ms`);
  });
}

/** Whether it is done in time. Rejects as the work does. */
export function isDoneWithin(work: Promise<unknown>, deadlineMs: number): Promise<boolean> {
  return within(
    work.then(() => true),
    deadlineMs,
    () => false,
  );
}
