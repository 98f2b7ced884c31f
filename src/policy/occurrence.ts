/**
 * Hardware events as occurrences. Pure: (state, event, own acts) → state.
 *
 * A burst of the same event is one occurrence with a count; so is one event that both the kernel's log and NVML tell, whose
 * count is that of the source that told more. Which event belongs to which is a matter of time and of a short list of
 * relations: what accompanies an XID, and what cancels one.
 */
import type { HardwareEvent } from '../core/ports.js';
import type { DriverVerdict } from './xid.js';

/** The same event after a longer silence has happened again. */
export const BURST_WINDOW_MS = 60_000;
/** What belongs to an XID comes within a second; GSP time-outs draw their consequences out over some more. */
export const RELATION_WINDOW_MS = 30_000;
/** A driver that lets go of a GPU, or takes a limit, says so within seconds. */
export const OWN_WINDOW_MS = 15_000;
/** Things that can fail on one node within a minute, disks of a large JBOD included. The oldest is forgotten first. */
export const MAX_OCCURRENCES = 256;

/** Something that we did to a device ourselves. */
export interface OwnAct {
  readonly kind: 'detach' | 'attach' | 'set' | 'reset';
  readonly address: string;
  readonly atMs: number;
}

export interface Occurrence {
  readonly key: string;
  readonly kind: string;
  /** Kind and what tells it from others of the kind: xid-79, aer-fatal, nvme-timeout. */
  readonly name: string;
  /** PCI address, else device, else "node". */
  readonly subject: string;
  readonly address: string;
  readonly code: number | null;
  readonly firstAtMs: number;
  readonly lastAtMs: number;
  /** `nvml` by its XID event, `alias` by one of its events that say the same in a word. */
  readonly told: { readonly kmsg: number; readonly nvml: number; readonly alias: number };
  /** Of its latest event; the severity is the worst of all. */
  readonly detail: Readonly<Record<string, string>>;
  /** Of the first line that had one. */
  readonly text: string;
  /** What we had done to this device shortly before. */
  readonly afterOwn: OwnAct['kind'] | null;
}

export interface OccurrenceState {
  readonly occurrences: ReadonlyMap<string, Occurrence>;
  /** By PCI address. */
  readonly verdicts: ReadonlyMap<string, DriverVerdict>;
}

export const NO_OCCURRENCES: OccurrenceState = { occurrences: new Map(), verdicts: new Map() };

/** What tells two events of one kind apart, where it is no code. */
const VARIANTS = ['severity', 'state', 'scope', 'error'] as const;
/** XIDs have a code, and their severity is of one line among several. */
const CODED = new Set(['xid', 'sxid']);

/** Accompanied by: each of these is explained by the other, when both come together on one device. */
const LEADERS = new Map<string, readonly string[]>(
  Object.entries({
    'xid-63': ['xid-48'],
    'xid-64': ['xid-48'],
    'xid-94': ['xid-48'],
    'xid-95': ['xid-48'],
    'xid-171': ['xid-48'],
    'xid-172': ['xid-48'],
    gpu_lost: ['xid-79'],
    amd_vram_lost: ['amd_reset-begin'],
  }),
);
/**
 * Words of NVML's event set for what the driver also tells as an XID. Each event that NVML sends both ways must be one.
 * Source: nvmlEventType* of nvml.h and the XID catalogue's mnemonics.
 */
const AS_XID = new Map<string, number>(
  Object.entries({
    double_bit_ecc: 48,
    dram_retirement: 63,
    dram_retirement_failure: 64,
    single_bit_ecc_storm: 92,
    recovery_action: 154,
  }),
);
const CLEANUP = 'xid-45';
const RECOVERY = 'xid-154';

/** The first, when it comes, ends the others of its device. */
const CANCELS = new Map<string, readonly string[]>(
  Object.entries({
    'xid-162': ['xid-163'],
    'amd_reset-succeeded': ['amd_reset-begin', 'amd_reset-failed', 'amd_ring'],
  }),
);

export function observe(
  state: OccurrenceState,
  event: HardwareEvent,
  ownActs: readonly OwnAct[],
): { readonly state: OccurrenceState; readonly occurrence: Occurrence; readonly isNew: boolean } {
  const fresh = occurrenceOf(event, ownActs);
  const former = state.occurrences.get(fresh.key);
  const isNew = former === undefined || event.atMs - former.lastAtMs > BURST_WINDOW_MS;
  const occurrence = isNew ? fresh : merged(former, fresh);
  const occurrences = new Map(state.occurrences);
  occurrences.set(occurrence.key, occurrence);
  if (occurrences.size > MAX_OCCURRENCES) occurrences.delete(oldest(occurrences));
  return { state: { occurrences, verdicts: withVerdict(state.verdicts, event) }, occurrence, isNew };
}

export function countOf({ told }: Pick<Occurrence, 'told'>): number {
  return Math.max(told.kmsg, told.nvml, told.alias);
}

/** The name of the occurrence that explains this one; undefined when it stands alone. */
export function leaderOf(occurrence: Occurrence, { occurrences }: OccurrenceState): string | undefined {
  const { cause } = occurrence.detail;
  if (cause !== undefined && occurrence.name === CLEANUP) return `xid-${cause}`;
  const known = LEADERS.get(occurrence.name);
  for (const other of occurrences.values()) {
    if (other.key === occurrence.key || other.address !== occurrence.address || !isNear(other, occurrence)) continue;
    if (known?.includes(other.name)) return other.name;
    // Preemptive clean-up follows whatever went wrong before it.
    if (occurrence.name === CLEANUP && other.name.startsWith('xid-') && other.name !== RECOVERY) return other.name;
  }
  return undefined;
}

/** Names of what this occurrence ends on its device. */
export function cancelledBy({ name }: Pick<Occurrence, 'name'>): readonly string[] {
  return CANCELS.get(name) ?? [];
}

function occurrenceOf(event: HardwareEvent, ownActs: readonly OwnAct[]): Occurrence {
  const { kind, address, code, detail, origin, count, atMs } = event;
  const name = nameOf(event);
  const subject = address || detail.device || (detail.controller === undefined ? 'node' : `mc${detail.controller}`);
  const own = ownActs.findLast(
    (act) => act.address === address && address !== '' && atMs >= act.atMs && atMs - act.atMs <= OWN_WINDOW_MS,
  );
  return {
    key: `${subject} ${name}`,
    kind,
    name,
    subject,
    address,
    code,
    firstAtMs: atMs,
    lastAtMs: atMs,
    told: {
      kmsg: origin === 'kmsg' ? count : 0,
      nvml: origin === 'nvml' && !AS_XID.has(kind) ? count : 0,
      alias: origin === 'nvml' && AS_XID.has(kind) ? count : 0,
    },
    detail,
    text: event.text,
    afterOwn: own?.kind ?? null,
  };
}

function nameOf({ kind, code, detail }: HardwareEvent): string {
  const alias = AS_XID.get(kind);
  if (alias !== undefined) return `xid-${alias}`;
  if (code !== null) return `${kind}-${code}`;
  const variant = CODED.has(kind) ? undefined : VARIANTS.find((each) => detail[each] !== undefined);
  return variant === undefined ? kind : `${kind}-${detail[variant]}`;
}

function merged(former: Occurrence, fresh: Occurrence): Occurrence {
  return {
    ...former,
    firstAtMs: Math.min(former.firstAtMs, fresh.firstAtMs),
    lastAtMs: Math.max(former.lastAtMs, fresh.lastAtMs),
    told: {
      kmsg: former.told.kmsg + fresh.told.kmsg,
      nvml: former.told.nvml + fresh.told.nvml,
      alias: former.told.alias + fresh.told.alias,
    },
    // NVML says less than a line of the log: what is known stays.
    detail: { ...former.detail, ...fresh.detail, ...worst(former, fresh) },
    text: former.text === '' ? fresh.text : former.text,
    afterOwn: former.afterOwn ?? fresh.afterOwn,
  };
}

/** Of a burst whose lines differ in their severity (NVLink 5, SXid): each line would raise the alert or lower it. */
function worst(former: Occurrence, fresh: Occurrence): { severity?: string } {
  const isFatal = former.detail.severity === 'fatal' || fresh.detail.severity === 'fatal';
  return isFatal ? { severity: 'fatal' } : {};
}

function oldest(occurrences: ReadonlyMap<string, Occurrence>): string {
  let found: Occurrence | undefined;
  for (const each of occurrences.values()) if (found === undefined || each.lastAtMs < found.lastAtMs) found = each;
  return found?.key ?? '';
}

function isNear(a: Occurrence, b: Occurrence): boolean {
  return a.firstAtMs - b.lastAtMs <= RELATION_WINDOW_MS && b.firstAtMs - a.lastAtMs <= RELATION_WINDOW_MS;
}

/** "None" is a verdict too: what stood before is over. */
function withVerdict(
  verdicts: ReadonlyMap<string, DriverVerdict>,
  event: HardwareEvent,
): ReadonlyMap<string, DriverVerdict> {
  const verdict = verdictOf(event);
  if (verdict === undefined) return verdicts;
  const next = new Map(verdicts);
  next.delete(event.address);
  next.set(event.address, verdict);
  for (const address of next.keys()) if (next.size > MAX_OCCURRENCES) next.delete(address);
  return next;
}

/** The GPU is served again, or gone for good: what the driver asked for is over. */
export function withoutVerdict(state: OccurrenceState, address: string): OccurrenceState {
  if (!state.verdicts.has(address)) return state;
  const verdicts = new Map(state.verdicts);
  verdicts.delete(address);
  return { ...state, verdicts };
}

/** `recovery_code` is hexadecimal, as the driver writes it. */
function verdictOf({ kind, code, detail, atMs }: HardwareEvent): DriverVerdict | undefined {
  const isVerdict = kind === 'recovery_action' || (kind === 'xid' && code === 154);
  const action = Number.parseInt(detail.recovery_code ?? '', 16);
  if (!isVerdict || Number.isNaN(action)) return undefined;
  return { code: action, words: detail.recovery ?? '', atMs };
}
