/**
 * Tokens of programs that may publish over MQTT. The agent keeps their hashes and says what each is good for; skos-net only carries
 * them here. A token is shown once, when it is made, and is nowhere in the record.
 *
 * Until they are read from the disk nobody is let in: a revoked token must not be good again because a disk is slow.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../core/clock.js';
import { SkosError } from '../core/errors.js';
import { type Credential, GUEST_ROLES, type GuestRole, typeOf } from '../core/guests.js';
import type { RecordKind, Records, Store } from '../core/ports.js';
import type { TokenView } from '../core/protocol.js';
import { type Infer, number, object, oneOf, string } from '../core/shape.js';
import { suggest } from '../core/suggest.js';
import { ANTIBODY_TYPES } from '../core/vocabulary.js';
import { mustConfirm } from './confirmed.js';
import { inTime } from './in-time.js';
import type { Outlet } from './outlet.js';
import type { Record } from './record.js';

const TOKEN_BYTES = 32;
/** What it is, for who finds it in a file. */
const TOKEN_PREFIX = 'skos_';
/** Programs on one node that report, watch or operate; each is made by a person. */
const MAX_TOKENS = 256;
/** A revocation that is not on disk by then is said to be in force, and not yet kept. */
const KEPT_WITHIN_MS = 2_000;

const tokenShape = object({
  role: oneOf(...GUEST_ROLES),
  hash: string({ pattern: /^[0-9a-f]{64}$/, expected: 'a SHA-256 in hex', max: 64 }),
  createdAtMs: number(),
  who: string({ max: 128 }),
});
type Token = Infer<typeof tokenShape>;

const TOKEN_RECORDS: RecordKind<Token> = {
  name: 'token',
  version: 1,
  shape: tokenShape,
  upgrades: [],
  maxCount: MAX_TOKENS,
  maxBytes: 1_024,
};

/** Compared with when there is no such name, so that an answer takes as long as for a known one. */
const NO_HASH = Buffer.alloc(32);

export interface TokensOptions {
  readonly node: string;
  readonly store: Pick<Store, 'records' | 'audit'>;
  readonly record: Pick<Record, 'add' | 'intend'>;
  readonly outlet: Outlet;
  readonly clock: Clock;
}

export class Tokens {
  readonly #options: TokensOptions;
  readonly #records: Records<Token>;
  readonly #onRevoked: ((name: string) => void)[] = [];
  #isLoaded = false;

  constructor(options: TokensOptions) {
    this.#options = options;
    this.#records = options.store.records(TOKEN_RECORDS);
  }

  /** Resolves when they are known, which a dead disk may keep from ever happening: nothing waits for it. */
  async load(): Promise<void> {
    await this.#records.load();
    this.#isLoaded = true;
  }

  onRevoked(listener: (name: string) => void): void {
    this.#onRevoked.push(listener);
  }

  list(): TokenView[] {
    return [...this.#records.all()].map(([name, { role, createdAtMs, who }]) => ({ name, role, createdAtMs, who }));
  }

  roleOf(name: string): GuestRole | undefined {
    return this.#records.get(name)?.role;
  }

  /** Returns the token. SKOS_TOKEN_EXISTS when the name is taken, or there are too many. */
  add({ name, role, who }: { name: string; role: GuestRole; who: string }): string {
    this.#mustBeLoaded();
    const { record, clock } = this.#options;
    const isOwn = ANTIBODY_TYPES.some((type) => type === typeOf(name));
    if (isOwn) throw new SkosError('SKOS_TOKEN_EXISTS', `"${name}" is an antibody of SKOS itself`);
    if (this.#records.get(name) !== undefined)
      throw new SkosError('SKOS_TOKEN_EXISTS', `"${name}" has a token already`);
    if (this.#records.all().size >= MAX_TOKENS) {
      throw new SkosError('SKOS_TOKEN_EXISTS', `there are ${MAX_TOKENS} tokens, as many as are kept`);
    }
    const token = TOKEN_PREFIX + randomBytes(TOKEN_BYTES).toString('base64url');
    this.#records.put(name, { role, hash: hashOf(token).toString('hex'), createdAtMs: clock.wallMs(), who });
    record.add({
      kind: 'token.added',
      who,
      what: { name, role },
      level: 'warn',
      message: `a token for "${name}" with the role ${role} was made by ${who}`,
      fields: { event: 'token.added' },
    });
    return token;
  }

  /**
   * In force at once; resolves when it is on disk, or after two seconds. SKOS_TOKEN_UNKNOWN when there is none, SKOS_CLI_NAME when
   * `confirm` is not the node's name.
   */
  async revoke({ name, confirm, who }: { name: string; confirm: string; who: string }): Promise<void> {
    this.#mustBeLoaded();
    const { node, record, outlet } = this.#options;
    mustConfirm(node, confirm);
    const token = this.#records.get(name);
    if (token === undefined)
      throw new SkosError('SKOS_TOKEN_UNKNOWN', unknownToken(name, [...this.#records.all().keys()]));
    this.#records.remove(name);
    outlet.broadcast('token.revoked', { name });
    for (const listener of this.#onRevoked) listener(name);
    const revoked = {
      kind: 'token.revoked',
      who,
      what: { name, role: token.role },
      level: 'warn',
      message: `the token of "${name}" (${token.role}) was revoked by ${who}`,
      fields: { event: 'token.revoked' },
    } as const;
    // The removal was queued before the entry, and is on disk with it: a kill must not make the token good again.
    await inTime(
      record.intend(revoked).catch(() => record.add(revoked)),
      KEPT_WITHIN_MS,
    );
  }

  /** SKOS_TOKEN_DENIED when it is none. */
  authenticate({ user, token }: Credential): GuestRole {
    this.#mustBeLoaded();
    const known = this.#records.get(user);
    const expected = known === undefined ? NO_HASH : Buffer.from(known.hash, 'hex');
    const isEqual = timingSafeEqual(hashOf(token), expected);
    if (known === undefined || !isEqual) throw new SkosError('SKOS_TOKEN_DENIED', 'user name or token is wrong');
    return known.role;
  }

  #mustBeLoaded(): void {
    if (!this.#isLoaded) throw new SkosError('SKOS_STORE_READ', 'the tokens are not read from the disk yet');
  }
}

function hashOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function unknownToken(name: string, known: readonly string[]): string {
  const close = suggest(name, known);
  const hint = close === undefined ? '`skos token list` shows those there are' : `did you mean "${close}"?`;
  return `there is no token "${name}"; ${hint}`;
}
