/**
 * Payloads of the MQTT contract: what the agent says, as others read it, and the check of what peers say.
 *
 * Field names are public, other programs read them already: fields may be added, none is renamed or
 * dropped. Shapes are open, so that a newer peer may say more. Everything carries `v`, the version of this contract.
 */

import type { ChainVerdict, Intervention } from '../core/chains.js';
import type { ChannelJson } from '../core/channel.js';
import { isoTimestamp } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import type { ActionRecord, Alert, AuditEntry } from '../core/ports.js';
import type { AntibodyCommand, CommandAnswer, Heartbeat, PeerState, PeerStatus, PeerView } from '../core/protocol.js';
import {
  anything,
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
  string,
} from '../core/shape.js';
import type { TopicName } from './topics.js';

const PAYLOAD_VERSION = 1;
/** Of the contract: larger payloads are neither sent nor taken. */
export const MAX_PAYLOAD_BYTES = 64 * 1024;
/** A command that is older is not to be followed: what it answers may be over by then. */
const COMMAND_TTL_MS = 10_000;

export interface Origin {
  readonly node: string;
  readonly bootId: string;
}

/** Beside the documented fields of what is delivered at least once: equal in both, it is a repeat. */
export interface Delivery {
  readonly outbox_epoch: string;
  readonly outbox_seq: number;
}

/** `agent_id`: the antibody's name with hyphens, then the node. */
function agentId(agentType: string, node: string): string {
  return `${agentType.replaceAll('_', '-')}-${node}`;
}

export function heartbeatPayload({ node, bootId }: Origin, beat: Heartbeat) {
  return {
    v: PAYLOAD_VERSION,
    agent_id: agentId(beat.agentType, node),
    agent_type: beat.agentType,
    node,
    timestamp: isoTimestamp(beat.atMs),
    cpu_temp: beat.cpuTemp,
    gpu_temp: beat.gpuTemp,
    metadata: beat.metadata,
    boot_id: bootId,
  };
}

/** A transition, and (retained) the alert that stands. */
export function alertPayload({ node, bootId }: Origin, alert: Alert) {
  return {
    v: PAYLOAD_VERSION,
    agent_id: agentId(alert.agentType, node),
    type: alert.type,
    severity: alert.severity,
    node,
    message: alert.message,
    details: {
      sensor: alert.sensor,
      temperature: alert.unit === 'celsius' ? alert.value : null,
      threshold: alert.threshold,
      value: alert.value,
      unit: alert.unit,
      channel: alert.channel,
      verdict: alert.verdict,
      rule: alert.rule,
      since: isoTimestamp(alert.sinceAtMs),
    },
    timestamp: isoTimestamp(alert.updatedAtMs),
    id: alert.id,
    state: alert.state,
    silenced: alert.silenced === true,
    boot_id: bootId,
  };
}

export function sensorPayload({ node }: Origin, channel: ChannelJson) {
  return { v: PAYLOAD_VERSION, node, ...channel };
}

/** `ageMs`: since it was begun; a command that waited too long for its broker arrives as one that is not to be followed. */
export function commandPayload(
  { node, bootId }: Origin,
  action: ActionRecord,
  { nonce, ageMs = 0 }: { nonce: string; ageMs?: number },
) {
  return {
    v: PAYLOAD_VERSION,
    action_id: action.actionId,
    action_type: action.action,
    parameters: {
      rule: action.rule,
      alert: action.alert,
      channel: action.channel,
      severity: action.severity,
      targets: action.effects.map(({ target, capPpm }) => ({ target, cap_ppm: capPpm })),
    },
    timestamp: isoTimestamp(action.startedAtMs),
    node,
    ttl_ms: Math.max(0, COMMAND_TTL_MS - Math.max(0, Math.round(ageMs))),
    boot_id: bootId,
    nonce,
  };
}

export function resultPayload({ node, bootId }: Origin, action: ActionRecord, atMs: number) {
  return {
    v: PAYLOAD_VERSION,
    action_id: action.actionId,
    action_type: action.action,
    node,
    outcome: action.state,
    reason: action.reason,
    effects: action.effects.map(({ target, capPpm, outcome, former, written, readBack, readAfter }) => ({
      target,
      cap_ppm: capPpm,
      outcome,
      former: former ?? null,
      written: written ?? null,
      read_back: readBack ?? null,
      read_after: readAfter ?? null,
    })),
    started: isoTimestamp(action.startedAtMs),
    ended: action.endedAtMs === null ? null : isoTimestamp(action.endedAtMs),
    timestamp: isoTimestamp(atMs),
    boot_id: bootId,
  };
}

/** What an operator's command over MQTT came to: as that of an action, without effects. */
export function answerPayload({ node, bootId }: Origin, answer: CommandAnswer) {
  return {
    v: PAYLOAD_VERSION,
    action_id: answer.actionId,
    action_type: answer.command,
    node,
    outcome: answer.outcome,
    reason: answer.reason,
    effects: [],
    timestamp: isoTimestamp(answer.atMs),
    boot_id: bootId,
  };
}

export function antibodyCommandPayload({ node, bootId }: Origin, command: AntibodyCommand, nonce: string) {
  return {
    v: PAYLOAD_VERSION,
    action_id: command.actionId,
    action_type: command.command,
    parameters: command.parameters,
    timestamp: isoTimestamp(command.atMs),
    node,
    ttl_ms: COMMAND_TTL_MS,
    boot_id: bootId,
    nonce,
  };
}

export interface ChainWords {
  readonly chain: string;
  /** Of the step that is answered; null: nobody asked, an operator has said so. */
  readonly iteration: number | null;
  readonly depth: number;
  readonly verdict: ChainVerdict;
  readonly would: Intervention | null;
  readonly reason: string;
  readonly atMs: number;
}

export function chainVerdictPayload({ node, bootId }: Origin, words: ChainWords) {
  return {
    v: PAYLOAD_VERSION,
    chain_id: words.chain,
    iteration: words.iteration,
    depth: words.depth,
    verdict: words.verdict,
    would: words.would,
    reason: words.reason,
    node,
    timestamp: isoTimestamp(words.atMs),
    boot_id: bootId,
  };
}

/** The entry as the chain holds it (`at_ms`, not rounded), so that a reader can recompute its hash. */
export function auditPayload({ node }: Origin, entry: AuditEntry) {
  return {
    v: PAYLOAD_VERSION,
    node,
    seq: entry.seq,
    timestamp: isoTimestamp(entry.atMs),
    at_ms: entry.atMs,
    kind: entry.kind,
    who: entry.who,
    what: entry.what,
    previous: entry.previous,
    hash: entry.hash,
  };
}

export interface PeerWords extends Origin {
  readonly state: PeerState;
  readonly why: string;
  /** null where nobody knows when it will be sent: a last will. */
  readonly atMs: number | null;
  /** The agent's own words; null when others speak for it. */
  readonly status: PeerStatus | null;
  readonly peers: readonly PeerView[];
}

export function peerPayload({ node, bootId, state, why, atMs, status, peers }: PeerWords) {
  return {
    v: PAYLOAD_VERSION,
    node,
    state,
    why,
    timestamp: atMs === null ? null : isoTimestamp(atMs),
    boot_id: bootId === '' ? null : bootId,
    seq: status?.seq ?? null,
    audit_head: status === null ? null : { seq: status.auditHead.seq, hash: status.auditHead.hash },
    peers: Object.fromEntries(
      peers.map((peer) => [peer.node, { state: peer.state, since: isoTimestamp(peer.sinceAtMs), why: peer.why }]),
    ),
  };
}

// ---- What arrives --------------------------------------------------------------------------------------------------

const open = { open: true };
const v = number({ min: 1, integer: true });
const text = string();
const timestamp = string({ pattern: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, expected: 'an ISO 8601 time in UTC' });
const measured = nullable(number());
const head = object({ seq: number({ min: 0, integer: true }), hash: text }, open);

const alertShape = object(
  {
    v,
    agent_id: text,
    type: text,
    severity: nullable(text),
    node: text,
    message: text,
    details: object({ sensor: text, temperature: measured, threshold: measured }, open),
    timestamp,
    id: text,
    state: text,
  },
  open,
);

const peerShape = object(
  {
    v,
    node: text,
    state: oneOf('online', 'offline'),
    why: optional(string({ max: 512 })),
    timestamp: nullable(timestamp),
    boot_id: nullable(text),
    seq: nullable(number({ min: 0, integer: true })),
    audit_head: nullable(head),
    peers: record(object({ state: text, why: text }, open)),
  },
  open,
);
export type PeerPayload = Infer<typeof peerShape>;

const heartbeatShape = object(
  {
    v,
    agent_id: text,
    agent_type: text,
    node: text,
    timestamp,
    cpu_temp: measured,
    gpu_temp: measured,
    metadata: record(anything),
  },
  open,
);

const commandShape = object(
  {
    v,
    action_id: text,
    action_type: text,
    parameters: record(anything),
    timestamp,
    node: text,
    ttl_ms: number({ min: 0 }),
    boot_id: text,
    nonce: text,
  },
  open,
);

/** One per topic of the contract. `node` is that of the topic: a peer speaks for itself only. */
const PAYLOADS = {
  heartbeat: heartbeatShape,
  lastHeartbeat: heartbeatShape,
  alert: alertShape,
  active: alertShape,
  sensor: object({ v, node: text, id: text, unit: text, value: measured, quality: text, timestamp }, open),
  command: commandShape,
  antibodyCommand: commandShape,
  result: object(
    {
      v,
      action_id: text,
      node: text,
      outcome: text,
      effects: list(object({ target: text, outcome: text }, open)),
      timestamp,
    },
    open,
  ),
  audit: object(
    {
      v,
      node: text,
      seq: number({ min: 1, integer: true }),
      timestamp,
      kind: text,
      who: text,
      previous: text,
      hash: text,
    },
    open,
  ),
  peer: peerShape,
  chainVerdict: object({ v, chain_id: text, node: text, verdict: text, reason: text, timestamp }, open),
} as const satisfies Record<TopicName, Shape<{ readonly node: string }>>;

/** What a guest sends, in a shape of core/guests.ts. Throws SKOS_NET_PAYLOAD. */
export function readGuest<T>(shape: Shape<T>, payload: Buffer): T {
  if (payload.length > MAX_PAYLOAD_BYTES) throw bad(`${payload.length} bytes, at most ${MAX_PAYLOAD_BYTES} are taken`);
  const { value, issues } = parse(shape, json(payload));
  if (value === undefined) throw bad(issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; '));
  return value;
}

/** The checked content of a payload that claims to be of this topic and node. Throws SKOS_NET_PAYLOAD. */
export function readPayload(name: TopicName, node: string, payload: Buffer): { readonly node: string } {
  if (payload.length > MAX_PAYLOAD_BYTES) throw bad(`${payload.length} bytes, at most ${MAX_PAYLOAD_BYTES} are taken`);
  const { value, issues } = parse<{ readonly node: string }>(PAYLOADS[name], json(payload));
  if (value === undefined) {
    throw bad(issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; '));
  }
  if (value.node !== node) throw bad(`it speaks for ${value.node}`);
  return value;
}

export function isPeerPayload(name: TopicName, content: { readonly node: string }): content is PeerPayload {
  return name === 'peer' && 'state' in content;
}

function json(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8'));
  } catch (error) {
    throw bad(`not JSON: ${reason(error)}`);
  }
}

function bad(what: string): SkosError {
  return new SkosError('SKOS_NET_PAYLOAD', what);
}
