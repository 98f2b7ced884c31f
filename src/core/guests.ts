/**
 * Guests: programs with a token that may publish on the local broker (DESIGN: roles operator, antibody, chain). What each may say,
 * as shapes that both ends check: skos-net before it carries anything, the agent before it believes anything.
 *
 * A token is 256 random bits, so that its plain SHA-256 is as good as any slow hash. Payload shapes are open: a newer program may
 * say more than this one knows.
 */
import {
  anything,
  type Infer,
  nullable,
  number,
  object,
  oneOf,
  optional,
  record,
  type Shape,
  string,
  withDefault,
} from './shape.js';
import { SEVERITIES } from './vocabulary.js';

export const GUEST_ROLES = ['operator', 'antibody', 'chain'] as const;
export type GuestRole = (typeof GUEST_ROLES)[number];

/** What a guest of a role sends to the agent. Steps of chains are judged in skos-net and reported in sums. */
export const GUEST_KINDS = ['command', 'heartbeat', 'alert'] as const;
export type GuestKind = (typeof GUEST_KINDS)[number];

export const ROLE_OF_KIND: Readonly<Record<GuestKind, GuestRole>> = {
  command: 'operator',
  heartbeat: 'antibody',
  alert: 'antibody',
};

/** User name and token, as CONNECT brings them. */
export interface Credential {
  readonly user: string;
  readonly token: string;
}

/** Longest user name; with the node's name behind it, it is an agent_id. */
const MAX_NAME_LENGTH = 48;
export const GUEST_NAME = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;
/** What a person pastes by mistake is longer than any token; it is refused before it is hashed. */
export const MAX_TOKEN_LENGTH = 128;

export const guestName = string({
  pattern: GUEST_NAME,
  expected: `a name: lower-case words with "-" between them, at most ${MAX_NAME_LENGTH} characters`,
  max: MAX_NAME_LENGTH,
});

/** `agent_type` of an antibody of this name. */
export function typeOf(name: string): string {
  return name.replaceAll('-', '_');
}

const open = { open: true };
const v = number({ min: 1, integer: true });
const timestamp = string({
  pattern: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/,
  expected: 'an ISO 8601 time in UTC',
  max: 40,
});
/** Text from a stranger that is shown to people: no control characters, which could paint a terminal. */
const line = (max: number) =>
  string({ pattern: /^[^\p{Cc}\p{Cf}]*$/u, expected: `a line of at most ${max} characters`, max });
const segment = string({
  pattern: /^[a-z0-9_~-]{1,64}$/,
  expected: 'one topic level: a-z, 0-9, "_", "~" and "-", at most 64',
  max: 64,
});
const small = record(anything, { max: 32 });

// ---- Commands of an operator ---------------------------------------------------------------------------------------

/** What the CLI does at low or medium risk; what asks for a challenge there is not to be had over MQTT. */
const OPERATOR_COMMANDS = ['release', 'hold', 'hold.end', 'reload'] as const;
export type OperatorCommandWord = (typeof OPERATOR_COMMANDS)[number];

/** A command may wait so long on its way; a sender that wants longer shall ask again. */
const MAX_COMMAND_TTL_MS = 60_000;

const operatorCommandShape = object(
  {
    v,
    action_id: line(128),
    action_type: oneOf(...OPERATOR_COMMANDS),
    parameters: small,
    timestamp,
    ttl_ms: number({ min: 1, max: MAX_COMMAND_TTL_MS }),
    boot_id: string({ max: 64 }),
    nonce: string({ pattern: /^[\x21-\x7e]{8,64}$/, expected: '8 to 64 printable characters', max: 64 }),
  },
  open,
);
export type OperatorCommand = Infer<typeof operatorCommandShape>;

/** Of each command, its parameters; nothing else is taken. */
export const OPERATOR_PARAMETERS = {
  release: object({ rule: optional(string({ max: 256 })), for_seconds: optional(number({ min: 0, max: 86_400 })) }),
  hold: object({ for_seconds: number({ min: 1, max: 86_400 }) }),
  'hold.end': object({}),
  reload: object({}),
} as const satisfies Record<OperatorCommandWord, Shape<unknown>>;

// ---- What an antibody says -----------------------------------------------------------------------------------------

const guestBeatShape = object(
  {
    v,
    agent_id: string({ max: 128 }),
    agent_type: string({ max: 64 }),
    timestamp,
    metadata: withDefault(small, {}),
    /** Of the command that this beat answers. */
    answers: optional(line(128)),
  },
  open,
);
export type GuestBeat = Infer<typeof guestBeatShape>;

const measured = withDefault(nullable(number()), null);

const guestAlertShape = object(
  {
    v,
    agent_id: string({ max: 128 }),
    /** Its own name for what stands; the same again is the same alert. */
    id: string({
      pattern: /^[a-z0-9][a-z0-9_-]{0,47}$/,
      expected: 'a name: a-z, 0-9, "_" and "-", at most 48',
      max: 48,
    }),
    type: segment,
    /** null: over. */
    severity: nullable(oneOf(...SEVERITIES)),
    message: line(300),
    details: withDefault(
      object(
        {
          sensor: withDefault(line(64), ''),
          value: measured,
          threshold: measured,
          unit: withDefault(line(32), ''),
        },
        open,
      ),
      { sensor: '', value: null, threshold: null, unit: '' },
    ),
    timestamp,
  },
  open,
);
export type GuestAlert = Infer<typeof guestAlertShape>;

export const GUEST_SHAPES = {
  command: operatorCommandShape,
  heartbeat: guestBeatShape,
  alert: guestAlertShape,
} as const satisfies Record<GuestKind, Shape<unknown>>;

// ---- Steps of chains -----------------------------------------------------------------------------------------------

export const chainStepShape = object(
  {
    v,
    chain_id: segment,
    /** Counted by the workload from 1. */
    iteration: number({ min: 0, max: 1e15, integer: true }),
    /** 0: the chain itself; a chain that another one started is one deeper. */
    depth: withDefault(number({ min: 0, max: 1e9, integer: true }), 0),
    /** The chain that started this one. */
    parent: withDefault(nullable(segment), null),
    /** A digest of what the workload would go on from: the same again is the same situation again. */
    state: withDefault(
      nullable(string({ pattern: /^[\x21-\x7e]{1,64}$/, expected: '1 to 64 printable characters', max: 64 })),
      null,
    ),
    timestamp,
  },
  open,
);
export type ChainStepPayload = Infer<typeof chainStepShape>;
