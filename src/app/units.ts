/** skos-units under `skos run`: where systemd runs and we are root, so that it does what is asked. */
import { existsSync } from 'node:fs';
import type { Part } from '../core/lifecycle.js';
import type { Log } from '../core/ports.js';
import { optionalChild } from './children.js';
import { unitsSpec } from './programs.js';

/** sd_booted(3) */
const BOOTED = '/run/systemd/system';

export function canMoveUnits(): boolean {
  return process.getuid?.() === 0 && existsSync(BOOTED);
}

/** Without it jobs of units are unavailable. */
export function unitsChild({ socket, log }: { socket: string; log: Log }): Part {
  return optionalChild({
    name: 'skos-units',
    spec: () => unitsSpec({ socket }),
    without: 'no unit can be moved',
    event: 'units.lost',
    code: 'SKOS_UNITS_ABSENT',
    log,
  });
}
