/**
 * `skos sensors`: every channel with its value or why there is none, grouped by device. With --once no agent is needed:
 * the machine is discovered and read here, by the same native sampler, and left again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelJson } from '../core/channel.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type { Command, Context, Invocation, Io, Values } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, limitsText, type Paint, paint, plural, readingText } from './format.js';
import { readOnce } from './machine.js';
import { tableLines } from './table.js';

/** A person follows a value that changes each second; the agent answers from memory. */
const WATCH_INTERVAL_MS = 1_000;
const CLEAR_SCREEN = `${String.fromCharCode(27)}[H${String.fromCharCode(27)}[2J`;

export const sensors: Command = {
  name: 'sensors',
  summary: 'every channel with its value, or why there is none',
  usage: ['sensors [GLOB] [--watch] [--json]', 'sensors [GLOB] --once [--json]'],
  details: 'GLOB is over channel ids (source/device/name): * within a segment, ** across.',
  options: { once: { type: 'boolean' }, watch: { type: 'boolean', short: 'w' }, json: { type: 'boolean' } },
  optionHelp: {
    once: 'without an agent: discover, read once, leave',
    watch: 'again each second until Ctrl-C',
    json: 'a JSON array of channels (with --watch one array a line)',
  },
  examples: [
    ['skos sensors', 'All channels of the running agent.'],
    ["skos sensors 'hwmon/**' --watch", "Follow what the machine's chips say."],
    ['skos sensors --once --json', 'One reading of this machine, no agent needed.'],
  ],

  async run(invocation, context) {
    if (invocation.values.once === true && invocation.values.watch === true) {
      throw new SkosError('SKOS_CLI_USAGE', '--once and --watch exclude each other');
    }
    const read =
      invocation.values.once === true ? () => once(invocation, context) : await fromAgent(invocation, context);
    return invocation.values.watch === true
      ? watch(read, invocation.values, context.io)
      : show(await read(), invocation.values, context.io);
  },
};

type Read = () => Promise<readonly ChannelJson[]>;

async function fromAgent({ positionals: [glob] }: Invocation, { agent }: Context): Promise<Read> {
  const client = await agent();
  return () => client.request('sensors', glob === undefined ? {} : { glob });
}

async function once({ positionals: [glob] }: Invocation, { config, io }: Context): Promise<readonly ChannelJson[]> {
  const { channels, skipped } = await readOnce({ config: (await config()).config, env: io.env, wallMs: io.wallMs });
  for (const line of skipped) io.err(`skos: ${clean(line)}`);
  return glob === undefined ? channels : channels.filter(({ id }) => globMatches(glob, id));
}

function show(channels: readonly ChannelJson[], { json }: Values, io: Io): number {
  io.out(json === true ? JSON.stringify(channels, null, 2) : sensorsText(channels, io));
  return EXIT.ok;
}

async function watch(read: Read, { json }: Values, io: Io): Promise<number> {
  while (!io.signal.aborted) {
    const channels = await read();
    if (json === true) io.out(JSON.stringify(channels));
    else io.out((io.screen ? CLEAR_SCREEN : '') + sensorsText(channels, io));
    await sleep(WATCH_INTERVAL_MS, undefined, { signal: io.signal }).catch(() => undefined); // Aborted: the loop ends.
  }
  return EXIT.ok;
}

export function sensorsText(channels: readonly ChannelJson[], io: Pick<Io, 'color' | 'columns'>): string {
  if (channels.length === 0) return 'No channels.';
  const colors = paint(io.color);
  const notOk = channels.filter(({ quality }) => quality !== 'ok').length;
  const groups = devices(channels);
  // One table over all devices, so that values stand in one column; then each device gets its heading.
  const rows = tableLines({
    columns: [{ shrinkTo: 16 }, { shrinkTo: 24 }, { align: 'right' }, { shrinkTo: 8 }],
    rows: groups.flatMap(([, members]) => members.map((channel) => row(channel, colors))),
    width: io.columns,
    indent: 2,
  });
  let next = 0;
  const lines = groups.flatMap(([heading, members]) => {
    const first = next;
    next += members.length;
    return [`${colors.bold(heading)}  ${colors.dim(members[0]?.class ?? '')}`, ...rows.slice(first, next)];
  });
  const summary = notOk === 0 ? 'all ok' : `${notOk} without a value`;
  return [...lines, `${plural(channels.length, 'channel')}, ${summary}`].join('\n');
}

/** In the order of discovery, each device once. */
function devices(channels: readonly ChannelJson[]): (readonly [string, readonly ChannelJson[]])[] {
  const groups = new Map<string, ChannelJson[]>();
  for (const channel of channels) {
    const heading = `${channel.source}/${channel.device}`;
    groups.set(heading, [...(groups.get(heading) ?? []), channel]);
  }
  return [...groups];
}

function row(channel: ChannelJson, { warn, dim }: Paint) {
  // The label is often the name again; the name is what a rule is written with.
  const label = channel.label.toLowerCase() === channel.name ? '' : clean(channel.label);
  const value = { text: readingText(channel) };
  return [
    { text: channel.name },
    { text: label },
    channel.quality === 'ok' ? value : { ...value, paint: warn },
    { text: limitsText(channel), paint: dim },
  ];
}
