/**
 * What each verb of the agent's socket takes, as shapes: the server checks params by this table before a handler sees
 * them, so that a handler never meets a value of a wrong kind.
 */
import { chainReportShape, MAX_REPORTS } from '../core/chains.js';
import { GUEST_KINDS, GUEST_ROLES, guestName, MAX_TOKEN_LENGTH } from '../core/guests.js';
import type { Verb } from '../core/protocol.js';
import {
  anything,
  boolean,
  list,
  nullable,
  number,
  object,
  oneOf,
  optional,
  record,
  type Shape,
  string,
} from '../core/shape.js';
import { LOG_LEVELS, UNIT_VERBS } from '../core/vocabulary.js';

/** Rows of one answer: ten times what fits a terminal's scrollback, and well within MAX_LINE_BYTES. */
const MAX_LIMIT = 10_000;
/** A day: a bar or a log level that shall last longer belongs into the config. */
const MAX_FOR_SECONDS = 86_400;
/** As many peers as a full mesh serves, with room to spare. */
const MAX_PEERS = 64;

/** Of each channel: a sample or two per column of a very wide terminal. */
const MAX_POINTS = 2_000;

/** Of each channel, for who computes with them; a page holds as many. */
const MAX_HISTORY_POINTS = 10_000;
/** Of the longest channel id: three segments of 64 characters, and what a page of history adds to it. */
const MAX_AFTER_LENGTH = 512;
/** The last moment that a Date can hold. */
const MAX_AT_MS = 8.64e15;

/** Heads of the audit chain that `skos audit verify` found in the journal. */
const MAX_HEADS = 5_000;

/** Thirty days: a silence that shall last longer is a rule that should be mended. */
const MAX_SILENCE_SECONDS = 30 * 86_400;
/** What ids of rules, channels and alerts are made of, and the signs of a glob. */
const SILENCE_PATTERN = /^[a-z0-9_~*?/.:-]{1,256}$/;

const nothing = object({});
const why = optional(string({ pattern: /^\P{Cc}{0,200}$/u, expected: 'one line of text, at most 200 characters' }));
const limit = optional(number({ min: 1, max: MAX_LIMIT, integer: true }));
const forSeconds = optional(number({ min: 0, max: MAX_FOR_SECONDS }));
const actionId = string({ max: 256 });
const atMs = number({ min: 0 });
const glob = optional(string({ max: 256 }));
const after = optional(string({ max: MAX_AFTER_LENGTH }));
const moment = number({ min: 0, max: MAX_AT_MS });
const count = number({ min: 0, integer: true });
const hash = string({ pattern: /^[0-9a-f]{64}$/, expected: 'a SHA-256 in hex', max: 64 });
const head = object({ seq: count, hash });
const key = string({ pattern: /^([0-9a-f]{16}|[0-9a-f]{64})$/, expected: 'a key id or a public key in hex', max: 64 });

const queue = string({ max: 64 });

const peerView = object({
  node: string({ max: 64 }),
  state: oneOf('online', 'offline', 'unknown'),
  sinceAtMs: atMs,
  why: string({ max: 512 }),
  silentMs: nullable(number({ min: 0 })),
  deafMs: nullable(number({ min: 0 })),
});

const netReport = object({
  mqttListen: string({ max: 512 }),
  listening: boolean,
  clients: count,
  sensorDemand: boolean,
  peers: list(peerView, { max: MAX_PEERS }),
  rssBytes: count,
  chains: optional(count),
});

/** As a stranger gave it: the agent looks it up, and what no name can be is simply no token's. */
const credential = { user: string({ max: 256 }), token: string({ max: MAX_TOKEN_LENGTH }) };
/** "repair/RULE/CHANNEL" of our own repairs is the longest. */
const chain = string({ max: 512 });

export const VERB_PARAMS: { readonly [V in Verb]: Shape<unknown> } = {
  status: nothing,
  sensors: object({ glob: optional(string({ max: 256 })) }),
  alerts: object({ all: optional(boolean), limit }),
  actions: object({ limit }),
  release: object({ rule: optional(string({ max: 256 })), forSeconds }),
  hold: object({ forSeconds: number({ min: 1, max: MAX_FOR_SECONDS }), includingCaps: optional(boolean) }),
  'hold.end': nothing,
  'approve.show': object({ actionId }),
  approve: object({ actionId, token: string({ max: 64 }) }),
  workloads: nothing,
  'workload.run': object({ name: string({ max: 64 }), verb: oneOf(...UNIT_VERBS) }),
  orders: nothing,
  reload: nothing,
  preview: nothing,
  breakers: nothing,
  'breaker.reset': object({ name: optional(string({ max: 128 })), confirm: string({ max: 64 }), why }),
  silences: nothing,
  'silence.add': object({
    pattern: string({ pattern: SILENCE_PATTERN, expected: 'a rule, a channel, or a glob such as "hwmon/**"' }),
    forSeconds: number({ min: 1, max: MAX_SILENCE_SECONDS }),
    why,
  }),
  'silence.end': object({ id: string({ max: 16 }) }),
  memory: nothing,
  'memory.forget': object({ pattern: optional(string({ max: 256 })), confirm: string({ max: 64 }), why }),
  'audit.verify': object({ heads: optional(list(head, { max: MAX_HEADS })), key: optional(key) }),
  'audit.list': object({ fromSeq: optional(count), limit }),
  'audit.introductions': nothing,
  'audit.rotate': object({ confirm: string({ max: 64 }) }),
  'audit.seal': object({ after: head, head, sha256: hash }),
  'recorder.list': nothing,
  'recorder.show': object({
    alert: string({ max: 256 }),
    nth: optional(number({ min: 1, max: MAX_LIMIT, integer: true })),
    glob: optional(string({ max: 256 })),
    points: optional(number({ min: 2, max: MAX_POINTS, integer: true })),
    after: optional(string({ max: 32 })),
  }),
  history: object({
    glob: string({ max: 256 }),
    fromAtMs: moment,
    toAtMs: moment,
    points: optional(number({ min: 1, max: MAX_HISTORY_POINTS, integer: true })),
    after,
  }),
  channels: object({ after }),
  'history.channels': object({ glob, after }),
  'history.latest': object({ glob, after }),
  'history.devices': object({ glob, fromAtMs: moment, toAtMs: moment, after }),
  'log.level': object({ level: oneOf(...LOG_LEVELS), forSeconds }),
  'backup.begin': nothing,
  'backup.read': nothing,
  'backup.end': object({
    taken: optional(
      object({
        sha256: string({ pattern: /^[0-9a-f]{64}$/, expected: 'a SHA-256 in hex' }),
        fileBytes: count,
        records: count,
        withKeys: boolean,
      }),
    ),
  }),
  outbox: nothing,
  'outbox.read': object({ queue, limit: number({ min: 1, max: MAX_LIMIT, integer: true }) }),
  'outbox.take': object({ queue, epoch: string({ max: 32 }), seq: count }),
  'token.add': object({ name: guestName, role: oneOf(...GUEST_ROLES) }),
  'token.list': nothing,
  'token.revoke': object({ name: string({ max: 64 }), confirm: string({ max: 64 }) }),
  'chain.list': nothing,
  'chain.break': object({ chain }),
  'chain.reset': object({ chain }),
  'antibody.list': nothing,
  'antibody.tell': object({
    name: string({ max: 64 }),
    command: string({ pattern: /^[a-z][a-z0-9_]{0,47}$/, expected: 'a word: lower-case letters, digits and "_"' }),
    parameters: optional(record(anything, { max: 32 })),
  }),
  gpu: nothing,
  'gpu.detach': object({ id: string({ max: 256 }) }),
  'gpu.attach': object({ id: string({ max: 256 }) }),
  'net.config': nothing,
  'net.report': netReport,
  'net.authenticate': object(credential),
  'net.forward': object({
    ...credential,
    kind: oneOf(...GUEST_KINDS),
    receivedMs: number({ min: 0 }),
    payload: anything,
  }),
  'net.chains': object({ ...credential, reports: list(chainReportShape, { max: MAX_REPORTS }) }),
  subscribe: nothing,
};
