/**
 * Other programs that move what SKOS may move. Two hands on one knob undo each other, each seeing the other's as a foreign change.
 * They are found by the names of running processes; nothing is asked of them.
 */
import { posix } from 'node:path';
import type { Tree } from '../core/ports.js';
import { compareNaturally } from './tree.js';

export interface RunningProcess {
  readonly pid: number;
  /** The kernel's name, at most 15 characters. */
  readonly comm: string;
}

export interface OtherController {
  readonly name: string;
  readonly pid: number | null;
  /** What it moves, or what it keeps. */
  readonly moves: string;
  /** Kinds of targets as the actuator names them. Empty: it moves nothing. */
  readonly kinds: readonly string[];
}

interface Known {
  readonly name: string;
  readonly moves: string;
  readonly kinds: readonly string[];
}

const CPU = ['cpufreq', 'intel_pstate'];

/** Each as its own manual page describes it. */
const KNOWN: readonly Known[] = [
  { name: 'thermald', moves: 'CPU frequency and power limits, and cooling devices', kinds: [...CPU, 'rapl'] },
  { name: 'tuned', moves: 'governor, frequency bounds and energy preference of the CPUs', kinds: CPU },
  { name: 'power-profiles-daemon', moves: 'the platform profile and energy preference of the CPUs', kinds: CPU },
  { name: 'auto-cpufreq', moves: 'governor, turbo and frequency bounds of the CPUs', kinds: CPU },
  { name: 'nvidia-powerd', moves: 'power between CPU and GPU (Dynamic Boost)', kinds: ['gpu', 'rapl'] },
  {
    name: 'nv-hostengine',
    moves: "GPU power limits and clocks, as DCGM's policies and configuration say",
    kinds: ['gpu'],
  },
  { name: 'fancontrol', moves: 'fan speeds', kinds: ['fan'] },
  {
    name: 'slurmd',
    moves: 'what its prolog and epilog set: GPU clocks and power limits, CPU frequency',
    kinds: [...CPU, 'gpu'],
  },
  {
    name: 'nvidia-persistenced',
    moves: 'nothing; it keeps GPUs open, so that it must stop before a driver upgrade',
    kinds: [],
  },
];
const TLP: Known = {
  name: 'tlp',
  moves: 'frequency bounds, governor and power saving of devices, once at each start',
  kinds: CPU,
};

/** TASK_COMM_LEN without its terminator. */
const COMM_LENGTH = 15;
/** Daemons that are scripts may run under the name of their interpreter. */
const INTERPRETER = /^(python|perl|bash|sh$|dash)/;
/** Far beyond what a node runs; a machine with more is searched in part. */
const MAX_PROCESSES = 32_768;
const MAX_COMMAND_LINE_BYTES = 4096;

export async function runningProcesses(proc: Tree): Promise<RunningProcess[]> {
  const pids = (await proc.list('', /^\d+$/)).slice(0, MAX_PROCESSES);
  const processes = await Promise.all(
    pids.map(async (pid) => ({ pid: Number(pid), comm: await proc.text(`${pid}/comm`) })),
  );
  // Gone in between, or hidden from us (hidepid).
  return processes.flatMap(({ pid, comm }) => (comm === undefined ? [] : [{ pid, comm }]));
}

/** `root`: the root file system, where TLP leaves its state and tuned the name of its profile. */
export async function otherControllers(
  { proc, root }: { readonly proc: Tree; readonly root: Tree },
  processes: readonly RunningProcess[],
): Promise<OtherController[]> {
  const found = new Map<string, OtherController>();
  for (const { pid, comm } of processes) {
    const known = await controllerOf(proc, { pid, comm });
    if (known === undefined || found.has(known.name)) continue;
    const profile = known.name === 'tuned' ? await root.text('etc/tuned/active_profile') : undefined;
    found.set(known.name, { ...known, pid, moves: profile ? `${known.moves} (profile ${profile})` : known.moves });
  }
  // No daemon: it sets things at boot and when the power supply changes.
  if (await root.exists('run/tlp')) found.set(TLP.name, { ...TLP, pid: null });
  return [...found.values()].sort((a, b) => compareNaturally(a.name, b.name));
}

async function controllerOf(proc: Tree, { pid, comm }: RunningProcess): Promise<Known | undefined> {
  const known = KNOWN.find(({ name }) => name.slice(0, COMM_LENGTH) === comm);
  if (known !== undefined && known.name.length <= COMM_LENGTH) return known;
  if (known === undefined && !INTERPRETER.test(comm)) return undefined;
  const words = ((await proc.text(`${pid}/cmdline`, { maxBytes: MAX_COMMAND_LINE_BYTES })) ?? '').split('\0');
  const names = words.slice(0, 3).map((word) => posix.basename(word));
  // A command line that cannot be read leaves the beginning of the name, which none of the others shares.
  if (known !== undefined) return words[0] === '' || names.includes(known.name) ? known : undefined;
  return KNOWN.find(({ name }) => names.includes(name));
}
