/**
 * Guests at the agent: what skos-net carries here of who publishes with a token. The credential is checked again with each message, and
 * so is the payload: a skos-net that is broken, or somebody else's, can say nothing here that no token was given for.
 */
import { SkosError } from '../core/errors.js';
import { type Credential, GUEST_SHAPES, type GuestKind, ROLE_OF_KIND } from '../core/guests.js';
import { type Infer, parse, type Shape } from '../core/shape.js';
import type { GuestAntibodies } from './guest-antibodies.js';
import type { OperatorCommands } from './operator-commands.js';
import type { Tokens } from './tokens.js';

export interface GuestsOptions {
  readonly tokens: Tokens;
  readonly antibodies: GuestAntibodies;
  readonly commands: OperatorCommands;
}

export class Guests {
  readonly #options: GuestsOptions;

  constructor(options: GuestsOptions) {
    this.#options = options;
  }

  /** SKOS_TOKEN_DENIED, or SKOS_PROTOCOL_INVALID for a payload of another shape. */
  async forward({
    user,
    token,
    kind,
    receivedMs,
    payload,
  }: Credential & { kind: GuestKind; receivedMs: number; payload: unknown }): Promise<void> {
    const { tokens, antibodies, commands } = this.#options;
    const role = tokens.authenticate({ user, token });
    if (role !== ROLE_OF_KIND[kind]) throw new SkosError('SKOS_TOKEN_DENIED', `the role ${role} sends no ${kind}`);
    if (kind === 'command') await commands.follow(checked(kind, payload), { name: user, receivedMs });
    else if (kind === 'heartbeat') antibodies.beat(user, checked(kind, payload));
    else antibodies.alert(user, checked(kind, payload));
  }
}

function checked<K extends GuestKind>(kind: K, payload: unknown): Infer<(typeof GUEST_SHAPES)[K]> {
  const shape: Shape<unknown> = GUEST_SHAPES[kind];
  const { value, issues } = parse(shape, payload);
  if (issues.length > 0) {
    const wrong = issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; ');
    throw new SkosError('SKOS_PROTOCOL_INVALID', `a ${kind}: ${wrong}`);
  }
  // The shape of this very kind has just taken it.
  return value as Infer<(typeof GUEST_SHAPES)[K]>;
}
