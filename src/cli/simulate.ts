/**
 * `skos simulate`: hours of a machine that is not there, on the policy that runs: what the configuration would do when loads change,
 * fans fail and sensors are lost. Touches nothing of this machine and needs no agent.
 */
import { ANTIBODIES } from '../antibodies/antibodies.js';
import type { Config } from '../config/schema.js';
import { Simulation, type SimulationReport } from '../control/simulation.js';
import { SkosError } from '../core/errors.js';
import { MODES, type Mode, SEVERITIES } from '../core/vocabulary.js';
import { type Command, type Invocation, type Io, textOption, type Values } from './command.js';
import { EXIT } from './exit-codes.js';
import { paint, plural, spanText } from './format.js';
import { countOption } from './number-option.js';
import { Progress } from './progress.js';
import { tableLines, wrapped } from './table.js';

const DEFAULT_HOURS = 24;
const DEFAULT_GPUS = 2;
/** More GPUs than any machine has. */
const MAX_GPUS = 64;
const MAX_FAULTS = 100;
const MAX_SEED = 2 ** 31;

export const simulate: Command = {
  name: 'simulate',
  summary: 'what the configuration does on a simulated machine',
  usage: [
    'simulate [--hours N] [--nodes N] [--gpus N] [--faults N] [--seed N]',
    'simulate [--hours N] [--mode MODE] [--json]',
  ],
  details:
    'A CPU and GPUs that follow a first-order thermal model, under a changing load, with fans that fail, cooling that wears, sensors ' +
    'that are noisy, drop out, hang or fall silent, and an agent that dies now and then. Policy and executor are those that run on a ' +
    'node. No unit is started: what would need one is unavailable. The same seed gives the same hours.',
  options: {
    hours: { type: 'string' },
    nodes: { type: 'string' },
    seed: { type: 'string' },
    gpus: { type: 'string' },
    faults: { type: 'string' },
    mode: { type: 'string' },
    json: { type: 'boolean' },
  },
  optionHelp: {
    hours: `N: simulated hours of each node (default ${DEFAULT_HOURS})`,
    nodes: 'N: machines, each another one (default 1)',
    seed: 'N: of the first machine; the next one has the next number (default: drawn)',
    gpus: `N: of each machine (default ${DEFAULT_GPUS})`,
    faults: 'N: how often things fail: 0 never, 1 some times a day, 10 ten times that (default 1)',
    mode: 'MODE: observe, propose or auto (default auto: as if the node were armed)',
    json: 'one JSON object for each node, a line each',
  },
  examples: [
    ['skos simulate --hours 1000 --seed 7', 'Six weeks of a machine.'],
    ['skos simulate --config /tmp/new.yaml --seed 7 --hours 1000', 'The same weeks with another configuration.'],
  ],

  async run({ values }: Invocation, { io, config: load }) {
    const { config } = await load();
    const asked = askedOf(values);
    const simulated: Config = { ...config, mode: asked.mode };
    const isJson = values.json === true;
    if (!isJson) io.out(headText(asked, io));
    const progress = new Progress({ io, quiet: isJson });
    for (let node = 0; node < asked.nodes && !io.signal.aborted; node++) {
      const seed = asked.seed + node;
      const { hours, gpus, faults } = asked;
      const simulation = new Simulation({ config: simulated, antibodies: ANTIBODIES, seed, hours, gpus, faults });
      const stop = () => simulation.stop();
      io.signal.addEventListener('abort', stop, { once: true });
      progress.show({ what: 'simulating', fraction: node / asked.nodes, bytes: null });
      const startMs = performance.now();
      const report = await simulation.run();
      const tookMs = performance.now() - startMs;
      io.signal.removeEventListener('abort', stop);
      progress.clear();
      io.out(isJson ? JSON.stringify(report) : reportText(report, tookMs, io));
      await io.drained?.();
    }
    return io.signal.aborted ? EXIT.interrupted : EXIT.ok;
  },
};

interface Asked {
  readonly hours: number;
  readonly nodes: number;
  readonly seed: number;
  readonly gpus: number;
  readonly faults: number;
  readonly mode: Mode;
}

function askedOf(values: Values): Asked {
  const count = (name: string, fallback: number, min = 1) =>
    countOption(textOption(values, name), name, min) ?? fallback;
  const gpus = count('gpus', DEFAULT_GPUS, 0);
  const faults = count('faults', 1, 0);
  if (gpus > MAX_GPUS) throw new SkosError('SKOS_CLI_USAGE', `--gpus ${gpus}: at most ${MAX_GPUS}`);
  if (faults > MAX_FAULTS) throw new SkosError('SKOS_CLI_USAGE', `--faults ${faults}: at most ${MAX_FAULTS}`);
  return {
    hours: count('hours', DEFAULT_HOURS),
    nodes: count('nodes', 1),
    seed: seedOf(textOption(values, 'seed')),
    gpus,
    faults,
    mode: modeOption(values) ?? 'auto',
  };
}

/** undefined when the option was not given. */
export function modeOption(values: Values): Mode | undefined {
  const text = textOption(values, 'mode');
  const mode = MODES.find((each) => each === text);
  if (text === undefined || mode !== undefined) return mode;
  throw new SkosError('SKOS_CLI_USAGE', `--mode "${text}" is not known; expected one of ${MODES.join(', ')}`);
}

function seedOf(text: string | undefined): number {
  if (text === undefined) return Math.floor(Math.random() * MAX_SEED);
  const seed = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (seed < MAX_SEED) return seed;
  throw new SkosError('SKOS_CLI_USAGE', `--seed "${text}" is not a whole number below ${MAX_SEED}`);
}

// ---- Text --------------------------------------------------------------------------------------------------------------

function headText({ hours, nodes, seed, gpus, faults, mode }: Asked, { columns }: Io): string {
  const what = `${plural(nodes, 'node')} for ${plural(hours, 'hour')}, a CPU and ${plural(gpus, 'GPU')} each, mode ${mode}, faults ×${faults}, seed ${seed}`;
  return wrapped(what, { width: columns }).join('\n');
}

function reportText(report: SimulationReport, tookMs: number, io: Io): string {
  const { bold, dim } = paint(io.color);
  const { seed, hours, outages, leases } = report;
  const perMinute = Math.round((hours * 60_000) / Math.max(1, tookMs));
  return [
    bold(`Seed ${seed}: ${hours.toFixed(0)} hours, the agent died ${plural(outages, 'time')}`),
    ...deviceLines(report, io),
    ...ruleLines(report, io),
    ...actionLines(report, io),
    `  caps: ${leases.set} set, ${leases.released} released, ${leases.ended} ended without an agent`,
    dim(`  ${perMinute} simulated hours a minute; ${report.moments} of ${report.momentsInAll} moments could matter`),
  ].join('\n');
}

const RIGHT = { align: 'right' } as const;

function deviceLines({ devices, cappedMs }: SimulationReport, { columns, color }: Io): string[] {
  const { dim } = paint(color);
  const header = ['', 'hottest', ...SEVERITIES.map((severity) => `above ${severity}`)];
  const rows = devices.map(({ label, hottestCelsius, bounds, msAbove }) => [
    { text: label },
    { text: `${hottestCelsius.toFixed(1)} °C` },
    ...bounds.map((bound, i) => ({ text: `${bound}: ${spanText(msAbove[i] ?? 0)}` })),
  ]);
  const capped = Object.entries(cappedMs).map(([target, ms]) => `${target} ${spanText(ms)}`);
  return [
    ...tableLines({
      columns: [{ shrinkTo: 8 }, RIGHT, RIGHT, RIGHT, RIGHT],
      rows: [header.map((text) => ({ text, paint: dim })), ...rows],
      width: columns,
      indent: 2,
    }),
    ...wrapped(`capped: ${capped.length === 0 ? 'never' : capped.join(', ')}`, { width: columns, indent: '  ' }),
  ];
}

function ruleLines({ rules, hours }: SimulationReport, { columns, color }: Io): string[] {
  if (rules.length === 0) return ['  no rule fired'];
  const { dim } = paint(color);
  const header = ['rule', 'channel', 'fired', 'a day', 'flapped', 'most in 10 min', 'closest'];
  const rows = rules.map((rule) => [
    { text: rule.rule },
    { text: rule.channel },
    { text: String(rule.fired) },
    { text: ((rule.fired * 24) / Math.max(hours, 1)).toFixed(1) },
    { text: String(rule.flapped) },
    { text: `${rule.mostEntries} of ${rule.allowedEntries}` },
    { text: rule.closestMs === null ? '–' : `${(rule.closestMs / 1000).toFixed(1)} s` },
  ]);
  return tableLines({
    columns: [{}, { shrinkTo: 12 }, RIGHT, RIGHT, RIGHT, RIGHT, RIGHT],
    rows: [header.map((text) => ({ text, paint: dim })), ...rows],
    width: columns,
    indent: 2,
  });
}

function actionLines({ actions }: SimulationReport, { columns }: Io): string[] {
  const texts = actions.map(({ action, state, begun }) => `${action} ${state} ${begun}×`);
  return wrapped(`actions: ${texts.length === 0 ? 'none' : texts.join(', ')}`, { width: columns, indent: '  ' });
}
