/**
 * A cgroup of the demonstration's own on the real machine, in every hierarchy that limits or counts CPU time: version 2,
 * version 1, or both side by side. Made, filled and removed here; limited by the actuator only.
 */
import { existsSync, mkdirSync, readFileSync, realpathSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pause, Unsuitable } from './stage.js';

const ROOT = '/sys/fs/cgroup';
/** Version 1 hierarchies that matter; some are links to one another. */
const V1_HIERARCHIES = ['cpu', 'cpu,cpuacct', 'cpuacct', 'freezer'];
/** So that it gets its CPU on a busy machine too; it is limited or over within seconds. */
const WEIGHT = { 'cpu.weight': '1000', 'cpu.shares': '10240' };
/** Version 2 and version 1. */
const LIMITS = ['cpu.max', 'cpu.cfs_quota_us'];
/** The kernel frees a cgroup a moment after its last process. */
const REMOVE_TRIES = 40;
const REMOVE_PAUSE_MS = 50;

export class OwnCgroup {
  readonly path: string;
  readonly #directories: string[] = [];
  #limitFile = '';
  #undoController: (() => void) | undefined;

  constructor(name: string) {
    this.path = name;
  }

  /** Throws Unsuitable where that cannot be; call remove() in any case. */
  make(): void {
    if (process.geteuid?.() !== 0) throw new Unsuitable('only root may make and limit a cgroup; run it with sudo');
    const hierarchies = this.#hierarchies();
    try {
      for (const hierarchy of hierarchies) this.#makeIn(hierarchy);
    } catch (error) {
      throw new Unsuitable(`no cgroup can be made: ${String(error)}`);
    }
    const files = this.#directories.flatMap((directory) => LIMITS.map((file) => join(directory, file)));
    const found = files.find((file) => existsSync(file));
    if (found === undefined) throw new Unsuitable(`this kernel limits no CPU time of a cgroup (${LIMITS.join(', ')})`);
    this.#limitFile = found;
  }

  /** The file that limits it. */
  get limitFile(): string {
    return this.#limitFile;
  }

  get directories(): readonly string[] {
    return this.#directories;
  }

  get limit(): string {
    return readFileSync(this.#limitFile, 'utf8').trim();
  }

  add(pid: number): void {
    for (const directory of this.#directories) writeFileSync(join(directory, 'cgroup.procs'), String(pid));
  }

  /** Once its processes have ended. */
  async remove(): Promise<void> {
    for (const directory of this.#directories) {
      for (let tries = REMOVE_TRIES; existsSync(directory); tries -= 1) {
        try {
          rmdirSync(directory);
        } catch (error) {
          if (tries === 0) throw error;
          await pause(REMOVE_PAUSE_MS);
        }
      }
    }
    this.#undoController?.();
  }

  #makeIn(hierarchy: string): void {
    const directory = join(hierarchy, this.path);
    mkdirSync(directory);
    this.#directories.push(directory);
    for (const [file, value] of Object.entries(WEIGHT)) {
      if (existsSync(join(directory, file))) writeFileSync(join(directory, file), value);
    }
  }

  #hierarchies(): string[] {
    if (controllers(ROOT, 'cgroup.controllers').includes('cpu')) {
      this.#enableCpu();
      return [ROOT];
    }
    const found = V1_HIERARCHIES.map((name) => join(ROOT, name)).filter((directory) => existsSync(directory));
    const distinct = [...new Set(found.map((directory) => realpathSync(directory)))];
    if (!existsSync(join(ROOT, 'cpu', 'cpu.shares')) && !existsSync(join(ROOT, 'cpu,cpuacct', 'cpu.shares'))) {
      throw new Unsuitable(`${ROOT} has no cpu controller, neither of version 2 nor of version 1`);
    }
    return distinct;
  }

  /** Version 2 hands a controller to the children of a cgroup only when told so; systemd has usually done it. */
  #enableCpu(): void {
    const file = join(ROOT, 'cgroup.subtree_control');
    if (controllers(ROOT, 'cgroup.subtree_control').includes('cpu')) return;
    try {
      writeFileSync(file, '+cpu');
    } catch (error) {
      throw new Unsuitable(`the cpu controller cannot be enabled in ${file} (a container?): ${String(error)}`);
    }
    this.#undoController = () => writeFileSync(file, '-cpu');
  }
}

function controllers(directory: string, file: string): string[] {
  const path = join(directory, file);
  return existsSync(path) ? readFileSync(path, 'utf8').trim().split(/\s+/) : [];
}
