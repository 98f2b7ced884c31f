/** How `skos gpu` shows a GPU: a few lines, the same for all vendors. Pure. */
import { type ChannelJson, segment } from '../core/channel.js';
import type { GpuLibrary, GpuState, GpuStatus, GpuView } from '../core/ports.js';
import type { Io } from './command.js';
import { derivedIds } from './derived-ids.js';
import { clean, type Paint, paint, quantityText, spanText } from './format.js';
import { recoveryAction, resetCommand, throttleReasons } from './gpu-words.js';
import { marginText, temperatureMargin } from './margin.js';
import { type Cell, tableLines, visibleLength, wrapped } from './table.js';

/** A GPU as the driver describes it, with its channels. What `skos gpu --json` prints. */
export interface ShownGpu extends GpuView {
  readonly channels: readonly ChannelJson[];
}

export interface GpuAnswer extends Omit<GpuStatus, 'gpus'> {
  readonly gpus: readonly ShownGpu[];
}

/** Width of the left column: "temperature" and a gap. */
const TERM_WIDTH = 13;
const INDENT = 2;
const MIN_WIDTH = 40;
const BAR_WIDTH = 20;
/** A training node has one process a GPU; more than these are a server's, and nvidia-smi lists them all. */
const MAX_PROCESSES = 8;
/** The most that a GPU can be cut into is 7 (MIG); some drivers list compute instances too. */
const MAX_INSTANCES = 16;

/** States in which what was last seen of processes still matters: they use it, or keep it from being reset. */
const USED_STATES: readonly GpuState[] = ['serving', 'lost', 'reset_required', 'hung'];
/** Value of the channel runtime_state. */
const SUSPENDED = 1;
/** Names of channels without a value; skos sensors has them all. */
const MAX_SILENT = 4;

type Terminal = Pick<Io, 'color' | 'columns' | 'wallMs'>;

export function gpuText(answer: GpuAnswer, io: Terminal): string {
  const { warn } = paint(io.color);
  const trouble = answer.connected ? [] : [warn(`skos-gpu is not connected: ${clean(answer.why)}`)];
  if (answer.gpus.length === 0) {
    return [
      ...(answer.connected ? ['No GPU was found.'] : trouble),
      ...libraryLines(answer.libraries),
      ...noGpuNext(answer),
    ]
      .flatMap((line) => wrapped(line, { width: width(io), hanging: '  ' }))
      .join('\n');
  }
  const blocks = answer.gpus.map((gpu) => blockLines(gpu, io).join('\n'));
  return [...trouble, ...blocks].join('\n\n');
}

function noGpuNext({ connected }: GpuAnswer): string[] {
  return connected
    ? ['next: skos doctor says which devices the machine has, and what their drivers lack']
    : ['next: systemctl start skos-gpu (installed) or skos run (a checkout); skos doctor says more'];
}

/** Of what could not be used. A library that nothing here needs is no news. */
function libraryLines(libraries: readonly GpuLibrary[]): string[] {
  return libraries
    .filter(({ state }) => state === 'absent' || state === 'failed' || state === 'hung')
    .map(({ source, state, why, path }) =>
      clean(`${source}: ${state}${path === '' ? '' : ` (${path})`}${why === '' ? '' : `: ${why}`}`),
    );
}

function width({ columns }: Terminal): number {
  return Math.max(MIN_WIDTH, columns);
}

function blockLines(gpu: ShownGpu, io: Terminal): string[] {
  const colors = paint(io.color);
  return [heading(gpu, io), ...stateLines(gpu, io), ...sections(gpu, colors).flatMap((each) => sectionLines(each, io))];
}

/** "NVIDIA H200  0000:3b:00.0  GPU-5a2c…  serving": the UUID gives way, whose beginning is enough as an ID. */
function heading({ info, address, device, state }: ShownGpu, io: Terminal): string {
  const colors = paint(io.color);
  const name = clean(info.name ?? '') || 'GPU';
  const row: Cell[] = [
    { text: name, paint: colors.bold },
    { text: address },
    { text: clean(info.uuid ?? (device === segment(address) ? '' : device)), paint: colors.dim },
    { text: state, paint: statePaint(state, colors) },
  ];
  return tableLines({ columns: [{ shrinkTo: 20 }, {}, { shrinkTo: 13 }, {}], rows: [row], width: width(io) }).join('');
}

function statePaint(state: GpuState, { good, warn, bad }: Paint): (text: string) => string {
  if (state === 'serving') return good;
  return state === 'opening' || state === 'detached' ? warn : bad;
}

/** What a GPU that is not served needs. */
export function stateNext(gpu: Pick<GpuView, 'state' | 'source' | 'address'>): string | undefined {
  const attach = `skos gpu attach ${gpu.address}`;
  switch (gpu.state) {
    case 'serving':
    case 'opening':
      return undefined;
    case 'failed':
      return 'mend what it says; it is tried again by itself. skos doctor knows the usual causes';
    case 'lost':
      return 'drain the node and reboot it; what the bus said: journalctl -k --grep "Xid|AER|fallen off"';
    case 'reset_required':
      return `end its processes, then ${resetCommand(gpu)}; it is taken again by itself within 30 s`;
    case 'hung':
      return `journalctl -k shows where its driver hangs; when it is reset or the driver reloaded: ${attach}`;
    case 'detached':
      return `${attach} takes it again; until then nothing of it is watched`;
    case 'gone':
      return 'if it should be there: journalctl -k, then reseat it or reboot; it comes back by itself';
  }
}

function stateLines(gpu: ShownGpu, io: Terminal): string[] {
  if (gpu.state === 'serving') return [];
  const since = ` for ${spanText(io.wallMs() - gpu.sinceAtMs)}`;
  const why = gpu.why === '' ? '' : `: ${clean(gpu.why)}`;
  const next = stateNext(gpu);
  const { warn } = paint(io.color);
  return [
    ...wrapped(`${gpu.state.replace('_', ' ')}${since}${why}`, indented(io)).map(warn),
    ...(next === undefined ? [] : wrapped(`next: ${next}`, indented(io))),
  ];
}

function indented(io: Terminal) {
  return { width: width(io), indent: ' '.repeat(INDENT), hanging: ' '.repeat(2 * INDENT) };
}

// ---- Sections ------------------------------------------------------------------------------------------------------

type Section = readonly [term: string, texts: readonly string[]];

function sectionLines([term, texts]: Section, io: Terminal): string[] {
  const indent = ' '.repeat(INDENT + TERM_WIDTH);
  const lines = texts.flatMap((text) =>
    // Rows of a table keep their blanks.
    indent.length + visibleLength(text) <= width(io)
      ? [indent + text]
      : wrapped(text, { width: width(io), indent, hanging: `${indent}  ` }),
  );
  return lines.map((line, i) =>
    i === 0 ? ' '.repeat(INDENT) + term.padEnd(TERM_WIDTH) + line.slice(indent.length) : line,
  );
}

function sections(gpu: ShownGpu, colors: Paint): Section[] {
  return [
    // What is not read has no numbers; the state above says why, not each line again.
    ...(gpu.state === 'serving' || gpu.state === 'lost' ? readSections(gpu, colors) : []),
    ['driver', joined(driver(gpu))],
    ['processes', USED_STATES.includes(gpu.state) ? processes(gpu) : []],
    ['MIG', USED_STATES.includes(gpu.state) ? instances(gpu) : []],
  ];
}

function readSections(gpu: ShownGpu, colors: Paint): Section[] {
  const read = new Readings(gpu.channels);
  if (read.value('runtime_state') === SUSPENDED) return [['suspended', ['to save power; it is not woken to be read']]];
  return [
    ['temperature', joined(temperatures(read, colors))],
    ['power', joined(power(read))],
    ['load', joined(load(read))],
    ['memory', joined(memory(read))],
    ['clocks', joined(clocks(read))],
    ['fan', joined(fans(read))],
    ['throttled', joined(throttled(gpu, read, colors))],
    ['errors', joined(errors(read, colors))],
    ['link', joined(link(read, colors))],
    ['recovery', joined(recovery(read, colors))],
    ['no value', joined(silent(read, colors))],
  ];
}

function joined(parts: readonly string[]): string[] {
  return parts.length === 0 ? [] : [parts.join(', ')];
}

/** The channels of one GPU by name. */
class Readings {
  /** Without those that are derived. */
  readonly all: readonly ChannelJson[];
  readonly #byName: ReadonlyMap<string, ChannelJson>;

  constructor(channels: readonly ChannelJson[]) {
    const derived = derivedIds(channels);
    this.all = channels.filter(({ id }) => !derived.has(id));
    this.#byName = new Map(channels.map((channel) => [channel.name, channel]));
  }

  /** undefined: there is no such channel, or it has no value now. */
  value(name: string): number | undefined {
    return this.#byName.get(name)?.value ?? undefined;
  }

  text(name: string): string | undefined {
    const channel = this.#byName.get(name);
    return channel?.value == null ? undefined : quantityText(channel.value, channel.unit);
  }
}

function temperatures(read: Readings, { warn, bad }: Paint): string[] {
  return read.all
    .filter(({ name, quantity }) => quantity === 'temperature' && (name === 'margin' || name.startsWith('temperature')))
    .map((channel) => {
      if (channel.value === null) return warn(`${placeOf(channel.name)} ${channel.quality}`);
      const text = quantityText(channel.value, channel.unit);
      if (channel.name === 'margin') return `${text} left to slowdown`;
      const margin = temperatureMargin(channel);
      const shown = `${placeOf(channel.name)} ${text}`;
      const rising = read.value(`${channel.name}_time_to_limit`);
      const soon = rising === undefined ? '' : `; limit in ${spanText(rising * 1000)}`;
      if (margin === undefined) return shown + soon;
      const limit = `${marginText(margin)} ${margin.limitCelsius}`;
      return margin.leftCelsius < 0 ? bad(`${shown} (${limit})`) : `${shown} (${limit}${soon})`;
    });
}

/** temperature_memory → memory. */
function placeOf(name: string): string {
  const place = name.replace(/^temperature_?/, '').replaceAll('_', ' ');
  if (place === '') return 'GPU';
  return place === 'hotspot' ? 'hot spot' : place;
}

function power(read: Readings): string[] {
  const now = read.value('power') ?? read.value('power_average') ?? read.value('power_instant');
  const limit = read.value('power_limit_enforced') ?? read.value('power_limit');
  const usual = read.value('power_limit_default');
  if (now === undefined) return limit === undefined ? [] : [`limit ${watts(limit)}`];
  if (limit === undefined || limit <= 0) return [watts(now)];
  const lowered = usual !== undefined && usual !== limit ? [`the limit is ${watts(usual)} by default`] : [];
  return [`${watts(now)} of ${watts(limit)} (${percent(now / limit)})`, ...lowered];
}

function watts(value: number): string {
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)} W`;
}

function percent(ratio: number): string {
  return `${Math.round(ratio * 100)} %`;
}

function load(read: Readings): string[] {
  return [
    ['GPU', read.value('utilization')] as const,
    ['memory controller', read.value('utilization_memory')] as const,
  ].flatMap(([what, ratio]) => (ratio === undefined ? [] : [`${what} ${percent(ratio)}`]));
}

function memory(read: Readings): string[] {
  const used = read.value('memory_used');
  const total = read.value('memory_total');
  const gtt = read.value('gtt_used');
  const host = gtt === undefined || gtt === 0 ? [] : [`${quantityText(gtt, 'bytes')} of host memory`];
  if (used === undefined) return total === undefined ? host : [`total ${quantityText(total, 'bytes')}`, ...host];
  if (total === undefined || total <= 0) return [`used ${quantityText(used, 'bytes')}`, ...host];
  const filled = Math.min(BAR_WIDTH, Math.max(0, Math.round((used / total) * BAR_WIDTH)));
  const bar = `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`;
  return [
    `${bar} ${quantityText(used, 'bytes')} of ${quantityText(total, 'bytes')} (${percent(used / total)})`,
    ...host,
  ];
}

function clocks(read: Readings): string[] {
  return read.all
    .filter(({ name, value }) => /^clock_/.test(name) && !name.endsWith('_max') && value !== null)
    .map(({ name, value }) => {
      const most = read.value(`${name}_max`);
      const place = name.slice('clock_'.length).replaceAll('_', ' ');
      const what = place === 'sm' ? 'SM' : place === 'soc' ? 'SoC' : place;
      return `${what} ${megahertz(value ?? 0)}${most === undefined ? '' : ` of ${megahertz(most)}`} MHz`;
    });
}

function megahertz(hertz: number): number {
  return Math.round(hertz / 1e6);
}

function fans({ all }: Readings): string[] {
  return all
    .filter(({ name, value }) => /^fan(_\d+)?(_rpm)?$/.test(name) && value !== null)
    .map(({ value, unit }) => (unit === 'ratio' ? percent(value ?? 0) : quantityText(value ?? 0, unit)));
}

function throttled({ source }: ShownGpu, read: Readings, { warn }: Paint): string[] {
  const mask = read.value('throttle_reasons');
  if (mask === undefined) return [];
  const { isIdle, reasons } = throttleReasons(mask, source);
  const share = read.value('throttle_reasons_share') ?? 0;
  const lately = share > 0 ? [`${percent(share)} of the last minute`] : [];
  if (reasons.length > 0) return [...reasons.map(warn), ...lately];
  return [isIdle ? 'no, it is idle' : 'no', ...lately];
}

/** Temperatures say so in their own line. */
function silent({ all }: Readings, { warn }: Paint): string[] {
  const unread = all.filter(({ quantity, quality }) => quality !== 'ok' && quantity !== 'temperature');
  const more = unread.length > MAX_SILENT ? [`and ${unread.length - MAX_SILENT} more`] : [];
  return [...unread.slice(0, MAX_SILENT).map(({ name, quality }) => warn(`${name} (${quality})`)), ...more];
}

/** Names of states that are bad when they are 1. */
const BAD_STATES: Readonly<Record<string, string>> = {
  remapped_pending: 'a row remap waits for a reset',
  remapped_failure: 'a row could not be remapped: the memory is worn out',
  retired_pending: 'a page retirement waits for a reset',
};

const BY_PLACE = /_(dram|sram|l1|l2|register_file|texture|shared|cbu)$/;

function errors({ all }: Readings, { bad, warn }: Paint): string[] {
  const names = new Set(all.map(({ name }) => name));
  // A count by place is part of a total, where that is shown; errors that were corrected long ago are no news.
  const isSaid = (name: string) => BY_PLACE.test(name) && names.has(name.replace(BY_PLACE, ''));
  const isOld = (name: string) => name.startsWith('ecc_corrected_aggregate');
  return all.flatMap(({ name, value }) => {
    if (value === null || value === 0) return [];
    const state = BAD_STATES[name];
    if (state !== undefined) return [bad(state)];
    if (!/^(ecc_(?!mode)|remapped_|retired_|ras_|bad_pages)/.test(name)) return [];
    if (isSaid(name) || isOld(name)) return [];
    const text = `${value} ${name.replaceAll('_', ' ').replace(/^ecc/, 'ECC').replace(/^ras/, 'RAS')}`;
    return [/uncorrect|double|bad_pages/.test(name) ? bad(text) : warn(text)];
  });
}

const LINK_ERRORS =
  /^(pcie_(replays|correctable|nonfatal|fatal)|nvlink_(crc_flit|crc_data|replay|recovery)|xgmi_errors)$/;

function link(read: Readings, { warn }: Paint): string[] {
  const counted = read.all
    .filter(({ name, value }) => LINK_ERRORS.test(name) && value !== null && value !== 0)
    .map(({ name, value }) => warn(`${value} ${linkWords(name)}`));
  const links = read.value('nvlink_active');
  return [...pcie(read, warn), ...(links === undefined ? [] : [`${links} NVLinks`]), ...counted];
}

function linkWords(name: string): string {
  return name
    .replace(/^pcie_/, 'PCIe ')
    .replace(/^nvlink_/, 'NVLink ')
    .replace(/^xgmi_/, 'xGMI ')
    .replaceAll('_', ' ')
    .replace('crc', 'CRC');
}

/** A link that idles is slow to save power; one that is narrow lost lanes. */
function pcie(read: Readings, warn: (text: string) => string): string[] {
  const generation = read.value('pcie_generation');
  const lanes = read.value('pcie_width');
  if (generation === undefined && lanes === undefined) return [];
  const mostGeneration = read.value('pcie_generation_max');
  const mostLanes = read.value('pcie_width_max');
  const isBelow = isLess(generation, mostGeneration) || isLess(lanes, mostLanes);
  const text = `PCIe ${linkText(generation, lanes)}${isBelow ? ` of ${linkText(mostGeneration, mostLanes)}` : ''}`;
  return [isLess(lanes, mostLanes) ? warn(text) : text];
}

function isLess(value: number | undefined, most: number | undefined): boolean {
  return value !== undefined && most !== undefined && value < most;
}

function linkText(generation: number | undefined, lanes: number | undefined): string {
  const parts = [generation === undefined ? '' : `gen ${generation}`, lanes === undefined ? '' : `×${lanes}`];
  return parts.filter((part) => part !== '').join(' ');
}

function recovery(read: Readings, { bad }: Paint): string[] {
  const code = read.value('recovery_action');
  const words = code === undefined ? undefined : recoveryAction(code);
  return words === undefined ? [] : [bad(`the driver asks: ${words}`)];
}

function driver({ info, details, source }: ShownGpu): string[] {
  const modes = [
    ['persistence', details?.persistenceMode],
    ['ECC', details?.eccMode],
    ['MIG', details?.migMode],
  ] as const;
  return [
    clean(`${source === 'nvml' ? 'NVIDIA' : source} ${info.driver ?? ''}`.trim()),
    ...modes.flatMap(([what, on]) => (on == null ? [] : [`${what} ${on ? 'on' : 'off'}`])),
  ];
}

/** Rows of pid, name and memory. */
export function processRows(processes: NonNullable<GpuView['details']>['processes']): string[] {
  const shown = processes.slice(0, MAX_PROCESSES);
  const rows = shown.map(({ pid, name, memoryBytes, type }) => [
    { text: String(pid) },
    { text: clean(name) || '?' },
    { text: memoryBytes === null ? '' : quantityText(memoryBytes, 'bytes') },
    { text: type === 'graphics' ? type : '' },
  ]);
  const columns = [{ align: 'right' as const }, { shrinkTo: 20 }, { align: 'right' as const }, {}];
  const more = processes.length - shown.length;
  // What is left of 80 columns beside the term.
  return [...tableLines({ columns, rows, width: 60 }), ...(more > 0 ? [`and ${more} more`] : [])];
}

function processes({ details }: ShownGpu): string[] {
  return details === null ? [] : processRows(details.processes);
}

function instances({ details }: ShownGpu): string[] {
  const all = details?.mig ?? [];
  const rows = all
    .slice(0, MAX_INSTANCES)
    .map(({ gpuInstance, computeInstance, name, memoryBytes, uuid }) => [
      { text: `${gpuInstance}/${computeInstance}` },
      { text: clean(name) },
      { text: memoryBytes === null ? '' : quantityText(memoryBytes, 'bytes') },
      { text: clean(uuid) },
    ]);
  const more = all.length - rows.length;
  const columns = [{}, { shrinkTo: 12 }, { align: 'right' as const }, { shrinkTo: 12 }];
  return [...tableLines({ columns, rows, width: 60 }), ...(more > 0 ? [`and ${more} more`] : [])];
}
