/**
 * The narrow interfaces between the layers, and the plain data that crosses them. Whoever implements a port lives above
 * core; who uses it is given it by src/app. Nothing here has behaviour.
 */
import type { Channel, Quality, Reading } from './channel.js';
import type { ErrorCode } from './errors.js';
import type { Shape } from './shape.js';
import type { ActionState, AlertState, LogLevel, Severity } from './vocabulary.js';

// ---- Logging -------------------------------------------------------------------------------------------------------

/** Journal fields beside the message; src/app/log-journal.ts names them. */
export interface LogFields {
  /** Kind of event, `area.what` in lower case: selects the MESSAGE_ID of the catalog (systemd/skos.catalog). */
  readonly event?: string;
  readonly channel?: string;
  readonly rule?: string;
  readonly alert?: string;
  readonly action?: string;
  readonly outcome?: string;
  readonly code?: ErrorCode;
  readonly auditSeq?: number;
  readonly auditHead?: string;
  readonly error?: unknown;
  readonly [other: string]: unknown;
}

export type Log = Readonly<Record<LogLevel, (message: string, fields?: LogFields) => void>>;

// ---- Sensors -------------------------------------------------------------------------------------------------------

/** Read access under one root (/sys, /proc, /sys/fs/cgroup, or a test tree). Paths are relative, '/'-separated. */
export interface Tree {
  readonly root: string;
  /** Absolute path of a relative one. */
  absolute(path: string): string;
  /** Names in a directory that match, in natural order (temp2 before temp10); [] when there is no such directory. */
  list(directory: string, pattern: RegExp): Promise<string[]>;
  /**
   * Trimmed content of a regular file, its first 64 KiB (or `maxBytes`); undefined when absent, unreadable or not read
   * within a deadline (see stuck). Never blocks on a FIFO.
   */
  text(path: string, options?: { readonly maxBytes?: number }): Promise<string | undefined>;
  /** Integer content; undefined when absent, unreadable or no integer. */
  integer(path: string): Promise<number | undefined>;
  exists(path: string): Promise<boolean>;
  /** Real path relative to the root, symbolic links resolved; undefined when dangling or outside the root. */
  resolve(path: string): Promise<string | undefined>;
  /** Files whose read has not returned in time and hangs still: spare their drivers until they are gone from here. */
  readonly stuck: readonly string[];
}

/** What lm-sensors' configuration says about one feature of a chip. value = raw × multiplier + offset, in base units. */
export interface FeatureConf {
  readonly ignored: boolean;
  readonly label?: string;
  /** Absent: the raw value is meant. */
  readonly compute?: { readonly multiplier: number; readonly offset: number };
  /** Set when there is a compute statement that cannot be obeyed; the raw value is shown then. */
  readonly notComputed?: string;
}

/** A chip as lm-sensors names it: prefix-bus-address, such as nct6798-isa-0290 or lm75-i2c-1-48. */
export interface ChipName {
  readonly prefix: string;
  readonly bus: 'i2c' | 'isa' | 'pci' | 'spi' | 'virtual' | 'acpi' | 'hid' | 'mdio' | 'scsi';
  /** Of buses that are numbered (i2c, spi, hid, scsi); 0 otherwise. */
  readonly busNumber: number;
  readonly address: number;
  /** Name of the I²C adapter, by which the configuration may call it. */
  readonly adapter?: string;
}

/** lm-sensors' configuration, parsed. */
export interface SensorsConf {
  /** `feature` as in temp1, in0. */
  feature(chip: ChipName, feature: string): FeatureConf;
}

export interface SourceContext {
  readonly sysfs: Tree;
  readonly proc: Tree;
  readonly cgroup: Tree;
  /** Rate of temperatures, Hz. */
  readonly rateHz: number;
  /** cgroups that the config lists under `targets`, relative to the cgroup root. */
  readonly targets: Readonly<Record<string, string>>;
  /** Units whose use is told, by name: those of the config's `workloads`, and of `targets` that name a unit. */
  readonly workloads: Readonly<Record<string, string>>;
  /** Whether the config lets an actuator be there, which alone may read some counters. */
  readonly hasActuator: boolean;
  readonly sensorsConf: SensorsConf;
  readonly report: SourceReport;
}

/** What discovery passed over, with the reason; shown by `skos status`. */
export interface SourceReport {
  skipped(what: string, why: string): void;
}

export interface Source {
  readonly name: string;
  discover(context: SourceContext): Promise<Channel[]>;
}

export interface Discovery {
  readonly channels: readonly Channel[];
  readonly skipped: readonly { readonly source: string; readonly what: string; readonly why: string }[];
  /** Sources that failed or did not answer in time: nothing is known of their channels, not even that they are gone. */
  readonly unanswered?: readonly string[];
}

/** Raised after `samples` consecutive readings above `raise`; cleared after as many below `clear`. Canonical units. */
export interface Tripwire {
  /** Index into the channels given to the sampler. */
  readonly channel: number;
  readonly raise: number;
  readonly clear: number;
  readonly samples: number;
}

/** The native sampler, configured once; re-discovery makes a new one. */
export interface Sampler {
  readonly channels: readonly Channel[];
  start(): void;
  /** Idempotent; returns within milliseconds, also with a thread stuck in a driver. */
  stop(): void;
  /** Latest reading of channel i. Refreshes nothing: call refresh() once per tick before. */
  latest(i: number): Reading;
  /** Copies the latest readings from the native side into the bound buffers. No allocation. */
  refresh(): void;
  /** Calls back for every sample since the last drain, per channel in order of time. */
  drain(each: (channel: number, value: number, quality: Quality, atMs: number) => void): void;
  /** Samples lost because drain() came too late, since start. */
  readonly overruns: number;
}

// ---- GPUs and hardware events ----------------------------------------------------------------------------------------

export const GPU_STATES = [
  'opening',
  'serving',
  'failed',
  'lost',
  'reset_required',
  'hung',
  'detached',
  'gone',
] as const;
/** See native/gpu/README.md. */
export type GpuState = (typeof GPU_STATES)[number];

export interface GpuProcess {
  readonly pid: number;
  readonly name: string;
  readonly memoryBytes: number | null;
  readonly type: 'compute' | 'graphics';
}

export interface MigInstance {
  readonly gpuInstance: number;
  readonly computeInstance: number;
  readonly uuid: string;
  readonly name: string;
  readonly memoryBytes: number | null;
}

export interface GpuDetails {
  readonly processes: readonly GpuProcess[];
  readonly mig: readonly MigInstance[];
  readonly persistenceMode: boolean | null;
  readonly migMode: boolean | null;
  readonly eccMode: boolean | null;
}

export interface GpuView {
  /** PCI, "0000:3b:00.0". */
  readonly address: string;
  readonly source: string;
  readonly state: GpuState;
  /** Why it is in this state; '' when it serves. */
  readonly why: string;
  readonly sinceAtMs: number;
  /** Device segment of its channels' ids; '' while it was never served. */
  readonly device: string;
  /** name, vendor, uuid, serial, vbios, driver … as the driver says them. */
  readonly info: Readonly<Record<string, string>>;
  readonly details: GpuDetails | null;
}

export interface GpuLibrary {
  readonly source: string;
  readonly state: 'ok' | 'absent' | 'failed' | 'hung' | 'unused';
  readonly why: string;
  readonly path: string;
  readonly version: string;
}

export interface GpuStatus {
  /** To skos-gpu. */
  readonly connected: boolean;
  readonly why: string;
  readonly libraries: readonly GpuLibrary[];
  readonly gpus: readonly GpuView[];
}

/** Readings that another process writes into shared memory: native/sampler/region.h. */
export interface Region {
  /** JSON, as the writer says it. */
  readonly description: string;
  readonly channelCount: number;
  latest(i: number): Reading;
  refresh(): void;
  drain(each: (channel: number, value: number, quality: Quality, atMs: number) => void): void;
  readonly overruns: number;
  /** Idempotent; nothing is read afterwards. */
  close(): void;
}

/** The GPUs of this node, as skos-gpu serves them. */
export interface Gpus {
  status(): GpuStatus;
  /** Why there are not more, a line each. */
  readonly notFound: readonly string[];
  /** `id`: PCI address, device segment, UUID, or the beginning of one that fits no other. SKOS_GPU_UNKNOWN otherwise. */
  addressOf(id: string): string;
  detach(address: string): Promise<void>;
  attach(address: string): Promise<void>;
}

/** Something that hardware or its driver announced, in the kernel's log or by a library's events. */
export interface HardwareEvent {
  /** A word of native/probes/kernel_event.h: xid, sxid, gpu_lost, mce, aer, oom … */
  readonly kind: string;
  readonly origin: 'kmsg' | 'nvml';
  /** PCI address in the kernel's form, '' where the line names none. */
  readonly address: string;
  /** The number that the kind goes with: XID, SXid; null without one. */
  readonly code: number | null;
  /** What else the line says: pid, process, channel, device, bank … Bounded: ≤ 16 entries of ≤ 128 characters. */
  readonly detail: Readonly<Record<string, string>>;
  /** The line itself, ≤ 512 characters, unprintable ones replaced. */
  readonly text: string;
  /** Clock.monotonicMs. */
  readonly atMs: number;
  /** Equal events that this one stands for (a burst). */
  readonly count: number;
}

// ---- Flight recorder ---------------------------------------------------------------------------------------------------

export interface RecordingInfo {
  /** Id of the alert that it was made for. */
  readonly alert: string;
  /** Wall time of the alert. */
  readonly alertAtMs: number;
  readonly fromAtMs: number;
  readonly toAtMs: number;
  /** Channels in it, and all their samples. */
  readonly channels: number;
  readonly samples: number;
  /** It is still being written. */
  readonly open: boolean;
}

export interface RecordingSeries {
  readonly channel: string;
  readonly label: string;
  readonly quantity: string;
  readonly unit: string;
  /** Wall times, and values in the base unit; null where the quality is not ok. */
  readonly atMs: readonly number[];
  readonly values: readonly (number | null)[];
  /** [index of the first sample, quality], at each change. */
  readonly qualities: readonly (readonly [number, Quality])[];
}

/** What the recorder says of a recording as it goes on. */
export interface RecordingState {
  /** Those that it was made for, in the order in which they came; several where they overlapped. */
  readonly alerts: readonly { readonly alert: string; readonly atMs: number }[];
  readonly fromAtMs: number;
  readonly toAtMs: number;
  readonly channels: number;
  readonly samples: number;
  readonly open: boolean;
}

/** A piece of a recording: samples of one channel in the order in which they were taken. */
export interface RecordedSamples {
  /** Wall time of the first one. */
  readonly startAtMs: number;
  readonly length: number;
  /** Milliseconds from the first one. */
  readonly atMs: Float64Array;
  /** Canonical unit; NaN where the quality is not ok. */
  readonly values: Float64Array;
  /** Indexes into QUALITIES. */
  readonly qualities: Uint8Array;
}

export interface RecordingQuery {
  readonly alert: string;
  /** Which of several recordings of this alert: 1, the default, is the newest. */
  readonly nth?: number | undefined;
  /** Over channel ids. */
  readonly glob?: string | undefined;
  /** Of each channel about so many samples: those that are the least and the greatest of their time. Absent: all. */
  readonly points?: number | undefined;
  /** Where the former page ended. */
  readonly after?: string | undefined;
}

/** A part of a recording that one answer carries; a channel's series may go on in the next page. */
export interface RecordingPage {
  readonly recording: RecordingInfo;
  readonly series: readonly RecordingSeries[];
  /** To ask on with; null: that was all. */
  readonly after: string | null;
}

/** Recordings on disk. Writes are queued as everything else; a failed disk is never awaited. */
export interface RecordingLog {
  /** A number for a new recording. */
  begin(state: RecordingState): number;
  /** Encoded bytes; 0 when there was no room for them. At most MAX_CHUNK_SAMPLES (store/chunk.ts) at once. */
  putSamples(recording: number, channel: Channel, samples: RecordedSamples): number;
  /** What was put so far may be written now. */
  put(recording: number, state: RecordingState): void;
  /** One for each alert, newest first. */
  list(): Promise<RecordingInfo[]>;
  /** undefined: there is no such recording. */
  page(query: RecordingQuery): Promise<RecordingPage | undefined>;
}

// ---- Actuator ------------------------------------------------------------------------------------------------------

/** What a target of the actuator is asked for. Smaller is stricter. Meaning by kind: see native/actuator/README.md. */
export interface LeaseRequest {
  /** Unique name of the lease, ≤ 120 of [a-z0-9:_.@~/-]. Asking again for the same id replaces it (renewal). */
  readonly lease: string;
  /** Target id of the allow-list: cpufreq/policy0, intel_pstate/max_perf, rapl/intel-rapl:0, quota/NAME, freeze/NAME. */
  readonly target: string;
  /** Parts per million of the pre-lease limit (cpufreq, pstate, rapl), of one CPU (quota), 0 = frozen (freeze). */
  readonly capPpm: number;
  /** Without renewal the lease is orphaned after this time. */
  readonly ttlMs: number;
}

export interface LeaseResult {
  readonly ok: boolean;
  /** applied, released, pending, undo_pending, foreign_change, or an actuator error word such as not_listed. */
  readonly outcome: string;
  /** What the target read before the first lease, what was written and what was read back, as the kernel writes it. */
  readonly former?: string;
  readonly written?: string;
  readonly readBack?: string;
}

export interface ActuatorTarget {
  readonly target: string;
  readonly former: string;
  readonly current: string;
  /** idle, held, pending, undo_pending, foreign_change, failed, hung or not_permitted. */
  readonly state: string;
}

export interface ActuatorLease {
  readonly lease: string;
  readonly target: string;
  readonly capPpm: number;
  readonly orphaned: boolean;
}

export interface ActuatorOrder {
  readonly order: string;
  readonly raised: boolean;
  readonly value: number | null;
  readonly quality: Quality;
}

export interface ActuatorEvent {
  readonly seq: number;
  /** Wall time at which it happened. */
  readonly atMs: number;
  readonly kind: string;
  readonly subject: string;
  readonly detail: string;
}

/** Average power of one energy counter since the average before it, over at least a second. */
export interface ActuatorPower {
  /** Of the allow-list: "rapl/intel-rapl:0". */
  readonly id: string;
  /** null unless ok. */
  readonly milliWatts: number | null;
  readonly quality: Quality;
}

export const JOB_STATES = ['idle', 'running', 'done', 'failed', 'timeout', 'unavailable', 'unknown'] as const;
export type JobState = (typeof JOB_STATES)[number];

/** A job of the allow-list, and its last run. */
export interface ActuatorJob {
  /** Of the allow-list: act/cleanup_temp, hook/redistribute, unit/NAME/restart. */
  readonly job: string;
  readonly state: JobState;
  /** Of the last run; '' when there was none. */
  readonly key: string;
  /** null: it has not ended, or has none. */
  readonly exit: number | null;
  /** Since the last run began. */
  readonly ageMs: number;
}

/** A packet socket (AF_UNIX SOCK_SEQPACKET), which Node cannot open itself; the addon provides it. */
export interface PacketSocket {
  /** Never blocks. 0 or an errno. */
  send(packet: string): number;
  close(): void;
}
export type ConnectPacketSocket = (
  path: string,
  /** Called with each packet, and once with null when the other side is gone. */
  onPacket: (packet: string | null) => void,
) => PacketSocket;

/** The connection to skos-actuator. Every call has a deadline; a lost connection rejects with SKOS_ACTUATOR_ABSENT. */
export interface Actuator {
  readonly connected: boolean;
  set(request: LeaseRequest): Promise<LeaseResult>;
  release(lease: string): Promise<LeaseResult>;
  /** Returns how many of the leases were known; fewer than asked: some are lost. */
  renew(leases: readonly string[], ttlMs: number): Promise<number>;
  targets(): Promise<ActuatorTarget[]>;
  leases(): Promise<ActuatorLease[]>;
  orders(): Promise<ActuatorOrder[]>;
  powers(): Promise<ActuatorPower[]>;
  /** Events after `afterSeq`, oldest first. */
  events(afterSeq: number): Promise<ActuatorEvent[]>;
  /** Starts a job of the allow-list, once per key. Rejects with SKOS_ACTUATOR_DENIED, or SKOS_ACTUATOR_BUSY while it runs. */
  run(job: string, key: string): Promise<void>;
  jobs(): Promise<ActuatorJob[]>;
  /** Reads its allow-list again. */
  reload(): Promise<void>;
}

// ---- Alerts, actions, audit ---------------------------------------------------------------------------------------

export interface Alert {
  /** Stable while it stands: `<rule>-<channel>`, with "-" for "/", as one topic segment. */
  readonly id: string;
  readonly rule: string;
  /** One of ANTIBODY_TYPES, or that of an external antibody. */
  readonly agentType: string;
  /** "thermal", "storage", … as others already read it. */
  readonly type: string;
  readonly state: AlertState;
  /** The rung it is on; null when it is over. */
  readonly severity: Severity | null;
  /** Quality of the last reading: a firing alert whose sensor is gone says so here. */
  readonly verdict: Quality;
  readonly channel: string;
  /** "cpu", "gpu", … or the device class. */
  readonly sensor: string;
  readonly message: string;
  /** Base unit (°C, %), null when there is no value. */
  readonly value: number | null;
  readonly threshold: number | null;
  readonly unit: string;
  /** A rung that it is on says `alert_human`: a person has to look. */
  readonly attention?: boolean;
  readonly sinceAtMs: number;
  readonly updatedAtMs: number;
  /** An operator's silence covers it: nobody is notified. */
  readonly silenced?: true;
}

export interface ActionRecord {
  /** "nova:thermal:throttle_50:1704067200", `:n` appended where one second holds several. */
  readonly actionId: string;
  readonly action: string;
  readonly rule: string;
  readonly alert: string;
  readonly channel: string;
  readonly severity: Severity;
  readonly state: ActionState;
  /** Why it is in this state, for people. */
  readonly reason: string;
  /** One entry per target of the actuator. */
  readonly effects: readonly ActionEffect[];
  /** Absent: it has none. */
  readonly jobs?: readonly ActionJob[];
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
}

/** One attempt of one job of an action. */
export interface ActionJob {
  readonly job: string;
  /** Of this attempt alone: "<action id>/<attempt>". */
  readonly key: string;
  readonly state: JobState;
  readonly exit: number | null;
  /** What the unit said of itself: one sentence, '' when it said nothing. */
  readonly summary: string;
}

export interface ActionEffect {
  readonly target: string;
  readonly capPpm: number;
  readonly outcome: string;
  /** What stood there before, what was written and what was read back, as the kernel writes it. */
  readonly former?: string;
  readonly written?: string;
  readonly readBack?: string;
  /** What the target read after the release: the former value, or the cap of another action that still wants one. */
  readonly readAfter?: string;
}

export interface AuditInput {
  /** Kind, `area.what`: action.active, action.end, alert.fire, alert.clear, release, actuator.event, agent.start … */
  readonly kind: string;
  /** Who: agent, actuator, or the operator's user name. */
  readonly who: string;
  /** What it was about and what came of it; JSON values only. */
  readonly what: Readonly<Record<string, unknown>>;
}

export interface AuditEntry extends AuditInput {
  readonly seq: number;
  readonly atMs: number;
  /** SHA-256 of the previous entry, hex; 64 zeros before the first. */
  readonly previous: string;
  /** SHA-256 of this entry's canonical form (everything but this field), hex. */
  readonly hash: string;
}

export interface AuditHead {
  readonly seq: number;
  readonly hash: string;
}

/** A key that signs the chain. */
export interface AuditKeyView {
  readonly keyId: string;
  /** The entry that introduced it, or the first that it signed of those that were seen. */
  readonly sinceSeq: number;
  /** Whether the key before it signed that it follows; null: it is the first that was seen. */
  readonly handedOver: boolean | null;
}

export interface AuditSignatures {
  /** In the order in which they came in force; the latest ones where there were very many. */
  readonly keys: readonly AuditKeyView[];
  /** The last entry that a signature covers; 0: none. */
  readonly signedSeq: number;
  /** Entries behind it. */
  readonly unsigned: number;
}

/** `firstBadSeq` 0: no single entry is bad, but what surrounds them (the first or the last line of an export). */
export type AuditVerdict = (
  | { readonly ok: true; readonly head: AuditHead }
  | { readonly ok: false; readonly firstBadSeq: number; readonly why: string }
) & {
  readonly entries: number;
  readonly signatures: AuditSignatures;
  /** How many heads that are known from elsewhere were met. */
  readonly knownHeads: number;
  /** What an auditor should know although the chain may be whole: one sentence each. */
  readonly remarks: readonly string[];
};

export interface AuditVerifyOptions {
  /** Heads that the chain must contain, beside those that the agent itself knows. */
  readonly heads?: readonly AuditHead[] | undefined;
  /** Key id or public key, hex: a chain that goes on under a key to which this one did not hand over is broken. */
  readonly key?: string | undefined;
}

export interface AuditRotation {
  readonly keyId: string;
  /** null: there was no key. */
  readonly former: string | null;
  /** The entry that introduces the new key. */
  readonly seq: number;
}

/** What an export says of itself in its last line (store/audit-export.ts). */
export interface AuditSeal {
  readonly node: string;
  readonly atMs: number;
  /** All three null where the chain is not signed. */
  readonly keyId: string | null;
  readonly publicKey: string | null;
  readonly signature: string | null;
}

export interface AuditSealRequest {
  /** The head before the first exported entry, and the last exported entry. */
  readonly after: AuditHead;
  readonly head: AuditHead;
  /** SHA-256 of all bytes before the last line, hex. */
  readonly sha256: string;
}

export interface AuditLog {
  /** True when append() means "on disk". Anything else: no database is open, and irreversible acts must not run. */
  readonly durable?: boolean;
  /** The key that signs now; undefined: none does. */
  readonly keyId?: string | undefined;
  /** Resolves when the entry is on disk (fdatasync has returned). Appends in call order; calls may overlap. */
  append(input: AuditInput): Promise<AuditEntry>;
  head(): AuditHead;
  verify(options?: AuditVerifyOptions): Promise<AuditVerdict>;
  /** Entries from `fromSeq` on, oldest first, at most `limit`; fewer where they are large. Empty: there is none. */
  list(options: { fromSeq: number; limit: number }): Promise<AuditEntry[]>;
  /** The entries that introduced keys, oldest first, as far as they are still there. */
  introductions(): Promise<AuditEntry[]>;
  /** A new key, to which the former one hands over. Resolves when that is on disk. Rejects with SKOS_AUDIT_KEY. */
  rotateKey(who: string): Promise<AuditRotation>;
  /** Signs an export, on record as made by `who`. Rejects with SKOS_AUDIT_BROKEN when these are not heads of the chain. */
  sealExport(request: AuditSealRequest, by: { who: string; node: string }): Promise<AuditSeal>;
}

// ---- History ---------------------------------------------------------------------------------------------------------

/** A channel of which something is or was stored; it may be gone from the machine. */
export interface StoredChannel
  extends Pick<Channel, 'id' | 'source' | 'device' | 'name' | 'label' | 'quantity' | 'class'> {
  /** When it was seen first and last, wall time, to about an hour. */
  readonly firstAtMs: number;
  readonly lastAtMs: number;
}

export interface HistoryQuery {
  /** Over channel ids, as globMatches() reads it. */
  readonly glob: string;
  /** Half-open, wall time. */
  readonly fromAtMs: number;
  readonly toAtMs: number;
  /**
   * Of each channel at most so many points, each with the least, the mean and the greatest of its time: an extreme never
   * disappears. Absent: all there is, samples where they are kept still, then seconds, then minutes.
   */
  readonly points?: number | undefined;
  /** Where the former page ended. */
  readonly after?: string | undefined;
}

/** A stretch of one channel at one width. Values are in the base unit, null where there is none. */
export interface HistorySeries {
  readonly channel: string;
  readonly label: string;
  readonly quantity: string;
  readonly unit: string;
  /** Width of a point, aligned to multiples of it; 0: single samples, whose least and greatest are the value itself. */
  readonly stepMs: number;
  /** Where each point begins. A point without any sample is left out: a gap. */
  readonly atMs: readonly number[];
  readonly values: readonly (number | null)[];
  /** Absent for single samples. */
  readonly minimums?: readonly (number | null)[];
  readonly maximums?: readonly (number | null)[];
  /** Samples with a value. */
  readonly counts?: readonly number[];
  /** [index of the first point, quality], at each change; of a point: ok when every sample was, else the latest that was not. */
  readonly qualities: readonly (readonly [number, Quality])[];
}

export interface HistoryPage {
  readonly series: readonly HistorySeries[];
  /** To ask on with; null: that was all. */
  readonly after: string | null;
}

/** The last sample of a channel that is stored or on its way there. */
export interface LatestSample {
  readonly channel: string;
  readonly unit: string;
  readonly atMs: number;
  readonly value: number | null;
  readonly quality: Quality;
}

/** One quantity of one device over a stretch of time: all its channels together, in the base unit. */
export interface DeviceAggregate {
  readonly source: string;
  readonly device: string;
  readonly quantity: string;
  readonly unit: string;
  readonly channels: number;
  /** null when there was no value at all. */
  readonly minimum: number | null;
  readonly mean: number | null;
  readonly maximum: number | null;
  /** Where and when the greatest was seen; '' and null without one. */
  readonly maximumOf: string;
  readonly maximumAtMs: number | null;
}

export interface History {
  channels(): readonly StoredChannel[];
  /** A bounded part of the answer; the reader sets the pace by asking on. Rejects with SKOS_STORE_READ. */
  page(query: HistoryQuery): Promise<HistoryPage>;
  latest(glob: string): Promise<LatestSample[]>;
  byDevice(query: Pick<HistoryQuery, 'glob' | 'fromAtMs' | 'toAtMs'>): Promise<DeviceAggregate[]>;
}

// ---- Outbox ----------------------------------------------------------------------------------------------------------

/** Where an item stands in its queue; the receiver tells repeats apart by it. */
export interface OutboxPosition {
  /** Made with the queue: a database that was lost begins its numbers anew, and must not be taken for the one before. */
  readonly epoch: string;
  /** Counted from 1. */
  readonly seq: number;
}

export interface OutboxItem extends OutboxPosition {
  readonly atMs: number;
  /** What it is: an event's name. */
  readonly kind: string;
  readonly data: unknown;
}

export interface OutboxState {
  readonly queue: string;
  readonly epoch: string;
  readonly waiting: number;
  readonly bytes: number;
  /** null: nothing waits. */
  readonly oldestAtMs: number | null;
  /** Last number that was given, and that was taken. */
  readonly lastSeq: number;
  readonly takenSeq: number;
  /** Lost beyond the bound, or with a damaged disk, since the queue exists. */
  readonly dropped: number;
}

/** Durable queues of what must reach somebody: at least once, in order, bounded. */
export interface Outbox {
  /** Returns at once. Throws RangeError for what has no JSON form, or too many queues: programming errors. */
  put(queue: string, item: { readonly kind: string; readonly data: unknown }): void;
  /** What waits, oldest first, at most `limit`; fewer where they are large. Rejects with SKOS_STORE_READ. */
  read(queue: string, limit: number): Promise<OutboxItem[]>;
  /** All up to and with this one have arrived. Idempotent; a position that the queue never gave is ignored. */
  take(queue: string, position: OutboxPosition): void;
  /** Nobody wants it any more: what waits is let go. Returns how many items that were. */
  remove(queue: string): number;
  /** By name, without those that were removed. */
  states(): OutboxState[];
}

// ---- Typed records ---------------------------------------------------------------------------------------------------

/** One kind of record of the agent: how it looks, how it came to look so, and how many there may be. */
export interface RecordKind<T> {
  /** Part of the keys: [a-z0-9-], never changed. */
  readonly name: string;
  /** Of the stored form; bump when that changes, with an upgrade. */
  readonly version: number;
  readonly shape: Shape<T>;
  /** upgrades[i] makes the form of version i + 2 of the form of version i + 1. Pure. */
  readonly upgrades: readonly ((older: unknown) => unknown)[];
  /** Beyond it the one that was put longest ago goes. */
  readonly maxCount: number;
  /** Of one record. */
  readonly maxBytes: number;
}

/** The records of one kind, by id. In memory, and written behind; what is stored is there after load(). */
export interface Records<T> {
  /** Reads what is stored, once; what was put meanwhile stays. Rejects with SKOS_STORE_READ, and can be tried again. */
  load(): Promise<void>;
  get(id: string): T | undefined;
  all(): ReadonlyMap<string, T>;
  /** Throws RangeError for an impossible id, or a record that is too large or not of its shape: programming errors. */
  put(id: string, record: T): void;
  remove(id: string): void;
}

// ---- Backup ----------------------------------------------------------------------------------------------------------

/** All records of one moment, as the stream of entries that store/backup-file.ts describes. Whoever opened it closes it. */
export interface RecordSnapshot {
  readonly facts: {
    /** Of the database. */
    readonly format: number;
    /** The last audit entry in it. */
    readonly auditHead: AuditHead;
    /** On disk, about. */
    readonly approximateBytes: number;
  };
  /** What waits still and is no part of it; sentences, usually none. */
  readonly missing: readonly string[];
  /** The next so many bytes, fewer at the end; undefined behind it. Rejects with SKOS_STORE_READ. */
  next(
    maxBytes: number,
  ): Promise<{ readonly bytes: Buffer /** Read so far, 0 to 1. */; readonly fraction: number | null } | undefined>;
  /** Idempotent. */
  close(): Promise<void>;
}

/** Everything the agent remembers. Writes are queued and batched; a failed disk is reported and retried, never awaited. */
export interface Store {
  readonly audit: AuditLog;
  readonly recordings: RecordingLog;
  readonly history: History;
  readonly outbox: Outbox;
  putAlert(alert: Alert): void;
  /** Newest first. `standing` only: those whose severity is not null. */
  alerts(options: { standing?: boolean; limit: number }): Promise<Alert[]>;
  putAction(action: ActionRecord): void;
  actions(options: { limit: number }): Promise<ActionRecord[]>;
  putState(key: string, value: unknown): void;
  state(key: string): Promise<unknown>;
  /** Once per kind. */
  records<T>(kind: RecordKind<T>): Records<T>;
  /** One sample for the time series; values in the canonical unit. */
  sample(channel: Channel, value: number | null, quality: Quality, atMs: number): void;
  /** For a backup. Absent: no database is open. */
  snapshot?(): Promise<RecordSnapshot>;
}
