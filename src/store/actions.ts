/** The actions that the agent remembers: each once, in its latest version. */
import type { ActionRecord, Log } from '../core/ports.js';
import type { ActionState } from '../core/vocabulary.js';
import type { Database } from './database.js';
import { Episodes } from './episodes.js';
import { PREFIX } from './keys.js';
import type { Writer } from './writer.js';

/** About 6 MB; years of a quiet node. */
const ACTIONS_KEPT = 10_000;

/** States that something still follows. */
const UNDER_WAY: readonly ActionState[] = ['proposed', 'pending', 'active', 'undo_pending'];

export class ActionRecords extends Episodes<ActionRecord> {
  constructor(options: { database: Database; writer: Writer; log: Log }) {
    super({
      ...options,
      history: PREFIX.actionHistory,
      open: PREFIX.actionOpen,
      keep: ACTIONS_KEPT,
      id: (action) => action.actionId,
      startedAtMs: (action) => action.startedAtMs,
      isOpen: (action) => UNDER_WAY.includes(action.state),
    });
  }
}
