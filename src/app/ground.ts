/** What every part of the agent stands on: the configuration in force, the machine, the store and its record, the clocks. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Config } from '../config/schema.js';
import { CurrentConfig } from '../control/current-config.js';
import { LastingClock } from '../control/lasting-clock.js';
import { Machine } from '../control/machine.js';
import { LaterOutlet } from '../control/outlet.js';
import { Record } from '../control/record.js';
import { agentSocketPath } from '../core/agent-client.js';
import { Beat, type Every } from '../core/beat.js';
import { type Clock, systemClock as clock } from '../core/clock.js';
import { within } from '../core/deadline.js';
import { reason, SkosError } from '../core/errors.js';
import type { Addon } from '../sensors/addon.js';
import { storeLimits } from '../store/limits.js';
import { MemoryStore } from '../store/memory-store.js';
import { LevelStore } from '../store/store.js';
import { bootId } from './host.js';
import type { AdjustableLog } from './log.js';

/** Replaying the log after a power loss takes a second or two; protection waits no longer than this for a disk. */
const OPEN_DEADLINE_MS = 10_000;

export interface Given {
  readonly addon: Addon;
  /** As it was read at the start; what a reload cannot change is taken from it. */
  readonly initial: Config;
  readonly log: AdjustableLog;
  /** Programs that nobody else starts are started as children. */
  readonly withChildren: boolean;
}

export interface Ground extends Given {
  readonly node: string;
  readonly bootId: string;
  readonly config: CurrentConfig;
  readonly machine: Machine;
  readonly store: LevelStore | MemoryStore;
  readonly outlet: LaterOutlet;
  readonly record: Record;
  readonly lasting: LastingClock;
  readonly clock: Clock;
  /** One beat for all that is done again and again. */
  readonly every: Every;
  readonly socketPath: string;
  readonly runDirectory: string;
}

export async function layGround(given: Given): Promise<Ground> {
  const { initial, log } = given;
  const { node, data_dir: dataDir } = initial;
  const boot = bootId();
  const socketPath = agentSocketPath({ env: process.env, dataDir });
  const runDirectory = dirname(socketPath);
  for (const directory of [dataDir, runDirectory]) mkdirSync(directory, { recursive: true, mode: 0o750 });
  const machine = new Machine(process.env);
  const store = await openStore(initial, log);
  const outlet = new LaterOutlet();
  return {
    ...given,
    node,
    bootId: boot,
    config: new CurrentConfig(initial),
    machine,
    store,
    outlet,
    record: new Record({ store, log, outlet }),
    lasting: new LastingClock({ store, clock, bootId: boot }),
    clock,
    every: new Beat(clock).every,
    socketPath,
    runDirectory,
  };
}

/** A node whose database cannot be opened is protected all the same; `skos status` says that nothing is kept. */
async function openStore(config: Config, log: AdjustableLog): Promise<LevelStore | MemoryStore> {
  const store = new LevelStore({
    dataDir: config.data_dir,
    node: config.node,
    log,
    clock,
    limits: storeLimits(config.store),
  });
  const opening = store.start();
  try {
    await within(opening, OPEN_DEADLINE_MS, () => {
      throw new SkosError('SKOS_STORE_OPEN', 'the disk does not answer');
    });
    return store;
  } catch (error) {
    // Should it open after all, it must not hold its lock for nothing.
    opening.then(() => store.stop()).catch(() => undefined);
    // Two agents on one database would be two agents on one node: that is refused, not worked around.
    if (error instanceof SkosError && (error.code === 'SKOS_STORE_LOCKED' || error.code === 'SKOS_STORE_VERSION'))
      throw error;
    const code = error instanceof SkosError ? error.code : 'SKOS_STORE_OPEN';
    log.error(`the record is kept in memory only: ${reason(error)}`, { event: 'store.failed', code, error });
    return new MemoryStore({ clock, why: reason(error), log });
  }
}
