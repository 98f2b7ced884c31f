/**
 * A simulated machine: the few files of /sys that a node with one CPU package, four cpufreq policies and one batch job
 * shows, and the heat behind them. The loop is really closed: heat follows the cap that stands in scaling_max_freq and
 * the batch job's cgroup.freeze, which only the actuator writes.
 *
 * Heat is of first order: the temperature goes towards ambient + resistance × power, with one time constant. Power is a
 * static share and one with the square of the clock.
 */
import { closeSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';

const AMBIENT_CELSIUS = 35;
/** At full power: 68 °C with the fan, 175 °C without. */
const RESISTANCE_CELSIUS = { withFan: 33, withoutFan: 140 };
const STATIC_SHARE = 0.3;
const POLICIES = 4;
const MAX_KHZ = 3_000_000;
const MIN_KHZ = 1_000_000;
/** A multiple of the rate at which it is sampled, so that the node sees a curve and no stairs. */
const STEP_MS = 50;
/** Wide enough for any temperature: the file never changes its length, so that no reader sees half a number. */
const WIDTH = 7;

const ZONE = 'devices/virtual/thermal/thermal_zone0';
const policy = (number: number): string => `devices/system/cpu/cpufreq/policy${number}`;
const ALL_POLICIES = Array.from({ length: POLICIES }, (_, number) => policy(number));

export const CHANNELS = { temperature: 'thermal_zone/x86_pkg_temp/0', frequency: 'cpu/policy0/frequency' };

export class SimulatedMachine {
  readonly roots: Readonly<Record<string, string>>;
  readonly #sysfs: string;
  readonly #cgroup: string;
  readonly #timeConstantMs: number;
  #celsius = AMBIENT_CELSIUS + 10;
  #timer: NodeJS.Timeout | undefined;
  /** Shares of the CPU that the jobs take while they run. */
  load = { training: 0.08, batch: 0 };
  hasFan = true;

  constructor({ directory, timeConstantSeconds }: { directory: string; timeConstantSeconds: number }) {
    this.#timeConstantMs = timeConstantSeconds * 1000;
    this.#sysfs = join(directory, 'sys');
    this.#cgroup = join(directory, 'cgroup');
    this.roots = {
      SKOS_SYSFS_ROOT: this.#sysfs,
      SKOS_CGROUP_ROOT: this.#cgroup,
      SKOS_PROC_ROOT: join(directory, 'proc'),
      SKOS_DEV_ROOT: join(directory, 'dev'),
    };
    for (const root of Object.values(this.roots)) mkdirSync(root);
    this.#makeFiles();
  }

  start(): void {
    this.#timer = setInterval(() => this.#step(STEP_MS), STEP_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #makeFiles(): void {
    this.#make(this.#sysfs, `${ZONE}/type`, 'x86_pkg_temp');
    this.#make(this.#sysfs, `${ZONE}/temp`, this.#milliCelsius());
    mkdirSync(join(this.#sysfs, 'class/thermal'), { recursive: true });
    symlinkSync(`../../${ZONE}`, join(this.#sysfs, 'class/thermal/thermal_zone0'));
    for (const [number, directory] of ALL_POLICIES.entries()) {
      const limits = { cpuinfo_max_freq: MAX_KHZ, cpuinfo_min_freq: MIN_KHZ, scaling_min_freq: MIN_KHZ };
      const clocks = { scaling_max_freq: MAX_KHZ, scaling_cur_freq: MAX_KHZ, affected_cpus: number };
      for (const [name, value] of Object.entries({ ...limits, ...clocks, related_cpus: number })) {
        this.#make(this.#sysfs, `${directory}/${name}`, String(value));
      }
    }
    this.#make(this.#cgroup, 'cgroup.controllers', 'cpu memory');
    const batch = { 'cgroup.freeze': '0', 'cpu.max': 'max 100000', 'cpu.stat': 'usage_usec 0' };
    for (const [name, value] of Object.entries(batch)) this.#make(this.#cgroup, `batch/${name}`, value);
  }

  #make(root: string, path: string, text: string): void {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }

  #step(ms: number): void {
    const cap = Math.min(...ALL_POLICIES.map((directory) => this.#number(`${directory}/scaling_max_freq`)));
    const isFrozen = readFileSync(join(this.#cgroup, 'batch/cgroup.freeze'), 'utf8').trim() === '1';
    const clock = cap / MAX_KHZ;
    const load = this.load.training + (isFrozen ? 0 : this.load.batch);
    const power = load * (STATIC_SHARE + (1 - STATIC_SHARE) * clock ** 2);
    const resistance = this.hasFan ? RESISTANCE_CELSIUS.withFan : RESISTANCE_CELSIUS.withoutFan;
    const goal = AMBIENT_CELSIUS + resistance * power;
    this.#celsius += (goal - this.#celsius) * (1 - Math.exp(-ms / this.#timeConstantMs));
    this.#set(`${ZONE}/temp`, this.#milliCelsius());
    for (const directory of ALL_POLICIES) this.#set(`${directory}/scaling_cur_freq`, String(cap));
  }

  #milliCelsius(): string {
    // Sensors of this kind have a resolution of an eighth of a degree.
    return String(Math.round(this.#celsius * 8) * 125).padEnd(WIDTH);
  }

  #number(path: string): number {
    return Number(readFileSync(join(this.#sysfs, path), 'utf8'));
  }

  /** In place and in one write, as the kernel's own files change. */
  #set(path: string, text: string): void {
    const file = openSync(join(this.#sysfs, path), 'r+');
    writeSync(file, `${text}\n`, 0);
    closeSync(file);
  }
}
