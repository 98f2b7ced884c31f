/**
 * `skos sensors`: every channel with its value or why there is none, grouped by device. With --once no agent is needed:
 * the machine is discovered and read here, by the same native sampler, and left again.
 */
import type { AgentClient } from '../core/agent-client.js';
import { type ChannelJson, DERIVED_FEED, DEVICE_CLASSES, type DeviceClass } from '../core/channel.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type { GpuView } from '../core/ports.js';
import type { Command, Context, Invocation, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, limitsText, type Paint, paint, plural, readingText } from './format.js';
import { readOnce } from './machine.js';
import { marginText, temperatureMargin } from './margin.js';
import { type Cell, tableLines } from './table.js';
import { watch } from './watch.js';

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
    const { io } = context;
    const read =
      invocation.values.once === true ? () => once(invocation, context) : await fromAgent(invocation, context);
    const json = invocation.values.json === true;
    const frame = async (indent?: number) => {
      const { channels, gpus } = await read();
      return json ? JSON.stringify(channels, null, indent) : sensorsText(channels, io, gpus);
    };
    if (invocation.values.watch === true) return watch({ frame, json, io });
    io.out(await frame(2));
    return EXIT.ok;
  },
};

interface Reading {
  readonly channels: readonly ChannelJson[];
  /** What is known of the GPUs; none without an agent. */
  readonly gpus: readonly GpuView[];
}

async function fromAgent(invocation: Invocation, { agent }: Context): Promise<() => Promise<Reading>> {
  const [glob] = invocation.positionals;
  const client = await agent();
  return async () => {
    const channels = await client.request('sensors', glob === undefined ? {} : { glob });
    const isNamed = invocation.values.json !== true && channels.some((channel) => channel.class === 'gpu');
    return { channels, gpus: isNamed ? await gpusOf(client) : [] };
  };
}

/** Their names only: values without names are better than none. */
async function gpusOf(client: AgentClient): Promise<readonly GpuView[]> {
  try {
    return (await client.request('gpu', {})).gpus;
  } catch (error) {
    if (error instanceof SkosError) return [];
    throw error;
  }
}

async function once({ positionals: [glob] }: Invocation, { config, io }: Context): Promise<Reading> {
  const { channels, skipped } = await readOnce({ config: (await config()).config, env: io.env, wallMs: io.wallMs });
  for (const line of skipped) io.err(`skos: ${clean(line)}`);
  return { channels: glob === undefined ? channels : channels.filter(({ id }) => globMatches(glob, id)), gpus: [] };
}

export function sensorsText(
  channels: readonly ChannelJson[],
  io: Pick<Io, 'color' | 'columns'>,
  gpus: readonly GpuView[] = [],
): string {
  if (channels.length === 0) return 'No channels.';
  const colors = paint(io.color);
  const notOk = channels.filter(({ quality }) => quality !== 'ok').length;
  const groups = devices(channels, gpus);
  // One table over all devices, so that values stand in one column; then each device gets its heading.
  const rows = tableLines({
    columns: [{ shrinkTo: 16 }, { shrinkTo: 18 }, { align: 'right' }, {}, { shrinkTo: 8 }],
    rows: groups.flatMap(({ source, members }) => members.map((channel) => row(channel, source, colors))),
    width: io.columns,
    indent: 2,
  });
  let next = 0;
  const lines = groups.flatMap(({ heading, named, members, deviceClass }) => {
    const first = next;
    next += members.length;
    const name = named === '' ? '' : `${colors.bold(named)}  `;
    return [
      `${name}${named === '' ? colors.bold(heading) : heading}  ${colors.dim(deviceClass)}`,
      ...rows.slice(first, next),
    ];
  });
  const summary = notOk === 0 ? 'all ok' : `${notOk} without a value`;
  return [...lines, `${plural(channels.length, 'channel')}, ${summary}`].join('\n');
}

interface Device {
  readonly heading: string;
  /** What the driver calls a GPU, and where it is; '' for other devices. */
  readonly named: string;
  /** Source of the device itself; what is derived from its channels stands with it. */
  readonly source: string;
  readonly deviceClass: DeviceClass;
  readonly members: ChannelJson[];
}

/** By class as DEVICE_CLASSES has them; within a class in the order of discovery, GPUs by PCI address. */
function devices(channels: readonly ChannelJson[], gpus: readonly GpuView[]): readonly Device[] {
  const groups = new Map<string, Device>();
  const homes = new Map(
    channels.filter(({ source }) => source !== DERIVED_FEED).map((each) => [each.device, each.source]),
  );
  for (const channel of channels) {
    // What is derived from a device's channels stands with them, where they are listed too.
    const source = channel.source === DERIVED_FEED ? (homes.get(channel.device) ?? channel.source) : channel.source;
    const heading = `${source}/${channel.device}`;
    const group = groups.get(heading);
    if (group !== undefined) {
      group.members.push(channel);
      continue;
    }
    const gpu = gpus.find((each) => each.device === channel.device && each.source === source);
    const named = gpu === undefined ? '' : `${clean(gpu.info.name ?? '') || 'GPU'} ${gpu.address}`;
    groups.set(heading, { heading, named, source, deviceClass: channel.class, members: [channel] });
  }
  const addresses = new Map(gpus.map(({ source, device, address }) => [`${source}/${device}`, address]));
  const addressOf = ({ heading }: Device) => addresses.get(heading) ?? '';
  return [...groups.values()].sort(
    (a, b) =>
      DEVICE_CLASSES.indexOf(a.deviceClass) - DEVICE_CLASSES.indexOf(b.deviceClass) ||
      (addressOf(a) < addressOf(b) ? -1 : addressOf(a) > addressOf(b) ? 1 : 0),
  );
}
type Row = readonly [name: Cell, label: Cell, value: Cell, margin: Cell, limits: Cell];

function row(channel: ChannelJson, home: string, { warn, bad, dim }: Paint): Row {
  // The label is often the name again; the name is what a rule is written with.
  const label = channel.label.toLowerCase() === channel.name ? '' : clean(channel.label);
  const value = { text: readingText(channel) };
  const margin = temperatureMargin(channel);
  return [
    { text: channel.source === home ? channel.name : `${channel.source}/…/${channel.name}` },
    { text: label },
    channel.quality === 'ok' ? value : { ...value, paint: warn },
    margin === undefined
      ? { text: '' }
      : { text: marginText(margin), ...(margin.leftCelsius < 0 ? { paint: bad } : {}) },
    { text: limitsText(channel), paint: dim },
  ];
}
