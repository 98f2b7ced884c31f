/** The verbs about guests: tokens, chains and external antibodies, and what skos-net carries here of them. */
import { SkosError } from '../core/errors.js';
import { suggest } from '../core/suggest.js';
import { nameOf } from './caller-name.js';
import type { Chains } from './chains.js';
import type { GuestAntibodies } from './guest-antibodies.js';
import type { Guests } from './guests.js';
import type { NetState } from './net-state.js';
import type { RepairLoops } from './repair-loops.js';
import type { Handlers } from './socket-server.js';
import type { Tokens } from './tokens.js';

export interface GuestVerbOptions {
  readonly tokens: Tokens;
  readonly antibodies: GuestAntibodies;
  readonly chains: Chains;
  readonly repairLoops: RepairLoops;
  readonly guests: Guests;
  readonly net: Pick<NetState, 'view'>;
}

type GuestVerb =
  | 'token.add'
  | 'token.list'
  | 'token.revoke'
  | 'chain.list'
  | 'chain.break'
  | 'chain.reset'
  | 'antibody.list'
  | 'antibody.tell'
  | 'net.authenticate'
  | 'net.forward'
  | 'net.chains';

export function guestHandlers(options: GuestVerbOptions): Pick<Handlers, GuestVerb> {
  const { tokens, antibodies, chains, guests } = options;
  return {
    'token.add': ({ name, role }, caller) => ({ token: tokens.add({ name, role, who: nameOf(caller) }) }),
    'token.list': () => tokens.list(),
    'token.revoke': async ({ name, confirm }, caller) => {
      await tokens.revoke({ name, confirm, who: nameOf(caller) });
      return {};
    },
    'chain.list': () => ({ watched: watchedChains(options), chains: allChains(options) }),
    'chain.break': ({ chain }, caller) => {
      chains.break(chain, nameOf(caller));
      return {};
    },
    'chain.reset': ({ chain }, caller) => {
      reset(options, chain, nameOf(caller));
      return {};
    },
    'antibody.list': () => antibodies.list(),
    'antibody.tell': ({ name, command, parameters = {} }, caller) => ({
      actionId: antibodies.tell({ name, command, parameters }, nameOf(caller)),
    }),
    'net.authenticate': (credential) => ({ role: tokens.authenticate(credential) }),
    'net.forward': async (message) => {
      await guests.forward(message);
      return {};
    },
    'net.chains': ({ user, token, reports }) => {
      const role = tokens.authenticate({ user, token });
      if (role !== 'chain') throw new SkosError('SKOS_TOKEN_DENIED', `the role ${role} reports no chains`);
      chains.report(reports, user);
      return {};
    },
  };
}

/** Chains that skos-net watches; null: it is not there. */
function watchedChains({ net }: GuestVerbOptions): number | null {
  const view = net.view();
  return view.connected ? (view.chains ?? 0) : null;
}

function allChains({ chains, repairLoops }: GuestVerbOptions) {
  return [...repairLoops.list(), ...chains.list()];
}

function reset(options: GuestVerbOptions, chain: string, who: string): void {
  const { chains, repairLoops } = options;
  if (repairLoops.reset(chain, who) || chains.reset(chain, who)) return;
  const held = allChains(options).filter(({ isHeld }) => isHeld);
  const close = suggest(
    chain,
    held.map((each) => each.chain),
  );
  const hint = close === undefined ? '`skos chain list` shows those that are' : `did you mean "${close}"?`;
  throw new SkosError('SKOS_CHAIN_UNKNOWN', `no chain "${chain}" is held; ${hint}`);
}
