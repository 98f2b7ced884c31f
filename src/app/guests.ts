/** What others may do over MQTT: whom tokens let in, external antibodies, and the chains of workloads. */
import { Chains } from '../control/chains.js';
import { GuestAntibodies } from '../control/guest-antibodies.js';
import { Tokens } from '../control/tokens.js';
import type { Acting } from './acting.js';
import type { Ground } from './ground.js';

export function composeGuests(
  { node, config, store, record, outlet, clock, every, log }: Ground,
  { alerts, word }: Pick<Acting, 'alerts' | 'word'>,
) {
  const tokens = new Tokens({ node, store, record, outlet, clock });
  const antibodies = new GuestAntibodies({ node, config, alerts, store, record, outlet, clock, every });
  tokens.onRevoked((name) => antibodies.forget(name));
  const chains = new Chains({ config, word, alerts, store, record, outlet, clock, every, log });
  return { tokens, antibodies, chains };
}
