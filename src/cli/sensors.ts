/**
 * `skos sensors`: every channel with its value or why there is none, grouped by device. With --once no agent is needed:
 * the machine is discovered and read here, by the same native sampler, and left again.
 */
import type { AgentClient } from '../core/agent-client.js';
import { type ChannelJson, DEVICE_CLASSES, type DeviceClass } from '../core/channel.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type { GpuView } from '../core/ports.js';
import type { Command, Context, Invocation, Io } from './command.js';
import { derivedIds } from './derived-ids.js';
import { EXIT } from './exit-codes.js';
import { clean, limitsText, type Paint, paint, plural, readingText } from './format.js';
import { readOnce } from './machine.js';
import { marginText, temperatureMargin } from './margin.js';
import { type Cell, shortened, tableLines } from './table.js';
import { watch } from './watch.js';

/** "NVIDIA …": enough to tell vendors apart where a UUID fills the line. */
const MIN_NAME_WIDTH = 8;

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
  const derived = derivedIds(channels);
  const notOk = channels.filter(({ id, quality }) => quality !== 'ok' && !derived.has(id)).length;
  const groups = devices(besideTheirBase(channels, derived), gpus);
  // One table over all devices, so that values stand in one column; then each device gets its heading.
  const rows = tableLines({
    columns: [{ shrinkTo: 16 }, { shrinkTo: 18 }, { align: 'right' }, {}, { shrinkTo: 8 }],
    rows: groups.flatMap(({ members }) => members.map((channel) => row(channel, derived, colors))),
    width: io.columns,
    indent: 2,
  });
  let next = 0;
  const lines = groups.flatMap(({ heading, gpu, members, deviceClass }) => {
    const first = next;
    next += members.length;
    return [headingText({ heading, gpu, deviceClass }, io), ...rows.slice(first, next)];
  });
  const summary = notOk === 0 ? 'all ok' : `${notOk} without a value`;
  return [...lines, `${plural(channels.length, 'channel')}, ${summary}`].join('\n');
}

/** Discovery lists what is derived behind everything else; a reader wants it below what it is derived from. */
function besideTheirBase(
  channels: readonly ChannelJson[],
  derived: ReadonlyMap<string, string>,
): readonly ChannelJson[] {
  const ofBase = new Map<string, ChannelJson[]>();
  for (const channel of channels) {
    const base = derived.get(channel.id);
    if (base === undefined) continue;
    const others = ofBase.get(base);
    if (others === undefined) ofBase.set(base, [channel]);
    else others.push(channel);
  }
  const withOwn = (channel: ChannelJson): ChannelJson[] => [
    channel,
    ...(ofBase.get(channel.id) ?? []).flatMap(withOwn),
  ];
  return channels.filter(({ id }) => !derived.has(id)).flatMap(withOwn);
}

interface Device {
  readonly heading: string;
  /** Of a GPU, where it is known. */
  readonly gpu: GpuView | undefined;
  readonly deviceClass: DeviceClass;
  readonly members: ChannelJson[];
}

/** By class as DEVICE_CLASSES has them; within a class in the order of discovery, GPUs by PCI address. */
function devices(channels: readonly ChannelJson[], gpus: readonly GpuView[]): readonly Device[] {
  const groups = new Map<string, Device>();
  for (const channel of channels) {
    const heading = `${channel.source}/${channel.device}`;
    const group = groups.get(heading);
    if (group !== undefined) {
      group.members.push(channel);
      continue;
    }
    const gpu = gpus.find((each) => each.device === channel.device && each.source === channel.source);
    groups.set(heading, { heading, gpu, deviceClass: channel.class, members: [channel] });
  }
  const addressOf = ({ gpu }: Device) => gpu?.address ?? '';
  return [...groups.values()].sort(
    (a, b) =>
      DEVICE_CLASSES.indexOf(a.deviceClass) - DEVICE_CLASSES.indexOf(b.deviceClass) ||
      (addressOf(a) < addressOf(b) ? -1 : addressOf(a) > addressOf(b) ? 1 : 0),
  );
}
/** "NVIDIA H200 0000:3b:00.0  nvml/gpu-5a2c…  gpu": the name gives way, because ids are copied from here. */
function headingText(
  { heading, gpu, deviceClass }: Omit<Device, 'members'>,
  { color, columns }: Pick<Io, 'color' | 'columns'>,
): string {
  const { bold, dim } = paint(color);
  if (gpu === undefined) return `${bold(heading)}  ${dim(deviceClass)}`;
  const id = `${heading}  ${deviceClass}`;
  const room = columns - id.length - gpu.address.length - 3; // The blanks between them.
  const name = shortened(clean(gpu.info.name ?? '') || 'GPU', Math.max(MIN_NAME_WIDTH, room));
  return `${bold(`${name} ${gpu.address}`)}  ${heading}  ${dim(deviceClass)}`;
}

type Row = readonly [name: Cell, label: Cell, value: Cell, margin: Cell, limits: Cell];

function row(channel: ChannelJson, derived: ReadonlyMap<string, string>, { warn, bad, dim }: Paint): Row {
  const isDerived = derived.has(channel.id);
  // The label is often the name again, and of a derived channel that of its base; the name is what a rule is written with.
  const label = isDerived || channel.label.toLowerCase() === channel.name ? '' : clean(channel.label);
  const value = { text: readingText(channel) };
  const margin = temperatureMargin(channel);
  return [
    { text: channel.name },
    { text: label },
    channel.quality === 'ok' ? value : { ...value, paint: isDerived ? dim : warn },
    margin === undefined
      ? { text: '' }
      : { text: marginText(margin), ...(margin.leftCelsius < 0 ? { paint: bad } : {}) },
    { text: limitsText(channel), paint: dim },
  ];
}
