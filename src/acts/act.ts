/**
 * What an act is: a program's one run of a oneshot unit (skos-act-*.service), started by its job's id and never by a path or a
 * word of the agent. It knows what to do from the configuration, which root owns; src/control/README.md says what it reports.
 */
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import type { RunCommand } from './command.js';

export interface ActContext {
  /** Behind the act's name on the command line of its unit. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The configuration of /etc/skos, or of $SKOS_CONFIG. Rejects with SKOS_CONFIG_… */
  readonly config: () => Promise<Config>;
  readonly run: RunCommand;
  readonly clock: Clock;
}

/** What came of it. A summary is one sentence for people. */
export interface Outcome {
  readonly ok: boolean;
  readonly summary: string;
  /** All of them; the report bounds them. */
  readonly items?: readonly string[];
  /** Where `items` are but the first of very many: their number, and the SHA-256 of all. */
  readonly total?: number;
  readonly digest?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface Act {
  /** Name of its report; null: it leaves none. Throws SKOS_ACT_ARGUMENT for arguments that its unit does not give. */
  reportName(args: readonly string[]): string | null;
  /** What rejects is reported as not ok, with the error's words. */
  run(context: ActContext): Promise<Outcome>;
}
