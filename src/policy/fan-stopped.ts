/**
 * Whether a fan that should turn stands still. A fan that was never seen turning is no failure: many headers are empty, and some fans
 * have no tachometer. Neither is one that its control lets stand: a duty below `ASKED_DUTY_PPM` stops most fans, and where no duty is
 * known, only heat says that it should turn.
 */

/** Below a fifth most fans do not turn, by design. */
export const ASKED_DUTY_PPM = 200_000;
/** At this heat of the CPU no board lets its fans stand. */
export const ASKED_MILLI_CELSIUS = 70_000;

/** What a fan did so far. */
export class FanHistory {
  #hasTurned = false;

  take(rpm: number): void {
    if (rpm > 0) this.#hasTurned = true;
  }

  /** Nobody looked: that says nothing. */
  lost(): void {}

  get hasTurned(): boolean {
    return this.#hasTurned;
  }
}

/** 1: it failed, 0: it did not; null: that cannot be told. `witnesses` are the ok values of what asks for it. */
export function fanStopped(given: {
  rpm: number;
  hasTurned: boolean;
  witnesses: readonly number[];
  askedFrom: number;
}): 0 | 1 | null {
  const { rpm, hasTurned, witnesses, askedFrom } = given;
  if (!hasTurned) return null;
  if (rpm > 0) return 0;
  if (witnesses.length === 0) return null;
  return witnesses.some((value) => value >= askedFrom) ? 1 : 0;
}
