/**
 * `skos gpu`: each GPU on a few lines, both vendors alike; and `skos gpu detach|attach`, which lets go of a GPU so that it
 * can be reset, partitioned or get another driver.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentClient } from '../core/agent-client.js';
import type { ChannelJson } from '../core/channel.js';
import { SkosError } from '../core/errors.js';
import { gpuNamed } from '../core/gpu-names.js';
import type { GpuView } from '../core/ports.js';
import type { Command, Context, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural } from './format.js';
import { type GpuAnswer, gpuText, processRows, stateNext } from './gpu-text.js';
import { resetCommand } from './gpu-words.js';
import { wrapped } from './table.js';
import { watch } from './watch.js';

/** skos-gpu waits 5 s for a worker to leave before it says that it hangs. */
const DETACH_DEADLINE_MS = 10_000;
/** A driver that initialises a GPU without persistence mode takes a few seconds. */
const ATTACH_WAIT_MS = 10_000;
const ATTACH_POLL_MS = 200;

export const gpu: Command = {
  name: 'gpu',
  summary: 'each GPU on a few lines; detach and attach one',
  usage: ['gpu [ID] [--watch] [--json]', 'gpu detach ID', 'gpu attach ID'],
  details:
    'ID is a PCI address, a UUID, the device segment of its channels, or the beginning of one that fits no other. ' +
    'detach closes all that SKOS holds of the GPU and reads nothing of it until attach: what a reset, a MIG change and ' +
    'a driver upgrade need.',
  options: { watch: { type: 'boolean', short: 'w' }, json: { type: 'boolean' } },
  optionHelp: {
    watch: 'again each second until Ctrl-C',
    json: 'one JSON object: the state of skos-gpu, the GPUs and their channels',
  },
  examples: [
    ['skos gpu', 'Temperatures with their margins, power, memory, links, errors, processes.'],
    ['skos gpu 0000:3b:00.0 --watch', 'Follow one.'],
    ['skos gpu detach 0000:3b:00.0', 'Before nvidia-smi --gpu-reset; `skos gpu attach` takes it again.'],
  ],

  async run({ positionals: [word, id], values }, { io, agent }) {
    if (word === 'detach' || word === 'attach') return letGo(word, id, { io, agent });
    if (id !== undefined) {
      throw new SkosError('SKOS_CLI_USAGE', `skos gpu takes one ID, or detach ID, or attach ID, not "${word} ${id}"`);
    }
    const client = await agent();
    const json = values.json === true;
    const frame = async (indent?: number) => {
      const answer = await gpuAnswer(client, word);
      return json ? JSON.stringify(answer, null, indent) : gpuText(answer, io);
    };
    if (values.watch === true) return watch({ frame, json, io });
    io.out(await frame(2));
    return EXIT.ok;
  },
};

async function gpuAnswer(client: AgentClient, id: string | undefined): Promise<GpuAnswer> {
  const [status, channels] = await Promise.all([client.request('gpu', {}), client.request('sensors', {})]);
  const gpus = id === undefined ? status.gpus : [gpuNamed(status.gpus, id)];
  return { ...status, gpus: gpus.map((each) => ({ ...each, channels: channelsOf(each, channels) })) };
}

/** Its own, and those that are derived from them: both stand with its device. */
function channelsOf({ device, source }: GpuView, channels: readonly ChannelJson[]): ChannelJson[] {
  return device === '' ? [] : channels.filter((channel) => channel.source === source && channel.device === device);
}

// ---- Detach and attach -----------------------------------------------------------------------------------------------

async function letGo(
  word: 'detach' | 'attach',
  id: string | undefined,
  { io, agent }: Pick<Context, 'io' | 'agent'>,
): Promise<number> {
  if (id === undefined || id === '')
    throw new SkosError('SKOS_CLI_USAGE', `skos gpu ${word} needs the ID of a GPU; skos gpu lists them`);
  const client = await agent();
  return word === 'detach' ? detach(client, id, io) : attach(client, id, io);
}

async function detach(client: AgentClient, id: string, io: Io): Promise<number> {
  const before = await client.request('gpu', {});
  const { address } = await client.request('gpu.detach', { id }, { deadlineMs: DETACH_DEADLINE_MS });
  const view = before.gpus.find((each) => each.address === address);
  const colors = paint(io.color);
  say(
    io,
    `${colors.bold(nameOf(view, address))} is let go of: nothing of it is open, read or watched until it is attached.`,
  );
  const users = view?.details?.processes ?? [];
  if (users.length > 0) {
    say(
      io,
      colors.warn(
        `${plural(users.length, 'process', 'processes')} used it a moment ago; a reset is refused while they run:`,
      ),
    );
    for (const row of processRows(users)) io.out(`  ${row}`);
  }
  const reset = resetCommand({ source: view?.source ?? '', address });
  say(io, `next: reset it with ${reset}, or do what you came for; then skos gpu attach ${address}`);
  return EXIT.ok;
}

async function attach(client: AgentClient, id: string, io: Io): Promise<number> {
  const { address } = await client.request('gpu.attach', { id }, { deadlineMs: DETACH_DEADLINE_MS });
  const view = await opened(client, address, io);
  const colors = paint(io.color);
  const name = colors.bold(nameOf(view, address));
  if (view?.state === 'serving') {
    say(io, `${name} is taken again and served.`);
    return EXIT.ok;
  }
  const why = view === undefined || view.why === '' ? '' : ` (${clean(view.why)})`;
  say(io, `${name} is wanted again, but is ${colors.warn(view?.state.replace('_', ' ') ?? 'not listed')}${why}.`);
  say(
    io,
    `next: ${(view === undefined ? undefined : stateNext(view)) ?? `skos gpu ${address} --watch shows when it serves`}`,
  );
  return view?.state === 'opening' ? EXIT.ok : EXIT.failed;
}

/** As soon as it is no longer being opened, or when that takes too long. */
async function opened(client: AgentClient, address: string, io: Io): Promise<GpuView | undefined> {
  for (let waitedMs = 0; ; waitedMs += ATTACH_POLL_MS) {
    const view = (await client.request('gpu', {})).gpus.find((each) => each.address === address);
    // Still "detached" for the moment that the request takes to reach skos-gpu.
    const isUnderWay = view === undefined || view.state === 'opening' || view.state === 'detached';
    if (!isUnderWay || waitedMs >= ATTACH_WAIT_MS || io.signal.aborted) return view;
    await sleep(ATTACH_POLL_MS, undefined, { signal: io.signal }).catch(() => undefined);
  }
}

function nameOf(view: GpuView | undefined, address: string): string {
  const name = clean(view?.info.name ?? '');
  return name === '' ? address : `${name} (${address})`;
}

function say(io: Io, text: string): void {
  io.out(wrapped(text, { width: io.columns, hanging: '  ' }).join('\n'));
}
