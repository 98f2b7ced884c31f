/**
 * `skos replay`: what a configuration would have done, over stored history or a CSV; two configurations side by side. It changes
 * nothing anywhere.
 */
import { ANTIBODIES } from '../antibodies/antibodies.js';
import { loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { Machine } from '../control/machine.js';
import { type Episode, type Pair, paired, Replay, type ReplayReport } from '../control/replay.js';
import type { AgentClient } from '../core/agent-client.js';
import type { Channel } from '../core/channel.js';
import { isoTimestamp } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import { QUANTITIES, toBase } from '../core/units.js';
import type { Mode } from '../core/vocabulary.js';
import { allRows } from './all-rows.js';
import { type Command, type Context, type Invocation, type Io, textOption } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural } from './format.js';
import { type Stretch, stretchOf } from './moment.js';
import { PastFeed, type PastFigures } from './past-feed.js';
import { Progress } from './progress.js';
import { episodeLines, pairLines, pastLines, type QuantityOf, totalLines } from './replay-text.js';
import { modeOption } from './simulate.js';
import { wrapped } from './table.js';

const DEFAULT_SINCE = '1d';
/** Named, of what was passed over. */
const NAMED = 5;

export const replay: Command = {
  name: 'replay',
  summary: 'what a configuration would have done in the past',
  usage: [
    'replay [GLOB] [--since 1d | --from T] [--until T] [--mode MODE] [--json]',
    'replay [GLOB] --csv=FILE [--mode MODE] [--json]',
    'replay --config=OLD --against=NEW [--since 1d] [--json]',
  ],
  details:
    'Runs the rules of the configuration over what is stored (or over a CSV of `skos history --csv`): when alerts would have fired, for ' +
    'how long, and which actions would have been done. GLOB limits it to channels. Where single samples are no longer kept, the greatest ' +
    'value of each second or minute stands for it, so that it shows the most that may have fired (≤). What a cap would have ' +
    'changed about the temperatures is not known: see `skos simulate`.',
  options: {
    since: { type: 'string' },
    from: { type: 'string' },
    until: { type: 'string' },
    csv: { type: 'string' },
    against: { type: 'string' },
    mode: { type: 'string' },
    json: { type: 'boolean' },
  },
  optionHelp: {
    since: `DURATION: so far back (default ${DEFAULT_SINCE})`,
    from: 'T: begin at this time',
    until: 'T: end before this time (default: now)',
    csv: 'FILE: over this file in the place of what the agent has stored',
    against: 'FILE: another configuration beside it; what differs is marked',
    mode: 'MODE: as if the mode were observe, propose or auto',
    json: 'JSON lines: an episode each, then a summary',
  },
  examples: [
    ['skos replay --since 1w --mode auto', 'What the last week would have seen, had the node been armed.'],
    ['skos replay --config old.yaml --against new.yaml', '~ differs, - only with old.yaml, + only with new.yaml.'],
    ["skos replay 'hwmon/**' --csv week.csv", 'Over a file.'],
  ],

  async run(invocation, context) {
    const { io } = context;
    refuseContradictions(invocation);
    const policies = await policiesOf(invocation, context);
    const outcome = await replayed(invocation, context, policies);
    if (outcome === undefined) return EXIT.interrupted;
    const isJson = invocation.values.json === true;
    if (isJson) await printJson(policies, outcome, io);
    else io.out(textOf(policies, outcome, io));
    return EXIT.ok;
  },
};

interface Policy {
  readonly name: string;
  readonly config: Config;
}

interface Outcome {
  readonly reports: readonly ReplayReport[];
  readonly figures: PastFigures;
  readonly quantityOf: QuantityOf;
  /** Of a file: channels that this machine does not have. */
  readonly unknown: readonly string[];
  readonly watched: number;
}

function refuseContradictions({ values }: Invocation): void {
  const name = ['since', 'from', 'until'].find((each) => values[each] !== undefined);
  if (values.csv !== undefined && name !== undefined) {
    throw new SkosError('SKOS_CLI_USAGE', `--csv takes the whole file: leave --${name} out`);
  }
}

async function policiesOf({ values }: Invocation, { io, config: load }: Context): Promise<Policy[]> {
  const mode = modeOption(values);
  const against = textOption(values, 'against');
  const first = await load();
  const policies = [{ name: textOption(values, 'config') ?? first.mainFile, config: withMode(first.config, mode) }];
  if (against === undefined) return policies;
  const { config } = await loadConfig({ file: against, env: io.env });
  return [...policies, { name: against, config: withMode(config, mode) }];
}

export function withMode(config: Config, mode: Mode | undefined): Config {
  return mode === undefined ? config : { ...config, mode };
}

/** undefined: interrupted. */
async function replayed(
  { values, positionals: [glob] }: Invocation,
  context: Context,
  policies: readonly Policy[],
): Promise<Outcome | undefined> {
  const { io } = context;
  const csv = textOption(values, 'csv');
  const client = csv === undefined ? await context.agent() : undefined;
  const all = client === undefined ? await machineChannels(policies, io) : await agentChannels(client);
  const channels = all.filter(({ id }) => glob === undefined || globMatches(glob, id));
  const replays = policies.map(({ config }) => new Replay({ config, antibodies: ANTIBODIES, channels }));
  const feed = new PastFeed(replays);
  const progress = new Progress({ io, quiet: values.json === true });
  const isCancelled = () => io.signal.aborted;
  try {
    if (csv !== undefined) {
      if (!(await feed.csv(csv, isCancelled))) return undefined;
    } else if (client !== undefined) {
      const stretch = stretchOf(stretchText(values), io.wallMs());
      if (!(await feedStored(client, { replays, feed, stretch, progress, isCancelled }))) return undefined;
    }
  } finally {
    progress.clear();
  }
  const here = new Map(channels.map((channel) => [channel.id, channel.quantity]));
  const unknown = csv === undefined ? [] : [...feed.ids].filter((id) => !here.has(id)).sort();
  const watched = new Set(replays.flatMap((each) => each.channels));
  if (![...feed.ids].some((id) => watched.has(id))) {
    const what =
      watched.size === 0 ? 'no rule watches a channel of this machine' : 'there is no reading of any of them';
    throw new SkosError('SKOS_REPLAY_NOTHING', `rules watch ${plural(watched.size, 'channel')}; ${what}`);
  }
  const quantityOf = (channel: string) => here.get(channel);
  const reports = replays.map((each) => each.report());
  return { reports, figures: feed.figures, quantityOf, unknown, watched: watched.size };
}

function stretchText(values: Invocation['values']) {
  const [since, from, until] = ['since', 'from', 'until'].map((name) => textOption(values, name));
  return { since: since ?? (from === undefined ? DEFAULT_SINCE : undefined), from, until };
}

/** As the agent discovered them: those of GPUs, too. */
export function agentChannels(client: AgentClient): Promise<Channel[]> {
  return allRows((after) => client.request('channels', after));
}

/** Without an agent: those of GPUs are not among them. */
async function machineChannels(policies: readonly Policy[], io: Io): Promise<readonly Channel[]> {
  const [first] = policies;
  if (first === undefined) return [];
  return (await new Machine(io.env).discover(first.config, { hasActuator: false })).channels;
}

interface Stored {
  readonly replays: readonly Replay[];
  readonly feed: PastFeed;
  readonly stretch: Stretch;
  readonly progress: Progress;
  readonly isCancelled: () => boolean;
  /** Of each channel at most so many, so that it does not take long. */
  readonly points?: number;
}

/** Of each channel that a rule watches. False: it was cancelled. */
export async function feedStored(client: AgentClient, given: Stored): Promise<boolean> {
  const { replays, feed, stretch, progress, isCancelled, points } = given;
  const ids = [...new Set(replays.flatMap((each) => each.channels))].sort();
  for (const [i, glob] of ids.entries()) {
    progress.show({ what: 'replaying', fraction: i / ids.length, bytes: null });
    const query = { glob, ...stretch, ...(points === undefined ? {} : { points }) };
    if (isCancelled() || !(await feed.stored(client, query, isCancelled))) return false;
  }
  return true;
}

// ---- Output ------------------------------------------------------------------------------------------------------------

function textOf(
  policies: readonly Policy[],
  { reports, figures, quantityOf, unknown, watched }: Outcome,
  io: Io,
): string {
  const { bold, warn } = paint(io.color);
  const [a, b] = reports;
  const lines: string[] = [];
  if (a === undefined) return '';
  if (b === undefined) lines.push(...episodeLines(a.episodes, quantityOf, io));
  else lines.push(...pairLines(paired(a.episodes, b.episodes), quantityOf, io));
  policies.forEach(({ name, config }, i) => {
    const report = reports[i];
    if (report === undefined) return;
    lines.push(bold(clean(`${name} (mode ${config.mode}):`)), ...totalLines(report, io));
    for (const skipped of report.skipped) lines.push(warn(clean(`  ${skipped}`)));
  });
  lines.push(`  ${plural(watched, 'channel')} watched`, ...pastLines(figures, io));
  if (unknown.length > 0) {
    const named = unknown.slice(0, NAMED).join(', ');
    const text = `${plural(unknown.length, 'channel')} of the file no rule can be bound to, since this machine does not have them: ${named}`;
    lines.push(...wrapped(clean(text), { width: io.columns, indent: '  ' }).map(warn));
  }
  return lines.join('\n');
}

async function printJson(policies: readonly Policy[], outcome: Outcome, io: Io): Promise<void> {
  const { reports, figures, quantityOf, unknown } = outcome;
  const [a, b] = reports;
  if (a === undefined) return;
  const lines: unknown[] =
    b === undefined
      ? a.episodes.map((episode) => ({ episode: jsonOf(episode, quantityOf) }))
      : paired(a.episodes, b.episodes).map((pair) => ({ pair: jsonPair(pair, quantityOf) }));
  for (const line of lines) {
    io.out(JSON.stringify(line));
    await io.drained?.();
  }
  const { byStepMs, fromMs, toMs, ...rest } = figures;
  const summary = {
    policies: reports.map(({ episodes: _episodes, ...report }, i) => ({
      file: policies[i]?.name,
      mode: policies[i]?.config.mode,
      ...report,
    })),
    readings: {
      ...rest,
      from: timeText(fromMs),
      to: timeText(toMs),
      byStepMs: Object.fromEntries(byStepMs),
      unknownChannels: unknown,
    },
  };
  io.out(JSON.stringify({ summary }));
}

function jsonPair({ a, b, same }: Pair, quantityOf: QuantityOf) {
  const side = (episode: Episode | undefined) => (episode === undefined ? null : jsonOf(episode, quantityOf));
  return { same, a: side(a), b: side(b) };
}

/** Values in the base unit, times in UTC. */
function jsonOf({ fromMs, toMs, peak, threshold, actions, ...episode }: Episode, quantityOf: QuantityOf) {
  const quantity = quantityOf(episode.channel);
  const base = (value: number) => (quantity === undefined ? value : toBase(quantity, value));
  return {
    ...episode,
    from: timeText(fromMs),
    to: timeText(toMs),
    peak: base(peak),
    threshold: base(threshold),
    unit: quantity === undefined ? null : QUANTITIES[quantity].unit,
    actions: actions.map(({ fromMs: begin, toMs: end, ...action }) => {
      return { ...action, from: timeText(begin), to: timeText(end) };
    }),
  };
}

function timeText(atMs: number | null): string | null {
  return atMs === null ? null : isoTimestamp(atMs);
}
