/**
 * Exit codes: the one table, printed by `skos --help` and obeyed by every command. Scripts depend on it; a number is never
 * given another meaning. Standing alerts are not a failure of `skos status`: ask `skos alerts --json`.
 */
import { type ErrorCode, SkosError } from '../core/errors.js';

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  noAgent: 3,
  config: 4,
  denied: 5,
  auditBroken: 6,
  problems: 7,
  /** As shells count a program that SIGINT ended: 128 + 2. */
  interrupted: 130,
} as const;

export const EXIT_MEANINGS: Readonly<Record<number, string>> = {
  [EXIT.ok]: 'done',
  [EXIT.failed]: 'failed; the message says why',
  [EXIT.usage]: 'the command line was not understood',
  [EXIT.noAgent]: 'no agent answers',
  [EXIT.config]: 'the configuration is refused',
  [EXIT.denied]: 'not permitted: needs root or the group skos-admin',
  [EXIT.auditBroken]: 'the audit chain does not verify',
  [EXIT.problems]: 'skos doctor found a problem; it says which, and what to do',
  [EXIT.interrupted]: 'interrupted (Ctrl-C)',
};

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  SKOS_CLI_USAGE: EXIT.usage,
  SKOS_SOCKET_UNAVAILABLE: EXIT.noAgent,
  SKOS_SOCKET_DEADLINE: EXIT.noAgent,
  SKOS_CONFIG_SYNTAX: EXIT.config,
  SKOS_CONFIG_INVALID: EXIT.config,
  SKOS_CONFIG_UNREADABLE: EXIT.config,
  SKOS_SOCKET_DENIED: EXIT.denied,
  SKOS_CLI_ROOT: EXIT.denied,
  SKOS_RESTORE_DENIED: EXIT.denied,
  SKOS_CLI_INTERRUPTED: EXIT.interrupted,
  SKOS_AUDIT_BROKEN: EXIT.auditBroken,
};

export function exitCodeOf(error: unknown): number {
  return error instanceof SkosError ? (BY_CODE[error.code] ?? EXIT.failed) : EXIT.failed;
}
