/** This machine as the agent and the CLI see it: its trees, what discovery finds there, and its allow-list. */
import { actuatorFacts } from '../actuators/facts.js';
import { cgroupPath } from '../config/check-units.js';
import { compileAllowList } from '../config/compile.js';
import type { Config } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import type { Discovery } from '../core/ports.js';
import { discoverAll } from '../sensors/discover.js';
import { type LmSensorsConf, loadSensorsConf } from '../sensors/lm-sensors.js';
import { SOURCES } from '../sensors/sources.js';
import { FileTree, type Roots, rootsFromEnvironment } from '../sensors/tree.js';

export class Machine {
  readonly roots: Roots;
  readonly sysfs: FileTree;
  readonly proc: FileTree;
  readonly cgroup: FileTree;
  #sensorsConf: Promise<LmSensorsConf> | undefined;

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.roots = rootsFromEnvironment(env);
    this.sysfs = new FileTree(this.roots.sysfs);
    this.proc = new FileTree(this.roots.proc);
    this.cgroup = new FileTree(this.roots.cgroup);
  }

  /** A read of discovery has not returned from its driver. */
  get isStuck(): boolean {
    return [this.sysfs, this.proc, this.cgroup].some(({ stuck }) => stuck.length > 0);
  }

  /** `hasActuator`: somebody will ask one for what it alone may read. */
  async discover(
    config: Config,
    {
      hasActuator = config.actuator.mode !== 'off',
      sourceDeadlineMs,
    }: { hasActuator?: boolean; sourceDeadlineMs?: number } = {},
  ): Promise<Discovery> {
    // Read once: lm-sensors itself reads its configuration when a program starts.
    this.#sensorsConf ??= loadSensorsConf();
    return discoverAll(SOURCES, {
      trees: { sysfs: this.sysfs, proc: this.proc, cgroup: this.cgroup },
      rateHz: config.sampling.rate_hz,
      targets: cgroupTargets(config),
      workloads: workloadUnits(config),
      hasActuator,
      sensorsConf: await this.#sensorsConf,
      ...(sourceDeadlineMs === undefined ? {} : { sourceDeadlineMs }),
    });
  }

  /** The text of the allow-list for these channels. */
  async allowList(given: {
    config: Config;
    channels: readonly Channel[];
    /** User id of the agent. */
    controllerUid: number;
  }): Promise<string> {
    return compileAllowList({ ...given, sysfsRoot: this.sysfs.root, facts: await actuatorFacts(this) });
  }
}

/** Target name → path below the cgroup root. */
function cgroupTargets({ targets }: Config): Record<string, string> {
  const paths: Record<string, string> = {};
  for (const [name, { cgroup }] of Object.entries(targets)) if (cgroup !== undefined) paths[name] = cgroupPath(cgroup);
  return paths;
}

/** Name → unit. A workload goes before a target of the same name, which is as a rule the same unit. */
export function workloadUnits({ targets, workloads }: Config): Record<string, string> {
  const named: Record<string, string> = {};
  for (const [name, { unit }] of Object.entries(targets)) if (unit !== undefined) named[name] = unit;
  for (const [name, { unit }] of Object.entries(workloads)) named[name] = unit;
  return named;
}
