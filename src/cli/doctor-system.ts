/** `skos doctor`: what SKOS needs of the kernel and of systemd, and which other programs move the same things. */
import { stat } from 'node:fs/promises';
import {
  type OtherController,
  otherControllers,
  type RunningProcess,
  runningProcesses,
} from '../sensors/controllers.js';
import type { Finding } from '../sensors/finding.js';
import type { Io } from './command.js';
import type { Seen, Trees } from './doctor-machine.js';
import { clockText } from './format.js';

const OTHERS_READ = 0o004;
/** Older than this program: the clock was never set, or its battery is empty. */
const EARLIEST_SANE_MS = Date.UTC(2025, 0, 1);
/** Kernel names, at most 15 characters. */
const TIME_SERVICES = ['chronyd', 'ntpd', 'ntpd-rs', 'systemd-timesyn', 'timemaster', 'phc2sys'];

export async function systemFindings(seen: Seen, io: Pick<Io, 'env' | 'wallMs'>): Promise<Finding[]> {
  const processes = await runningProcesses(seen.trees.proc);
  return [
    await kernelLog(seen),
    ...(await energy(seen)),
    await cgroups(seen),
    await journal(seen.trees, io.env),
    clock(processes, io.wallMs()),
    ...(await controllers(seen, processes)),
  ];
}

/** Source: Documentation/ABI/testing/dev-kmsg; sysctl kernel.dmesg_restrict. */
async function kernelLog({ trees, agent }: Seen): Promise<Finding> {
  const check = 'system.kernel_log';
  const mode = await modeOf(trees.dev.absolute('kmsg'));
  if (mode === undefined) {
    const what = '/dev/kmsg is missing: XIDs, machine checks and OOM kills are not seen';
    return { check, state: 'note', what, next: 'in a container: give it /dev/kmsg' };
  }
  const unread = agent?.status.notFound.find((line) => line.startsWith('kernel log: '));
  if (unread !== undefined) {
    const next =
      'use the units: skos-kmsg.socket hands it to the agent (systemctl status skos-kmsg.socket); or run it as root';
    return { check, state: 'note', what: `${unread}: XIDs, machine checks and OOM kills are not seen`, next };
  }
  if (agent !== undefined) return { check, state: 'ok', what: 'the agent follows the kernel log' };
  const restricted = (await trees.proc.integer('sys/kernel/dmesg_restrict')) === 1;
  const isOpen = !restricted && (mode & OTHERS_READ) !== 0;
  const what = isOpen
    ? 'the kernel log may be read by anyone'
    : 'the kernel log is for root only; systemd opens it for the agent';
  return { check, state: 'ok', what };
}

async function modeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mode;
  } catch {
    return undefined;
  }
}

/** The counters are root's since they were found to leak keys (CVE-2020-8694). */
async function energy({ trees: { sysfs }, agent }: Seen): Promise<Finding[]> {
  const check = 'system.rapl';
  const zones = await sysfs.list('class/powercap', /^(intel|amd)-rapl(-mmio)?:\d+$/);
  if (zones.length === 0) return [];
  if (agent?.status.actuator.connected) {
    return [{ check, state: 'ok', what: `CPU power: ${zones.length} RAPL zones, read by the actuator` }];
  }
  const what = `CPU power: ${zones.length} RAPL zones, whose counters only root may read: no power without an actuator`;
  return [{ check, state: 'note', what, next: 'start skos-actuator.service' }];
}

async function cgroups({ trees: { cgroup }, config }: Seen): Promise<Finding> {
  const check = 'system.cgroup';
  if (await cgroup.exists('cgroup.controllers')) return { check, state: 'ok', what: 'cgroups are version 2' };
  const legacy = await cgroup.list('', /^(cpu|cpuacct|cpu,cpuacct|freezer)$/);
  // What limits and freezes has files of version 1 too (native/actuator/README.md).
  if (legacy.includes('freezer') && legacy.length > 1)
    return { check, state: 'ok', what: 'cgroups are version 1, with limits and freezing' };
  const targets = Object.keys(config.targets).length;
  const state = targets > 0 ? 'problem' : 'note';
  const is =
    legacy.length > 0 ? 'cgroups are version 1, without cpu or freezer' : `no cgroups are mounted at ${cgroup.root}`;
  const what = `${is}: workloads can be neither limited nor frozen${targets > 0 ? `, but the configuration lists ${targets}` : ''}`;
  return { check, state, what, next: 'boot with systemd.unified_cgroup_hierarchy=1' };
}

async function journal({ root }: Trees, env: Io['env']): Promise<Finding> {
  const check = 'system.journal';
  const named = env.SKOS_JOURNAL_SOCKET;
  const isThere = named ? (await modeOf(named)) !== undefined : await root.exists('run/systemd/journal/socket');
  if (isThere) return { check, state: 'ok', what: "systemd's journal is there" };
  return { check, state: 'note', what: "systemd's journal is not there: the log goes to standard error" };
}

function clock(processes: readonly RunningProcess[], wallMs: number): Finding {
  const check = 'system.clock';
  const now = clockText(wallMs);
  if (wallMs < EARLIEST_SANE_MS) {
    const what = `the clock says ${now}: the times in the record are wrong; decisions do not use it`;
    return {
      check,
      state: 'problem',
      what,
      next: 'set it (timedatectl set-time), and look at the battery of the board',
    };
  }
  const service = processes.find(({ comm }) => TIME_SERVICES.includes(comm));
  if (service !== undefined) return { check, state: 'ok', what: `the clock says ${now}, kept by ${service.comm}` };
  return { check, state: 'ok', what: `the clock says ${now}; no time service runs, so compare it now and then` };
}

// ---- Other controllers -------------------------------------------------------------------------------------------------

async function controllers({ trees, agent }: Seen, processes: readonly RunningProcess[]): Promise<Finding[]> {
  const found = await otherControllers(trees, processes);
  if (found.length === 0) {
    return [{ check: 'controllers.none', state: 'ok', what: 'no other program that moves limits or fans is running' }];
  }
  const targets = agent?.status.armed ? agent.status.actuator.targets.map(({ target }) => target) : [];
  return found.map((each) => controller(each, targets));
}

/** Armed, and both have a hand on the same: then one undoes what the other does. */
function controller({ name, pid, moves, kinds }: OtherController, targets: readonly string[]): Finding {
  const check = `controllers.${name}`;
  const who = pid === null ? name : `${name} (pid ${pid})`;
  if (kinds.length === 0) return { check, state: 'note', what: `${who} moves ${moves}` };
  const shared = targets.filter((target) => kinds.includes(target.split('/')[0] ?? ''));
  const stop = `systemctl disable --now ${name}`;
  if (shared.length > 0) {
    const what = `${who} moves ${moves}; SKOS is armed and moves ${shared.slice(0, 3).join(', ')}${shared.length > 3 ? ' …' : ''} too`;
    return { check, state: 'problem', what, next: `let one of them do it: ${stop}, or sudo skos disarm` };
  }
  const what = `${who} moves ${moves}`;
  return { check, state: 'note', what, next: `let one of them move it: ${stop} before SKOS may` };
}
