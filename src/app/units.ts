/** skos-units under `skos run`: where systemd runs and we are root, so that it does what is asked. */
import { existsSync } from 'node:fs';
import { reason } from '../core/errors.js';
import type { Part } from '../core/lifecycle.js';
import type { Log } from '../core/ports.js';
import { ChildProcess } from './children.js';
import { unitsSpec } from './programs.js';

/** sd_booted(3) */
const BOOTED = '/run/systemd/system';

export function canMoveUnits(): boolean {
  return process.getuid?.() === 0 && existsSync(BOOTED);
}

/** A node without it is protected but for its units; their jobs are unavailable. */
export function unitsChild({ socket, log }: { socket: string; log: Log }): Part {
  let child: ChildProcess | undefined;
  return {
    name: 'skos-units',
    start: async () => {
      try {
        child = new ChildProcess(unitsSpec({ socket }), { log });
        await child.start();
      } catch (error) {
        log.error(`no unit can be moved: ${reason(error)}`, { event: 'units.lost', code: 'SKOS_UNITS_ABSENT', error });
      }
    },
    stop: () => child?.stop(),
  };
}
