/**
 * Guests at the broker: programs that come with a user name and a token. The agent says what a token is good for; here its answer is
 * kept for as long as the connection lasts, or until the agent revokes it. What a guest publishes goes to the agent, with its
 * credential, or to the loop breaker; nothing of it reaches a subscriber as it came.
 */
import type { Clock } from '../core/clock.js';
import { reason, SkosError } from '../core/errors.js';
import {
  type Credential,
  chainStepShape,
  GUEST_SHAPES,
  type GuestKind,
  type GuestRole,
  ROLE_OF_KIND,
} from '../core/guests.js';
import type { Log } from '../core/ports.js';
import type { Verb, Verbs } from '../core/protocol.js';
import type { Shape } from '../core/shape.js';
import { TokenBucket } from '../core/token-bucket.js';
import type { ChainDesk } from './chain-desk.js';
import type { InboundLimits } from './packet-guard.js';
import { MAX_PAYLOAD_BYTES, readGuest } from './payloads.js';
import { shown } from './shown.js';
import { guestTopic } from './topics.js';

/**
 * Messages of one token, over all its connections. An operator types; an antibody beats every few seconds, tells what changes, and what
 * stands again (each change is an entry of the record);
 * chains step a thousand times a second, and twice that must not be cut off.
 */
const RATES: Readonly<Record<GuestRole, { readonly perSecond: number; readonly burst: number }>> = {
  operator: { perSecond: 1, burst: 20 },
  antibody: { perSecond: 2, burst: 60 },
  chain: { perSecond: 3_000, burst: 6_000 },
};
/** Of a connection that reports chains; the others have what anybody has. */
const CHAIN_INBOUND: InboundLimits = {
  maxPacketBytes: MAX_PAYLOAD_BYTES + 1_024,
  bytesPerSecond: 2 * 1024 * 1024,
  burstBytes: 4 * 1024 * 1024,
  packetsPerSecond: 4_000,
  burstPackets: 8_000,
};
/** As many as the agent answers at once for one client. */
const MAX_ON_THEIR_WAY = 48;
/** Rates of tokens that were heard; each is a name that the agent knows. */
const MAX_RATES = 512;

export interface Pass extends Credential {
  readonly role: GuestRole;
}

/** The connection to the agent. */
export interface GuestAgent {
  request<V extends Verb>(verb: V, params: Verbs[V]['params']): Promise<Verbs[V]['result']>;
}

export interface GuestDeskOptions {
  readonly chains: ChainDesk;
  readonly clock: Clock;
  readonly log: () => Log;
}

export class GuestDesk {
  readonly #options: GuestDeskOptions;
  readonly #rates = new Map<string, TokenBucket>();
  #place = { node: '', prefix: '' };
  #agent: GuestAgent | undefined;
  #onTheirWay = 0;

  constructor(options: GuestDeskOptions) {
    this.#options = options;
  }

  /** Of the broker that the guests are at. */
  at(place: { node: string; prefix: string }): void {
    this.#place = place;
  }

  /** undefined: it is gone, and nobody new is let in. */
  use(agent: GuestAgent | undefined): void {
    this.#agent = agent;
  }

  /** Rejects with SKOS_TOKEN_DENIED, or with another code while nobody can say. */
  async authenticate(credential: Credential): Promise<Pass> {
    const agent = this.#agent;
    if (agent === undefined || !this.#options.chains.isReady) {
      throw new SkosError('SKOS_SOCKET_UNAVAILABLE', 'the agent, which knows the tokens, is not there');
    }
    const { role } = await agent.request('net.authenticate', credential);
    return { ...credential, role };
  }

  limits({ role }: Pass): InboundLimits | undefined {
    return role === 'chain' ? CHAIN_INBOUND : undefined;
  }

  /** Takes what a guest publishes. Returns why its connection is to be closed; undefined: it was taken, or dropped and said so. */
  take(pass: Pass, at: string, payload: Buffer): string | undefined {
    const { user, role } = pass;
    if (!this.#rateOf(user, role).take(1)) {
      return `${user} sends more than ${RATES[role].perSecond} messages a second`;
    }
    const found = guestTopic(this.#place.prefix, this.#place.node, at);
    const isChain = found?.kind === 'chain' && found.rest.length === 1;
    const isOther = found !== undefined && found.rest.length === 0 && isGuestKind(found.kind);
    const isAllowed = isChain ? role === 'chain' : isOther && ROLE_OF_KIND[found.kind as GuestKind] === role;
    if (found === undefined || !isAllowed) return `${user} has the role ${role} and may not publish on "${shown(at)}"`;
    try {
      if (isChain) this.#step(pass, found.rest[0] ?? '', payload);
      else this.#forward(pass, found.kind as GuestKind, payload);
    } catch (error) {
      this.#drop(user, at, reason(error));
    }
    return undefined;
  }

  #rateOf(user: string, role: GuestRole): TokenBucket {
    const known = this.#rates.get(user);
    if (known !== undefined) return known;
    const rate = new TokenBucket({ clock: this.#options.clock, ...RATES[role] });
    this.#rates.set(user, rate);
    const [oldest] = this.#rates.keys();
    if (this.#rates.size > MAX_RATES && oldest !== undefined) this.#rates.delete(oldest);
    return rate;
  }

  /** A token was revoked; one of the same name may have another role. */
  forget(user: string): void {
    this.#rates.delete(user);
  }

  #step({ user, token }: Pass, chain: string, payload: Buffer): void {
    const step = readGuest(chainStepShape, payload);
    if (step.chain_id !== chain) throw new SkosError('SKOS_NET_PAYLOAD', `it is of chain "${step.chain_id}"`);
    this.#options.chains.step({ user, token }, step);
  }

  #forward({ user, token }: Pass, kind: GuestKind, payload: Buffer): void {
    // The agent checks by itself; what is garbage need not be carried there.
    const shape: Shape<unknown> = GUEST_SHAPES[kind];
    const content = readGuest(shape, payload);
    const agent = this.#agent;
    if (agent === undefined) throw new SkosError('SKOS_SOCKET_UNAVAILABLE', 'the agent is not there');
    if (this.#onTheirWay >= MAX_ON_THEIR_WAY) throw new SkosError('SKOS_SOCKET_DEADLINE', 'the agent does not keep up');
    this.#onTheirWay += 1;
    const receivedMs = this.#options.clock.monotonicMs();
    agent
      .request('net.forward', { user, token, kind, receivedMs, payload: content })
      .catch((error: unknown) => this.#drop(user, kind, reason(error)))
      .finally(() => {
        this.#onTheirWay -= 1;
      });
  }

  #drop(user: string, at: string, why: string): void {
    const fields = { event: 'net.payload', code: 'SKOS_NET_PAYLOAD' } as const;
    this.#options.log().warn(`dropped what ${user} sent on ${shown(at)}: ${shown(why, MAX_WHY_LENGTH)}`, fields);
  }
}

/** Names each key that is wrong. */
const MAX_WHY_LENGTH = 300;

function isGuestKind(kind: string): kind is GuestKind {
  return Object.hasOwn(ROLE_OF_KIND, kind);
}
