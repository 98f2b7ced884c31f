/** Where skos-actuator is found, the link to it, and under `skos run` our own: its allow-list, its setters, what moves units. */
import { join } from 'node:path';
import { type Config, DEFAULT_ACTUATOR_SOCKET } from '../config/schema.js';
import { ActuatorLink } from '../control/actuator-link.js';
import type { Sensing } from '../control/sensing.js';
import { readIfThere, writeAtomically } from '../core/atomic-file.js';
import type { Part } from '../core/lifecycle.js';
import type { GpuLink } from '../sensors/gpu-link.js';
import type { Acting } from './acting.js';
import { ChildProcess } from './children.js';
import { setterChild } from './gpu.js';
import type { Ground } from './ground.js';
import { packetConnector } from './packet-connector.js';
import { actuatorSpec } from './programs.js';
import { canMoveUnits, unitsChild } from './units.js';

export interface ComposedActuator {
  readonly link: ActuatorLink;
  /** Says whether it is another one than before. Absent: it is root's. */
  readonly compileAllowList?: () => Promise<boolean>;
  /** What the actuator needs beside it: before the link. */
  readonly helpers: readonly Part[];
  /** Stops our own, which the link has started. */
  readonly own: readonly Part[];
}

export function composeActuator(
  { addon, initial, withChildren, runDirectory, machine, config, store, record, clock, log }: Ground,
  {
    executor,
    word,
    sensing,
    gpus,
    gpuSocket,
  }: Pick<Acting, 'executor' | 'word'> & { sensing: Sensing; gpus: GpuLink; gpuSocket: string },
): ComposedActuator {
  const place = actuatorPlace(initial, { runDirectory, withChildren });
  const { path, why } = place;
  const connect = packetConnector(addon, 'SKOS_ACTUATOR_ABSENT');
  const linked = { path, why, connect, executor, word, store, record, log, clock };
  if (!place.own) return { link: new ActuatorLink(linked), helpers: [], own: [] };

  const compileAllowList = async () => {
    const controllerUid = process.getuid?.() ?? 0;
    const channels = [...sensing.channels.filter(({ probe }) => probe.kind !== 'gpu'), ...gpus.channels];
    const text = await machine.allowList({ config: config.get(), channels, controllerUid });
    if (text === (await readIfThere(place.allow))) return false;
    await writeAtomically(place.allow, text);
    return true;
  };
  const setter = join(runDirectory, 'gpu-set.sock');
  const units = canMoveUnits() ? join(runDirectory, 'units.sock') : null;
  const { sysfs, cgroup } = machine.roots;
  const { allow, socket } = place;
  const own = new ChildProcess(
    actuatorSpec({ allow, socket, state: runDirectory, sysfs, cgroup, setter, units, gpu: gpuSocket }),
    { log },
  );
  const startOwn = async () => {
    await compileAllowList();
    await own.start();
  };
  return {
    link: new ActuatorLink({ ...linked, startOwn }),
    compileAllowList,
    // Also beside an actuator that an earlier agent started: its setters went with that agent.
    helpers: [
      ...(initial.gpu.mode === 'off' ? [] : [setterChild(initial, { socket: setter, sysfs, log })]),
      ...(units === null ? [] : [unitsChild({ socket: units, log })]),
    ],
    own: [{ name: 'skos-actuator', start: () => undefined, stop: () => own.stop() }],
  };
}

interface ActuatorPlace {
  readonly path: string | null;
  readonly why: string;
  /** Start one of our own when none answers. */
  readonly own: boolean;
  readonly socket: string;
  readonly allow: string;
}

/** auto is the socket if present, else a child when root, else off, said aloud. */
function actuatorPlace(
  config: Config,
  { runDirectory, withChildren }: { runDirectory: string; withChildren: boolean },
): ActuatorPlace {
  const { mode, socket: configured } = config.actuator;
  const socket =
    process.env.SKOS_RUN_DIR === undefined && configured !== DEFAULT_ACTUATOR_SOCKET
      ? configured
      : join(runDirectory, 'actuator.sock');
  const place = { socket, allow: join(runDirectory, 'actuator.allow') };
  const isRoot = process.getuid?.() === 0;
  if (mode === 'off') return { ...place, path: null, why: 'actuator.mode is off', own: false };
  if (mode === 'child') return { ...place, path: socket, why: 'it is being started', own: true };
  return {
    ...place,
    path: socket,
    why: `nothing answers at ${socket}`,
    own: mode === 'auto' && isRoot && withChildren,
  };
}
