/**
 * `skos config suggest`: thresholds made of what this node ordinarily does, as YAML to be read and put into conf.d by a person. It
 * writes nothing.
 *
 * The statistic, of each temperature that the default table binds to: the greatest value of each minute; of these the 99.9th percentile
 * (nearest rank) is its ordinary peak, so that ten minutes of a week lie above it, and a single outlier does not move it. A channel
 * with less than a day of minutes proposes nothing. Where a device has several, the hottest decides for it. Then
 *
 *   warning  = peak + 5 °C,   critical = warning + what lies between the built-in warning and critical of the device
 *
 * each rounded up to a degree, and each proposed only where it is stricter than the built-in bound: those stay in force beside it, and
 * so does the emergency bound, which is the device's own limit less its margin. Where ordinary operation leaves no room below the
 * built-in bound, it says that and proposes nothing: a looser bound is for a person to decide.
 */
import { ANTIBODIES } from '../antibodies/antibodies.js';
import type { Config, RuleConfig } from '../config/schema.js';
import { statedCriticalCelsius, thermalBounds } from '../config/thermal-bounds.js';
import { Replay } from '../control/replay.js';
import type { AgentClient } from '../core/agent-client.js';
import { type Channel, isTemperature } from '../core/channel.js';
import { isoTimestamp } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import { type Context, type Invocation, textOption } from './command.js';
import { durationSeconds, MAX_SINCE_SECONDS } from './duration.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural, spanText } from './format.js';
import { PastFeed } from './past-feed.js';
import { Progress } from './progress.js';
import { agentChannels, feedStored } from './replay.js';
import { episodeLines, totalLines } from './replay-text.js';
import { wrapped } from './table.js';

const DEFAULT_SINCE = '1w';
const MINUTE_MS = 60_000;
const DAY_MS = 1_440 * MINUTE_MS;
/** Points of a minute that a day has: the agent then gives minutes. */
const MINUTES_PER_DAY = 1_440;
const QUANTILE = 0.999;
const MARGIN_CELSIUS = 5;
/** Below it a week's night and day are not in it. */
const MIN_MINUTES = MINUTES_PER_DAY;
/** No silicon is so hot and lives: a reading beyond is a fault of the sensor. */
const MAX_PLAUSIBLE_CELSIUS = 150;
/** Sockets and GPUs of the largest node; each proposes two. */
const MAX_DEVICES = 64;
const NAME = 'suggested';
const WIDTH = 110;

/** Of one device: its channels of the default table, under one glob where that names no other. */
interface Device {
  readonly glob: string;
  readonly channels: readonly Channel[];
}

export interface Proposal {
  readonly severity: 'warning' | 'critical';
  readonly celsius: number;
}

export interface Finding {
  readonly glob: string;
  readonly minutes: number;
  /** null: too few minutes. */
  readonly peakCelsius: number | null;
  readonly peakOf: string;
  readonly builtIn: { readonly warning: number; readonly critical: number; readonly emergency: number };
  readonly limitCelsius: number | null;
  readonly proposals: readonly Proposal[];
}

export async function suggest({ values }: Invocation, { io, config: load, agent }: Context): Promise<number> {
  const { config } = await load();
  const sinceMs = durationSeconds(textOption(values, 'since') ?? DEFAULT_SINCE, MAX_SINCE_SECONDS) * 1000;
  const client = await agent();
  const channels = await agentChannels(client);
  const devices = devicesOf(channels);
  if (devices.length === 0) {
    throw new SkosError('SKOS_REPLAY_NOTHING', 'this machine has no temperature that the default table binds to');
  }
  const toAtMs = io.wallMs();
  const stretch = { fromAtMs: Math.max(0, toAtMs - sinceMs), toAtMs };
  const progress = new Progress({ io, quiet: io.overwrite === undefined });
  const minutes = await minutesOf(client, { devices, stretch, progress, isCancelled: () => io.signal.aborted });
  if (minutes === undefined) return EXIT.interrupted;
  const findings = devices.map((device) => findingOf(device, minutes, config));
  const rules = findings.flatMap(({ glob, proposals }, i) => proposals.map((each) => ruleOf(glob, each, i)));
  // An earlier suggestion that was taken over gives way to this one.
  const own = config.rules.filter(({ name }) => !name.startsWith(`${NAME}-`));
  const proposed: Config = { ...config, rules: [...own, ...rules] };
  const replay = new Replay({
    config: proposed,
    antibodies: ANTIBODIES,
    channels: devices.flatMap((each) => each.channels),
  });
  const feed = new PastFeed([replay]);
  const given = { replays: [replay], feed, stretch, progress, isCancelled: () => io.signal.aborted };
  if (!(await feedStored(client, { ...given, points: MAX_REPLAYED }))) return EXIT.interrupted;
  progress.clear();
  const plain = { color: false, columns: WIDTH, wallMs: io.wallMs };
  const report = replay.report();
  const fired = [
    ...totalLines(report, plain),
    ...episodeLines(report.episodes.slice(-SHOWN_EPISODES), () => 'temperatureMilliCelsius', plain),
  ];
  io.out(yamlText({ config, findings, rules, stretch, fired }));
  if (rules.length > 0)
    io.err(paint(io.color).dim('Nothing was written. Read it, then put it into conf.d and run `skos config check`.'));
  return EXIT.ok;
}

/** Of each channel: what the agent gives at most. */
const MAX_REPLAYED = 10_000;
const SHOWN_EPISODES = 10;

// ---- Channels ----------------------------------------------------------------------------------------------------------

function devicesOf(channels: readonly Channel[]): Device[] {
  const fit = channels.filter((channel) => channel.thermalDefault === true && isTemperature(channel));
  const byDevice = new Map<string, Channel[]>();
  for (const channel of fit) {
    const glob = `${channel.source}/${channel.device}/*`;
    byDevice.set(glob, [...(byDevice.get(glob) ?? []), channel]);
  }
  const devices = [...byDevice].flatMap(([glob, own]): Device[] => {
    // A rule for the glob must watch nothing that the table does not.
    const named = channels.filter(({ id }) => globMatches(glob, id));
    if (own.length > 1 && named.length === own.length) return [{ glob, channels: own }];
    return own.map((channel) => ({ glob: channel.id, channels: [channel] }));
  });
  return devices.slice(0, MAX_DEVICES);
}

interface Asked {
  readonly devices: readonly Device[];
  readonly stretch: { readonly fromAtMs: number; readonly toAtMs: number };
  readonly progress: Progress;
  readonly isCancelled: () => boolean;
}

/** Greatest value of each minute, °C, by channel. undefined: cancelled. */
async function minutesOf(
  client: AgentClient,
  { devices, stretch, progress, isCancelled }: Asked,
): Promise<ReadonlyMap<string, readonly number[]> | undefined> {
  const found = new Map<string, readonly number[]>();
  const ids = devices.flatMap(({ channels }) => channels.map(({ id }) => id));
  for (const [i, glob] of ids.entries()) {
    const greatest = new Map<number, number>();
    const feed = new PastFeed([], (_, { atMs, maximum }) => {
      if (maximum === null || maximum > MAX_PLAUSIBLE_CELSIUS) return;
      const minute = Math.floor(atMs / MINUTE_MS);
      greatest.set(minute, Math.max(greatest.get(minute) ?? Number.NEGATIVE_INFINITY, maximum));
    });
    for (let fromAtMs = stretch.fromAtMs; fromAtMs < stretch.toAtMs; fromAtMs += DAY_MS) {
      progress.show({ what: 'reading', fraction: i / ids.length, bytes: null });
      const toAtMs = Math.min(stretch.toAtMs, fromAtMs + DAY_MS);
      // One more, because a day that begins within a minute touches one more.
      const query = { glob, fromAtMs, toAtMs, points: MINUTES_PER_DAY + 1 };
      if (!(await feed.stored(client, query, isCancelled))) return undefined;
    }
    found.set(glob, [...greatest.values()]);
  }
  return found;
}

// ---- The statistic -----------------------------------------------------------------------------------------------------

/** Nearest rank. undefined: there is nothing. */
export function quantile(values: readonly number[], share: number): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

export function findingOf(
  { glob, channels }: Device,
  minutes: ReadonlyMap<string, readonly number[]>,
  config: Pick<Config, 'thermal'>,
): Finding {
  const peaks = channels.flatMap(({ id }) => {
    const values = minutes.get(id) ?? [];
    const peak = values.length < MIN_MINUTES ? undefined : quantile(values, QUANTILE);
    return peak === undefined ? [] : [{ id, peak }];
  });
  const hottest = peaks.reduce<(typeof peaks)[number] | undefined>(
    (most, each) => (most === undefined || each.peak > most.peak ? each : most),
    undefined,
  );
  const builtIn = strictest(channels, config);
  const limits = channels.flatMap((channel) => statedCriticalCelsius(channel) ?? []);
  return {
    glob,
    minutes: Math.max(0, ...channels.map(({ id }) => minutes.get(id)?.length ?? 0)),
    peakCelsius: hottest?.peak ?? null,
    peakOf: hottest?.id ?? '',
    builtIn,
    limitCelsius: limits.length === 0 ? null : Math.min(...limits),
    proposals: hottest === undefined ? [] : proposalsOf(hottest.peak, builtIn),
  };
}

/** Without what the operator wrote: the margin to the device's limit, or the table. */
function strictest(channels: readonly Channel[], { thermal }: Pick<Config, 'thermal'>): Finding['builtIn'] {
  const all = channels.map((channel) => thermalBounds({ thermal: { ...thermal, thresholds: null } }, channel));
  const least = (severity: 'warning' | 'critical' | 'emergency') => {
    return Math.min(...all.map((bounds) => bounds[severity].raise / 1000));
  };
  return { warning: least('warning'), critical: least('critical'), emergency: least('emergency') };
}

function proposalsOf(peak: number, builtIn: Finding['builtIn']): Proposal[] {
  const warning = Math.ceil(peak + MARGIN_CELSIUS);
  const critical = Math.ceil(warning + builtIn.critical - builtIn.warning);
  const wanted: Proposal[] = [
    { severity: 'warning', celsius: warning },
    { severity: 'critical', celsius: critical },
  ];
  return wanted.filter(({ severity, celsius }) => celsius < builtIn[severity]);
}

function ruleOf(glob: string, { severity, celsius }: Proposal, i: number): RuleConfig {
  return {
    name: `${NAME}-${severity}-${i + 1}`,
    channel: glob,
    class: undefined,
    raise: celsius,
    clear: celsius - MARGIN_CELSIUS,
    for: { seconds: 0, samples: 2 },
    keep: 10,
    severity,
    actions: [],
    mode: undefined,
    standing: false,
  };
}

// ---- Text --------------------------------------------------------------------------------------------------------------

interface Told {
  readonly config: Config;
  readonly findings: readonly Finding[];
  readonly rules: readonly RuleConfig[];
  readonly stretch: { readonly fromAtMs: number; readonly toAtMs: number };
  readonly fired: readonly string[];
}

function yamlText({ config, findings, rules, stretch, fired }: Told): string {
  const { fromAtMs, toAtMs } = stretch;
  const head =
    `Proposed by skos config suggest for ${config.node}, from the history between ${isoTimestamp(fromAtMs)} and ${isoTimestamp(toAtMs)}. ` +
    `Peak: the 99.9th percentile of the greatest value of each minute. warning: ${MARGIN_CELSIUS} °C above it. ` +
    `${config.thermal.thresholds === null ? 'The built-in bounds stay' : 'thermal.thresholds stays'} in force beside these rules, ` +
    'which only tell: give them actions if you want more.';
  return [
    ...comment(head),
    ...findings.filter(({ proposals }) => proposals.length === 0).flatMap((each) => comment(noneText(each))),
    ...(rules.length === 0 ? comment('There is nothing to propose.') : ['rules:']),
    ...findings.flatMap(({ glob, proposals, ...finding }, i) => {
      if (proposals.length === 0) return [];
      return [
        ...comment(reasonText({ glob, proposals, ...finding }), '  '),
        ...proposals.map((each) => ruleLine(ruleOf(glob, each, i))),
      ];
    }),
    ...comment('With it, and with all that is configured, over the same time:'),
    ...fired.map((line) => `#${line}`),
  ].join('\n');
}

function comment(text: string, indent = ''): string[] {
  return wrapped(clean(text), { width: WIDTH, indent: `${indent}# ` });
}

function ruleLine({ name, channel, raise, clear, severity }: RuleConfig): string {
  return `  - { name: ${name}, channel: "${channel}", raise: ${raise}, clear: ${clear}, severity: ${severity}, actions: [] }`;
}

function reasonText({ glob, peakCelsius, peakOf, minutes, builtIn, limitCelsius }: Finding): string {
  const of = peakOf === glob ? '' : ` (${peakOf})`;
  return `${glob}: peak ${degrees(peakCelsius ?? 0)}${of} in ${spanText(minutes * MINUTE_MS)}; ${builtInText({ builtIn, limitCelsius })}.`;
}

function noneText({ glob, peakCelsius, minutes, builtIn, limitCelsius }: Finding): string {
  if (peakCelsius === null) {
    return `${glob}: nothing proposed, ${plural(minutes, 'minute')} of readings are less than a day.`;
  }
  const firesNow = peakCelsius > builtIn.warning ? ', and ordinary operation lies above it' : '';
  return (
    `${glob}: nothing proposed. Its peak is ${degrees(peakCelsius)}; ${builtInText({ builtIn, limitCelsius })}. ` +
    `A bound above the peak would be looser than the built-in one${firesNow}: if you want that, say so in thermal.thresholds, below ` +
    `${degrees(builtIn.emergency)} in any case.`
  );
}

function builtInText({ builtIn, limitCelsius }: Pick<Finding, 'builtIn' | 'limitCelsius'>): string {
  const limit = limitCelsius === null ? 'it states no limit' : `its own limit is ${degrees(limitCelsius)}`;
  return `built in: warning ${degrees(builtIn.warning)}, critical ${degrees(builtIn.critical)}; ${limit}`;
}

function degrees(celsius: number): string {
  return `${Number(celsius.toFixed(1))} °C`;
}
