/**
 * NVML on a real driver: every channel against nvidia-smi's own answer. Only with SKOS_TEST_GPU=1.
 *
 * nvidia-smi is asked before and after; a value must lie between the two answers, give or take what moves meanwhile.
 */
import { execFileSync } from 'node:child_process';
import t from 'tap';

const SKIP =
  process.env.SKOS_TEST_GPU === '1' ? false : 'SKOS_TEST_GPU=1 is not set: needs a machine with an NVIDIA GPU';
const BUILD = 'build/native-bench';

/** What nvidia-smi calls it, our units per unit of nvidia-smi's, and how far it may move within a second, in our units. */
interface Counterpart {
  readonly query: string;
  readonly scale: number;
  readonly tolerance: number;
}

const MIB = 1024 * 1024;
const MHZ = 1_000_000;
const same = (query: string, scale = 1): Counterpart => ({ query, scale, tolerance: 0 });
const near = (query: string, scale: number, tolerance: number): Counterpart => ({ query, scale, tolerance });

const COUNTERPARTS: Readonly<Record<string, Counterpart>> = {
  temperature: near('temperature.gpu', 1000, 3000),
  temperature_memory: near('temperature.memory', 1000, 3000),
  margin: near('temperature.gpu.tlimit', 1000, 3000),
  power: near('power.draw', 1000, 50_000),
  power_average: near('power.draw.average', 1000, 50_000),
  power_instant: near('power.draw.instant', 1000, 150_000),
  power_limit: near('power.limit', 1000, 10),
  power_limit_enforced: near('enforced.power.limit', 1000, 10),
  power_limit_default: near('power.default_limit', 1000, 10),
  power_limit_min: near('power.min_limit', 1000, 10),
  power_limit_max: near('power.max_limit', 1000, 10),
  clock_graphics: near('clocks.gr', MHZ, 400 * MHZ),
  clock_sm: near('clocks.sm', MHZ, 400 * MHZ),
  clock_memory: near('clocks.mem', MHZ, 400 * MHZ),
  clock_video: near('clocks.video', MHZ, 400 * MHZ),
  clock_graphics_max: same('clocks.max.gr', MHZ),
  clock_sm_max: same('clocks.max.sm', MHZ),
  clock_memory_max: same('clocks.max.mem', MHZ),
  utilization: near('utilization.gpu', 10_000, 300_000),
  utilization_memory: near('utilization.memory', 10_000, 300_000),
  memory_total: near('memory.total', MIB, MIB),
  memory_used: near('memory.used', MIB, 64 * MIB),
  memory_reserved: near('memory.reserved', MIB, MIB),
  fan: near('fan.speed', 10_000, 50_000),
  performance_state: near('pstate', 1, 2),
  throttled_power: near('clocks_event_reasons_counters.sw_power_cap', 1e-3, 2000),
  throttled_thermal: near('clocks_event_reasons_counters.sw_thermal_slowdown', 1e-3, 2000),
  throttled_hardware: near('clocks_event_reasons_counters.hw_thermal_slowdown', 1e-3, 2000),
  throttled_power_brake: near('clocks_event_reasons_counters.hw_power_brake_slowdown', 1e-3, 2000),
  ecc_corrected_volatile: same('ecc.errors.corrected.volatile.total'),
  ecc_uncorrected_volatile: same('ecc.errors.uncorrected.volatile.total'),
  ecc_corrected_aggregate: same('ecc.errors.corrected.aggregate.total'),
  ecc_uncorrected_aggregate: same('ecc.errors.uncorrected.aggregate.total'),
  ecc_corrected_volatile_dram: same('ecc.errors.corrected.volatile.dram'),
  ecc_uncorrected_volatile_dram: same('ecc.errors.uncorrected.volatile.dram'),
  ecc_corrected_volatile_sram: same('ecc.errors.corrected.volatile.sram'),
  ecc_uncorrected_volatile_sram: same('ecc.errors.uncorrected.volatile.sram'),
  remapped_corrected: same('remapped_rows.correctable'),
  remapped_uncorrected: same('remapped_rows.uncorrectable'),
  remapped_pending: same('remapped_rows.pending'),
  remapped_failure: same('remapped_rows.failure'),
  retired_pages_single: same('retired_pages.single_bit_ecc.count'),
  retired_pages_double: same('retired_pages.double_bit.count'),
  retired_pending: same('retired_pages.pending'),
  pcie_generation: near('pcie.link.gen.current', 1, 4),
  pcie_width: same('pcie.link.width.current'),
  pcie_generation_max: same('pcie.link.gen.max'),
  pcie_width_max: same('pcie.link.width.max'),
  persistence_mode: same('persistence_mode'),
  ecc_mode: same('ecc.mode.current'),
  mig_mode: same('mig.mode.current'),
};

interface BenchChannel {
  readonly name: string;
  readonly quality: string;
  readonly value: number;
}

interface BenchGpu {
  readonly address: string;
  readonly uuid: string;
  readonly vbios: string;
  readonly driver: string;
  readonly name: string;
  readonly details: { readonly processes: readonly { readonly pid: number; readonly type: string }[] };
  readonly channels: readonly BenchChannel[];
}

function gpus(): BenchGpu[] {
  execFileSync('cmake', ['-S', 'native', '-B', BUILD, '-DCMAKE_BUILD_TYPE=Release', '-DSKOS_NATIVE_BENCHES=ON']);
  execFileSync('cmake', ['--build', BUILD, '--target', 'bench-nvml']);
  return JSON.parse(execFileSync(`${BUILD}/bench-nvml`, ['channels'], { encoding: 'utf8' }));
}

/** The queries that this nvidia-smi knows; one that it does not know makes the whole call fail. */
function knownQueries(): Set<string> {
  const help = execFileSync('nvidia-smi', ['--help-query-gpu'], { encoding: 'utf8' });
  return new Set([...help.matchAll(/"([a-z0-9_.]+)"/g)].map(([, name]) => name ?? ''));
}

/** Answers of one GPU by query. */
function ask(uuid: string, queries: readonly string[]): Map<string, string> {
  const line = execFileSync(
    'nvidia-smi',
    [`--id=${uuid}`, `--query-gpu=${queries.join(',')}`, '--format=csv,noheader,nounits'],
    { encoding: 'utf8' },
  );
  const answers = line.trim().split(/,\s*/);
  return new Map(queries.map((query, i) => [query, answers[i] ?? '']));
}

const WORDS: Readonly<Record<string, number>> = { Enabled: 1, Disabled: 0, Yes: 1, No: 0 };

/** undefined: nvidia-smi has no answer either. */
function numberOf(answer: string | undefined): number | undefined {
  if (answer === undefined) return undefined;
  const text = answer.replace(/^P(?=\d)/, '');
  const value = WORDS[text] ?? Number.parseFloat(text);
  return Number.isFinite(value) ? value : undefined;
}

t.test('reads what nvidia-smi reads, on every GPU', { skip: SKIP }, async (t) => {
  const known = knownQueries();
  const queries = Object.values(COUNTERPARTS)
    .map(({ query }) => query)
    .filter((query) => known.has(query));
  const first = gpus();
  t.ok(first.length > 0, 'there is a GPU');
  const before = new Map(first.map(({ uuid }) => [uuid, ask(uuid, queries)]));
  for (const gpu of gpus()) {
    const earlier = before.get(gpu.uuid);
    const later = ask(gpu.uuid, queries);
    let compared = 0;
    for (const [name, { query, scale, tolerance }] of Object.entries(COUNTERPARTS)) {
      const answers = [numberOf(earlier?.get(query)), numberOf(later.get(query))].filter((one) => one !== undefined);
      const channel = gpu.channels.find((one) => one.name === name);
      if (answers.length === 0) {
        if (channel !== undefined) t.comment(`${name} is not compared: nvidia-smi has no ${query}`);
        continue;
      }
      if (!t.ok(channel, `${gpu.address} has ${name}, because nvidia-smi has ${query}`) || channel === undefined)
        continue;
      t.equal(channel.quality, 'ok', `${name} is ok`);
      const low = Math.min(...answers) * scale - tolerance;
      const high = Math.max(...answers) * scale + tolerance;
      t.ok(channel.value >= low && channel.value <= high, `${name}: ${channel.value} is within ${low} … ${high}`);
      compared++;
    }
    t.ok(compared >= 15, `${compared} channels compared`);
    const others = gpu.channels.filter(({ name }) => !(name in COUNTERPARTS)).map(({ name }) => name);
    t.comment(`${gpu.address} without a counterpart: ${others.join(' ')}`);
  }
});

t.test('names the GPU, its driver and its compute processes as nvidia-smi does', { skip: SKIP }, async (t) => {
  for (const gpu of gpus()) {
    const answers = ask(gpu.uuid, ['name', 'driver_version', 'vbios_version', 'pci.bus_id']);
    t.equal(gpu.name, answers.get('name'));
    t.equal(gpu.driver, answers.get('driver_version'));
    t.equal(gpu.vbios, answers.get('vbios_version'));
    t.ok(answers.get('pci.bus_id')?.toLowerCase().endsWith(gpu.address), 'PCI address');
    const apps = execFileSync(
      'nvidia-smi',
      [`--id=${gpu.uuid}`, '--query-compute-apps=pid', '--format=csv,noheader,nounits'],
      { encoding: 'utf8' },
    );
    const pids = [...apps.matchAll(/^\d+/gm)].map(Number).sort();
    const ours = gpu.details.processes.filter(({ type }) => type === 'compute').map(({ pid }) => pid);
    t.same([...ours].sort(), pids);
  }
});
