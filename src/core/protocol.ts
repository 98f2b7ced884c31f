/**
 * The protocol of the agent's Unix socket: JSON lines, both ways, bounded. Its clients are the CLI and skos-net.
 *
 *   client → agent   {"id":1,"verb":"status","params":{}}
 *   agent → client   {"id":1,"result":{…}}  or  {"id":1,"error":{"code":"SKOS_…","message":"…"}}
 *   agent → client   {"event":"alert","data":{…}}        only after the verb `subscribe`
 *
 * Who may ask what is decided by SO_PEERCRED when the client connects: `admin` (root, group skos-admin, the agent's own
 * user) may use every verb, `net` (skos-net's user) those marked net.
 */
import type { ChainReport, ChainTruth } from './chains.js';
import type { Channel, ChannelJson, Quality } from './channel.js';
import type { Credential, GuestKind, GuestRole } from './guests.js';
import type {
  ActionRecord,
  ActuatorLease,
  ActuatorOrder,
  ActuatorTarget,
  Alert,
  AuditEntry,
  AuditHead,
  AuditRotation,
  AuditSeal,
  AuditSealRequest,
  AuditVerdict,
  AuditVerifyOptions,
  DeviceAggregate,
  GpuState,
  GpuStatus,
  HistoryPage,
  HistoryQuery,
  JobState,
  LatestSample,
  OutboxItem,
  OutboxPosition,
  OutboxState,
  RecordingInfo,
  RecordingPage,
  RecordingQuery,
  StoredChannel,
} from './ports.js';
import type { LogLevel, Mode, Severity, UnitVerb } from './vocabulary.js';

/** A line longer than this ends the connection: the largest honest one is `sensors` of some thousand channels. */
export const MAX_LINE_BYTES = 4 * 1024 * 1024;
/** What a slow reader may have outstanding before it is disconnected (SKOS_PROTOCOL_OVERFLOW). */
export const MAX_QUEUED_BYTES = 8 * 1024 * 1024;
/** Clients at once: an operator's tools and skos-net, with room for a forgotten `--watch`. */
export const MAX_CLIENTS = 32;

export interface Heartbeat {
  /** One of ANTIBODY_TYPES, or that of an external antibody. */
  readonly agentType: string;
  readonly atMs: number;
  /** Hottest ok channel of the class, °C. */
  readonly cpuTemp: number | null;
  readonly gpuTemp: number | null;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export type PeerState = 'online' | 'offline' | 'unknown';

export interface PeerView {
  readonly node: string;
  readonly state: PeerState;
  /** Since when, wall time. */
  readonly sinceAtMs: number;
  /** Why: "last will", "no heartbeat for 30 s", "connected", … */
  readonly why: string;
  /** Since its last live word; where it has spoken none yet, since skos-net began to listen, once that is too long. null: not known. */
  readonly silentMs: number | null;
  /** For how long its live words have said that it does not hear this node: 0 while it does. null: it says nothing of it. */
  readonly deafMs: number | null;
}

export interface NetReport {
  readonly mqttListen: string;
  readonly listening: boolean;
  readonly clients: number;
  /** Somebody subscribes to sensor topics of this node: publish them on change. */
  readonly sensorDemand: boolean;
  readonly peers: readonly PeerView[];
  readonly rssBytes: number;
  /** Chains that reported a step of late. */
  readonly chains?: number | undefined;
}

/** A token, without its secret. */
export interface TokenView {
  readonly name: string;
  readonly role: GuestRole;
  readonly createdAtMs: number;
  /** Who added it. */
  readonly who: string;
}

/** A chain that is held, or that was beyond a limit of late. */
export interface ChainView {
  readonly chain: string;
  /** `repair`: of our own repairs. */
  readonly kind: 'workload' | 'repair';
  readonly isHeld: boolean;
  /** Why, for people. */
  readonly reason: string;
  readonly sinceAtMs: number;
  /** The token of who reported it, or who asked for it. */
  readonly who: string;
}

/** An external antibody. */
export interface GuestAntibodyView {
  readonly name: string;
  readonly agentType: string;
  readonly registeredAtMs: number;
  /** null: not since the agent was started. */
  readonly lastBeatAtMs: number | null;
  readonly isOnline: boolean;
  /** Alerts of it that stand. */
  readonly alerts: number;
  /** Of the last command that it answered; '' for none. */
  readonly answered: string;
}

/** A command for an external antibody. */
export interface AntibodyCommand {
  readonly agentType: string;
  readonly actionId: string;
  readonly command: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly atMs: number;
}

/** What became of a command that came over MQTT. */
export interface CommandAnswer {
  readonly actionId: string;
  readonly command: string;
  readonly outcome: 'done' | 'refused' | 'ignored';
  readonly reason: string;
  readonly atMs: number;
}

export interface Status {
  readonly node: string;
  readonly version: string;
  readonly pid: number;
  readonly bootId: string;
  readonly startedAtMs: number;
  readonly mode: Mode;
  /** Armed: mode auto and an actuator is there. */
  readonly armed: boolean;
  readonly ticks: number;
  /** Duration of the last 1,000 ticks. */
  readonly tickP99Ms: number;
  readonly channels: number;
  readonly channelsByQuality: Readonly<Record<string, number>>;
  /** All that are known, by address; `skos gpu` says more. */
  readonly gpus: readonly { readonly address: string; readonly name: string; readonly state: GpuState }[];
  /** One line each: what was not found and why. */
  readonly notFound: readonly string[];
  readonly actuator: {
    readonly connected: boolean;
    readonly why: string;
    readonly targets: readonly ActuatorTarget[];
    readonly leases: readonly ActuatorLease[];
    readonly orders: readonly ActuatorOrder[];
  };
  readonly store: { readonly ok: boolean; readonly why: string; readonly head: AuditHead };
  /** What waits for receivers that are away. */
  readonly outbox: readonly OutboxState[];
  readonly net: (NetReport & { readonly connected: true }) | { readonly connected: false; readonly why: string };
  readonly alerts: number;
  readonly bars: readonly { readonly rule: string; readonly untilAtMs: number }[];
  /** Silences that stand. */
  readonly silences: number;
  /** Circuit breakers that wait for an operator, and the maintenance window that is open. */
  readonly repairs: { readonly latched: readonly string[]; readonly window: BreakersView['window'] };
  /** Nothing new is begun until then; null without a hold. */
  readonly hold: { readonly untilAtMs: number; readonly who: string } | null;
  readonly logLevel: LogLevel;
}

/** The flight recorder: what it holds in memory, and its recordings. */
export interface RecorderView {
  readonly memory: {
    readonly bytes: number;
    readonly channels: number;
    /** Channels that there was no room for. */
    readonly notRecorded: number;
    /** How far back all channels are there. */
    readonly reachMs: number;
  };
  /** Newest first. */
  readonly recordings: readonly RecordingInfo[];
}

/** A part of a list that has no end a line could promise: ask again with `after` until that is null. */
export interface ListPage<T> {
  readonly rows: readonly T[];
  readonly after: string | null;
}

/** A channel of which something is stored. */
export interface StoredChannelView extends StoredChannel {
  /** The machine has it no longer. */
  readonly gone: boolean;
}

/** A workload of the configuration. */
export interface WorkloadView {
  readonly name: string;
  readonly unit: string;
  readonly essential: boolean;
  readonly movable: boolean;
  readonly hosts: readonly string[];
  /** systemd has a cgroup for its unit. */
  readonly isRunning: boolean;
  /** By us. */
  readonly isFrozen: boolean;
  /** The last start, stop or restart since the boot; null: none. */
  readonly last: {
    readonly verb: string;
    readonly state: JobState;
    readonly exit: number | null;
    readonly ageMs: number;
  } | null;
}

/** A proposed action, and what exactly would happen. */
export interface ProposalView {
  readonly action: ActionRecord;
  readonly risk: 'low' | 'medium' | 'high';
  readonly effects: readonly { readonly target: string; readonly capPpm: number; readonly current: string }[];
  /** What would be run once, by its id of the allow-list. */
  readonly jobs: readonly string[];
  /** What that would touch, as of when it was looked; null: it has no listing, or none yet. */
  readonly listing: {
    readonly atMs: number;
    readonly summary: string;
    readonly items: readonly string[];
    readonly total: number;
  } | null;
  /** Why it cannot be done; null when it can. */
  readonly unavailable: string | null;
  /** To be given back with `approve`, within so many seconds. */
  readonly token: string;
  readonly forSeconds: number;
}

/** A standing order of the actuator, and what it saw last. */
export interface OrderView {
  readonly order: string;
  /** Rule and channel that it was compiled from; '' when the configuration knows neither any more. */
  readonly rule: string;
  readonly channel: string;
  readonly raised: boolean;
  /** Base unit; null unless ok. */
  readonly value: number | null;
  readonly unit: string;
  readonly quality: Quality;
}

/** What `backup.begin` opened. */
export interface BackupBegun {
  readonly node: string;
  readonly program: string;
  readonly dataDir: string;
  readonly atMs: number;
  /** Of the database's records. */
  readonly format: number;
  readonly auditHead: AuditHead;
  /** On disk, about. */
  readonly approximateBytes: number;
  /** What waits still and is no part of it; usually none. */
  readonly missing: readonly string[];
}

/** What became of a backup, as who took it says. */
export interface BackupTaken {
  /** Of the whole file, hex. */
  readonly sha256: string;
  readonly fileBytes: number;
  readonly records: number;
  readonly withKeys: boolean;
}

/** Attempts, and how many there may be. */
export interface BudgetView {
  readonly usedHour: number;
  readonly perHour: number;
  readonly usedDay: number;
  readonly perDay: number;
}

/** What gates repairs. */
export interface BreakersView {
  /** false: what was tried before is not known yet, so that no repair begins. */
  readonly isKnown: boolean;
  /** The maintenance window that is open. */
  readonly window: { readonly name: string; readonly untilAtMs: number } | null;
  readonly node: BudgetView;
  /** By name; those that have learnt something. */
  readonly breakers: readonly {
    /** An action, or a kind of action on the whole node. */
    readonly name: string;
    readonly scope: 'action' | 'node';
    readonly phase: 'closed' | 'open' | 'half_open' | 'latched';
    readonly failures: number;
    readonly failuresToOpen: number;
    /** Attempts in a row that failed or did not help: the back-off. */
    readonly setbacks: number;
    readonly isUnderWay: boolean;
    /** Since when it is in this phase; null: it was never in another. */
    readonly sinceAtMs: number | null;
    /** When breaker and back-off let the next attempt through; null: now, or never by themselves. */
    readonly untilAtMs: number | null;
    /** null: a kind of action has no budget of its own. */
    readonly budget: BudgetView | null;
  }[];
}

/** What is remembered of one action of one rule on one channel. */
export interface LessonView {
  readonly rule: string;
  readonly channel: string;
  readonly action: string;
  /** Since it was begun to be remembered. */
  readonly attempts: number;
  readonly helped: number;
  /** Of the latest ones; `medianFell` in the channel's canonical unit. */
  readonly recent: {
    readonly observations: number;
    readonly helped: number;
    readonly medianTookMs: number | null;
    readonly meanTookMs: number | null;
    readonly medianFell: number | null;
    /** With 95 % confidence it fails, or helps, more often than not. */
    readonly isFutile: boolean;
    readonly isProven: boolean;
  };
  readonly firstAtMs: number;
  readonly lastAtMs: number;
}

export interface MemoryView {
  /** The latest first; `fell` of each in the base unit of its channel, null where the channel is not there. */
  readonly lessons: readonly (LessonView & { readonly fell: number | null; readonly unit: string })[];
  /** Ladders that begin higher because of it. */
  readonly raised: readonly { readonly rule: string; readonly channel: string; readonly severity: Severity }[];
}

export interface SilenceView {
  readonly id: string;
  readonly pattern: string;
  readonly sinceAtMs: number;
  readonly untilAtMs: number;
  readonly who: string;
  readonly why: string;
}

/** Verb → params and result. */
export interface Verbs {
  status: { params: Record<string, never>; result: Status };
  /** Optional glob over channel ids. */
  sensors: { params: { glob?: string }; result: ChannelJson[] };
  /** As they were discovered, by id: what rules bind to. */
  channels: { params: { after?: string }; result: ListPage<Channel> };
  alerts: { params: { all?: boolean; limit?: number }; result: Alert[] };
  actions: { params: { limit?: number }; result: ActionRecord[] };
  /** Ends the actions of one rule, or of all (`rule` absent), and bars the rules for `forSeconds`. Answers action ids. */
  release: { params: { rule?: string; forSeconds?: number }; result: { released: string[]; barred: string[] } };
  /** Nothing new is begun by itself for so long; with `includingCaps` what stands is released too. */
  hold: {
    params: { forSeconds: number; includingCaps?: boolean };
    result: { untilAtMs: number; released: string[] };
  };
  /** False: there was no hold. */
  'hold.end': { params: Record<string, never>; result: { ended: boolean } };
  /** What `approve` would do; proposals have ids as `actions` lists them. */
  'approve.show': { params: { actionId: string }; result: ProposalView };
  approve: { params: { actionId: string; token: string }; result: Record<string, never> };
  workloads: { params: Record<string, never>; result: WorkloadView[] };
  /** Begins it; `workloads` tells what comes of it. */
  'workload.run': { params: { name: string; verb: UnitVerb }; result: Record<string, never> };
  /** Standing orders, with what each saw last. */
  orders: { params: Record<string, never>; result: { connected: boolean; why: string; orders: OrderView[] } };
  /** Reads the config again; on a bad one nothing changes and the error says why. The actuator reloads too. */
  reload: { params: Record<string, never>; result: { mode: Mode; changed: string[] } };
  /** What fires now, or would. */
  preview: {
    params: Record<string, never>;
    result: { node: string; actions: ActionRecord[]; targets: ActuatorTarget[] };
  };
  breakers: { params: Record<string, never>; result: BreakersView };
  /** Closes a breaker and ends its back-off, or all (`name` absent). `confirm`: the node's name. Answers what was reset. */
  'breaker.reset': { params: { name?: string; confirm: string; why?: string }; result: { reset: string[] } };
  silences: { params: Record<string, never>; result: SilenceView[] };
  /** Answers how many standing alerts, and known rules and channels, it covers now. */
  'silence.add': {
    params: { pattern: string; forSeconds: number; why?: string };
    result: { silence: SilenceView; alerts: number; rules: number; channels: number };
  };
  'silence.end': { params: { id: string }; result: SilenceView };
  memory: { params: Record<string, never>; result: MemoryView };
  /** Of a rule, a channel (both may be globs) or an action; absent: everything. `confirm`: the node's name. */
  'memory.forget': { params: { pattern?: string; confirm: string; why?: string }; result: { forgotten: number } };
  'audit.verify': { params: AuditVerifyOptions; result: AuditVerdict };
  'audit.list': { params: { fromSeq?: number; limit?: number }; result: AuditEntry[] };
  'audit.introductions': { params: Record<string, never>; result: AuditEntry[] };
  /** `confirm`: the node's name. */
  'audit.rotate': { params: { confirm: string }; result: AuditRotation };
  'audit.seal': { params: AuditSealRequest; result: AuditSeal };
  'recorder.list': { params: Record<string, never>; result: RecorderView };
  /** A page of a recording: ask again with its `after` until that is null. */
  'recorder.show': { params: RecordingQuery; result: RecordingPage };
  /** A page of what is stored: ask again with its `after` until that is null. */
  history: { params: HistoryQuery; result: HistoryPage };
  /** By id. */
  'history.channels': { params: { glob?: string; after?: string }; result: ListPage<StoredChannelView> };
  'history.latest': { params: { glob?: string; after?: string }; result: ListPage<LatestSample> };
  'history.devices': {
    params: { glob?: string; fromAtMs: number; toAtMs: number; after?: string };
    result: ListPage<DeviceAggregate>;
  };
  'log.level': {
    params: { level: LogLevel; forSeconds?: number };
    result: { level: LogLevel; untilAtMs: number | null };
  };
  /** Opens all records of this moment, for this connection. One at a time; it ends with the connection, or when idle. */
  'backup.begin': { params: Record<string, never>; result: BackupBegun };
  /** The next piece of the stream that store/backup-file.ts describes, base64; null: that was all. */
  'backup.read': {
    params: Record<string, never>;
    result: { data: string | null /** Read so far, 0 to 1. */; fraction: number | null };
  };
  /** Ends it; `taken` when there is a whole file now. */
  'backup.end': { params: { taken?: BackupTaken }; result: Record<string, never> };
  outbox: { params: Record<string, never>; result: OutboxState[] };
  /** net. A page of what waits, oldest first. */
  'outbox.read': { params: { queue: string; limit: number }; result: OutboxItem[] };
  /** net. All up to and with this one have arrived. */
  'outbox.take': { params: { queue: string } & OutboxPosition; result: Record<string, never> };
  /** The token is shown this once; its hash alone is kept. */
  'token.add': { params: { name: string; role: GuestRole }; result: { token: string } };
  'token.list': { params: Record<string, never>; result: TokenView[] };
  /** `confirm`: the node's name. Who is connected with it is disconnected. */
  'token.revoke': { params: { name: string; confirm: string }; result: Record<string, never> };
  'chain.list': { params: Record<string, never>; result: { watched: number | null; chains: ChainView[] } };
  /** Holds a chain of a workload, whatever the mode. */
  'chain.break': { params: { chain: string }; result: Record<string, never> };
  /** Ends a hold: a workload's chain may begin anew, a repair may be tried again. */
  'chain.reset': { params: { chain: string }; result: Record<string, never> };
  'antibody.list': { params: Record<string, never>; result: GuestAntibodyView[] };
  /** Tells an external antibody something; its next heartbeat answers with the id. */
  'antibody.tell': {
    params: { name: string; command: string; parameters?: Record<string, unknown> };
    result: { actionId: string };
  };
  gpu: { params: Record<string, never>; result: GpuStatus };
  /** Lets go of a GPU, or takes it again. `id`: PCI address, device segment, UUID or a unique beginning of one. */
  'gpu.detach': { params: { id: string }; result: { address: string } };
  'gpu.attach': { params: { id: string }; result: { address: string } };
  /** net. Config that skos-net needs, so that it reads no file but certificates. */
  'net.config': { params: Record<string, never>; result: NetConfig };
  /** net. Every four seconds, and at once when sensorDemand or a peer changes. */
  'net.report': { params: NetReport; result: Record<string, never> };
  /** net. What a user name and a token are good for. SKOS_TOKEN_DENIED when for nothing. */
  'net.authenticate': { params: Credential; result: { role: GuestRole } };
  /** net. What a guest says, and when it came (Clock.monotonicMs). The agent checks credential and payload by itself. */
  'net.forward': {
    params: Credential & { kind: GuestKind; receivedMs: number; payload: unknown };
    result: Record<string, never>;
  };
  /** net. What chains that a guest reports were told, or would have been. */
  'net.chains': { params: Credential & { reports: readonly ChainReport[] }; result: Record<string, never> };
  /** net. From now on events follow, beginning with the retained truth: actives, last heartbeats, peer, sensors. */
  subscribe: { params: Record<string, never>; result: Record<string, never> };
}
export type Verb = keyof Verbs;

export const NET_VERBS: readonly Verb[] = [
  'net.config',
  'net.report',
  'net.authenticate',
  'net.forward',
  'net.chains',
  'outbox.read',
  'outbox.take',
  'subscribe',
  'status',
];

export interface NetConfig {
  readonly node: string;
  readonly bootId: string;
  readonly prefix: string;
  readonly mqttListen: string;
  readonly mqttUrl: string | null;
  readonly heartbeatTimeoutSeconds: number;
  readonly logLevel: LogLevel;
  readonly mesh: {
    readonly listen: string | null;
    readonly tls: { readonly ca: string; readonly cert: string; readonly key: string } | null;
    readonly peers: Readonly<
      Record<
        string,
        {
          readonly url: string;
          readonly ca?: string | undefined;
          readonly cert?: string | undefined;
          readonly key?: string | undefined;
        }
      >
    >;
  };
}

/** What skos/peer/<node> says. */
export interface PeerStatus {
  readonly state: 'online' | 'offline';
  readonly atMs: number;
  readonly seq: number;
  readonly auditHead: AuditHead;
}

/** Event → data. One per topic kind of the MQTT contract. */
export interface Events {
  heartbeat: Heartbeat;
  /** A transition. */
  alert: Alert;
  /** Stands now (severity set) or is over (severity null: the retained topic is emptied). */
  active: Alert;
  sensor: ChannelJson;
  /** An action that starts: payload of skos/command. */
  command: ActionRecord;
  /** An action whose state changed. */
  result: ActionRecord;
  audit: AuditEntry;
  peer: PeerStatus;
  /** Limits, permissions and holds of chains, whole. */
  chains: ChainTruth;
  /** What an operator's command over MQTT came to. */
  answer: CommandAnswer;
  'antibody.command': AntibodyCommand;
  /** Who is connected with this token is to be disconnected. */
  'token.revoked': { readonly name: string };
  /** The config was reloaded: fetch net.config again. */
  'net.config': Record<string, never>;
}
export type EventName = keyof Events;

/**
 * The queue of the outbox for a site's own broker (mqtt.url), which may be away for days. While it is configured these events wait
 * there until the broker has acknowledged them, and skos-net publishes none of them as it hears them; all others are of the moment.
 */
export const MQTT_QUEUE = 'mqtt';
export const QUEUED_EVENTS = ['alert', 'command', 'result', 'audit'] as const satisfies readonly EventName[];
export type QueuedEvent = (typeof QUEUED_EVENTS)[number];

/** What an item of that queue holds; its kind is the event's name. */
export interface QueuedData<E extends QueuedEvent = QueuedEvent> {
  /** Of the boot in which it happened: it may be told in a later one. */
  readonly bootId: string;
  readonly data: Events[E];
}
