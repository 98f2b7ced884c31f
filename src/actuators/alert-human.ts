/**
 * `alert_human`: nothing is moved. The alert that it stands at is marked as one that needs a person (`attention`; control/alert-book.ts), in
 * the journal at the priority of an emergency and in its MQTT payload, for whoever pages people.
 */
import type { Built, EffectKind } from './effect.js';

export const alertHuman: EffectKind = {
  build(): Built {
    return { effects: [] };
  },
};
