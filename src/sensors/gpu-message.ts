/**
 * What skos-gpu says (native/gpu/README.md is the contract), checked: messages of its socket, and the description of a
 * region, from which a GPU's channels are made. It runs beside drivers that misbehave, so that nothing it says is believed
 * to have the right shape.
 */
import { type Channel, channelId, type Limits, segment } from '../core/channel.js';
import { SkosError } from '../core/errors.js';
import { GPU_STATES, type GpuDetails } from '../core/ports.js';
import {
  anything,
  boolean,
  type Infer,
  list,
  nullable,
  number,
  object,
  oneOf,
  optional,
  parse,
  record,
  type Shape,
  section,
  string,
  withDefault,
} from '../core/shape.js';
import { QUANTITIES, type Quantity } from '../core/units.js';

/** PCI address, or the card's name where the bus does not tell one. */
const address = string({ pattern: /^[\w:.-]{1,32}$/, expected: 'an address' });
const why = withDefault(string({ max: 1024 }), '');
const word = string({ max: 64 });
const count = number({ min: 0, integer: true });
const memoryBytes = nullable(number({ min: 0 }));

/** A node's largest: each process of a busy inference server on each GPU; skos-gpu bounds its packets to fewer. */
const MAX_PROCESSES = 256;
const MAX_MIG = 64;
const MAX_CHANNELS = 4096;

const details: Shape<GpuDetails> = object({
  processes: list(
    object({ pid: count, name: string({ max: 256 }), memoryBytes, type: oneOf('compute', 'graphics') }, { open: true }),
    { max: MAX_PROCESSES },
  ),
  mig: list(
    object(
      {
        gpuInstance: count,
        computeInstance: count,
        uuid: string({ max: 128 }),
        name: string({ max: 128 }),
        memoryBytes,
      },
      { open: true },
    ),
    { max: MAX_MIG },
  ),
  persistenceMode: nullable(boolean),
  migMode: nullable(boolean),
  eccMode: nullable(boolean),
});

const SHAPES = {
  reply: object({ seq: count, ok: boolean, why }, { open: true }),
  library: object(
    {
      source: word,
      state: oneOf('ok', 'absent', 'failed', 'hung', 'unused'),
      why,
      path: withDefault(string({ max: 1024 }), ''),
      version: withDefault(string({ max: 256 }), ''),
    },
    { open: true },
  ),
  device: object(
    { address, source: word, state: oneOf(...GPU_STATES), why, region: withDefault(boolean, false) },
    { open: true },
  ),
  details: object({ address, details }, { open: true }),
  event: object(
    { address: withDefault(string({ max: 32 }), ''), event: anything, atMs: optional(number({})) },
    { open: true },
  ),
  crossing: object({ address }, { open: true }),
  listed: object({}, { open: true }),
  uevent: object({}, { open: true }),
};

export type GpuMessage = {
  [K in keyof typeof SHAPES]: { readonly type: K } & Infer<(typeof SHAPES)[K]>;
}[keyof typeof SHAPES];

/** undefined: of a newer skos-gpu, which may say more. Throws SKOS_GPU_PROTOCOL on anything malformed. */
export function gpuMessage(packet: string): GpuMessage | undefined {
  const input = json(packet);
  const type = (input as { type?: unknown } | null)?.type;
  if (typeof type !== 'string') throw new SkosError('SKOS_GPU_PROTOCOL', 'a message without a type');
  if (!Object.hasOwn(SHAPES, type)) return undefined;
  const shape: Shape<unknown> = SHAPES[type as keyof typeof SHAPES];
  return { type, ...(checked(shape, input) as object) } as GpuMessage;
}

const event = object(
  {
    kind: string({ pattern: /^[a-z0-9_]{1,64}$/, expected: 'a word' }),
    code: optional(number({ min: 0, integer: true })),
  },
  { open: true },
);
const MAX_DETAIL_ENTRIES = 16;
const MAX_DETAIL_LENGTH = 128;

/** The `event` of an event message: its kind, its number, and whatever else it says, as short strings. */
export function gpuEvent(input: unknown): { kind: string; code: number | null; detail: Record<string, string> } {
  const { kind, code = null } = checked(event, input);
  const others = Object.entries(input as object).filter(([name]) => name !== 'kind' && name !== 'code');
  const detail = others
    .slice(0, MAX_DETAIL_ENTRIES)
    .map(([name, value]) => [name.slice(0, MAX_DETAIL_LENGTH), String(value).slice(0, MAX_DETAIL_LENGTH)]);
  return { kind, code, detail: Object.fromEntries(detail) };
}

const quantity: Shape<Quantity> = oneOf(...(Object.keys(QUANTITIES) as [Quantity, ...Quantity[]]));
const limit = optional(number({}));
const described = object(
  {
    device: object(
      { id: string({ max: 256 }), source: word, vendor: word, address, name: string({ max: 256 }) },
      { open: true },
    ),
    channels: list(
      object(
        {
          name: string({ max: 128 }),
          label: withDefault(string({ max: 128 }), ''),
          quantity,
          rateHz: number({ min: 0.01, max: 1000 }),
          limits: section({ min: limit, max: limit, critical: limit, emergency: limit }),
          path: withDefault(string({ max: 512 }), ''),
          thermalDefault: withDefault(boolean, false),
        },
        { open: true },
      ),
      { max: MAX_CHANNELS },
    ),
  },
  { open: true },
);
const strings = record(anything, { key: /^\w{1,64}$/, keyExpected: 'a word', max: 64 });

export interface GpuDescription {
  /** Device segment of the channels' ids. */
  readonly device: string;
  readonly info: Readonly<Record<string, string>>;
  /** In the region's order. */
  readonly channels: readonly Channel[];
}

/** Channels of the region of the GPU at `address`, which is the supervisor's word for it, not the worker's. */
export function gpuDescription(text: string, at: string): GpuDescription {
  const input = json(text);
  const { device, channels } = checked(described, input);
  const { source } = device;
  return {
    device: segment(device.id),
    info: infoOf(input),
    channels: channels.map(({ name, label, limits, ...rest }, index) => ({
      id: channelId(source, device.id, name),
      source: segment(source),
      device: segment(device.id),
      name: segment(name),
      label: label === '' ? name : label,
      quantity: rest.quantity,
      class: 'gpu',
      limits: stated(limits),
      probe: { kind: 'gpu', address: at, index },
      // What is read more seldom than rules can follow is followed as if it were read at the slowest rate they know.
      rateHz: Math.max(0.1, rest.rateHz),
      domain: `gpu ${at}`,
      path: rest.path,
      ...(rest.thermalDefault ? { thermalDefault: true } : {}),
    })),
  };
}

function infoOf(input: unknown): Record<string, string> {
  const all = checked(strings, (input as { device: unknown }).device);
  const texts = Object.entries(all).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return Object.fromEntries(texts.map(([name, text]) => [name, text.slice(0, 256)]));
}

function stated(limits: { readonly [K in keyof Limits]?: number | undefined }): Limits {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SkosError('SKOS_GPU_PROTOCOL', 'no JSON', { cause: error });
  }
}

function checked<T>(shape: Shape<T>, input: unknown): T {
  const { value, issues } = parse(shape, input);
  if (issues.length === 0 && value !== undefined) return value;
  const told = issues.slice(0, 3).map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new SkosError('SKOS_GPU_PROTOCOL', told.join('; '));
}
