/** The alerts that the agent remembers. One stands as long as its severity is set; a new one of the same id begins anew. */
import type { Alert, Log } from '../core/ports.js';
import type { Database } from './database.js';
import { Episodes } from './episodes.js';
import { PREFIX } from './keys.js';
import type { Writer } from './writer.js';

/** About 6 MB; years of a quiet node. */
const ALERTS_KEPT = 10_000;

export class AlertRecords extends Episodes<Alert> {
  constructor(options: { database: Database; writer: Writer; log: Log }) {
    super({
      ...options,
      history: PREFIX.alertHistory,
      open: PREFIX.alertStanding,
      keep: ALERTS_KEPT,
      id: (alert) => alert.id,
      startedAtMs: (alert) => alert.sinceAtMs,
      isOpen: (alert) => alert.severity !== null,
    });
  }
}
