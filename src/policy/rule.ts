/**
 * A rule bound to one channel, compiled: what the antibodies make of config and channels, and what the ladder steps on.
 * Everything is in canonical units and milliseconds here; people's units were left behind in antibodies/.
 */
import type { Quantity } from '../core/units.js';
import { type AntibodyType, type Mode, SEVERITIES, type Severity } from '../core/vocabulary.js';

export interface Rung {
  readonly severity: Severity;
  /** A value above this raises; canonical unit. */
  readonly raise: number;
  /** A value below this lets the rung go; strictly inside raise. */
  readonly clear: number;
  /** As written in the config: throttle_50, limit_20@demo. */
  readonly actions: readonly string[];
}

export interface Rule {
  /** Unique together with channelId; what `skos release` bars. */
  readonly name: string;
  readonly agentType: AntibodyType;
  /** The `type` of alerts and the second part of an action id. */
  readonly type: 'thermal' | 'storage' | 'mesh' | 'rule';
  /** "cpu", "gpu", "disk", …: `details.sensor` of alerts. */
  readonly sensor: string;
  readonly channelId: string;
  readonly quantity: Quantity;
  /** Ascending in severity and raise; at least one. */
  readonly rungs: readonly Rung[];
  readonly forMs: number;
  readonly forSamples: number;
  readonly keepMs: number;
  /** The longest silence of the channel that is still its ordinary rhythm; see sampleGapMs. */
  readonly gapMs: number;
  readonly mode: Mode;
  readonly standing: boolean;
}

/** One late or lost sample is jitter, two are bad luck, three are an absence. */
const MISSED_PERIODS = 3;

/** The `gapMs` of a channel: three periods, and the deadline that a slow read may use up. */
export function sampleGapMs({ rateHz, deadlineMs }: { rateHz: number; deadlineMs: number }): number {
  return (MISSED_PERIODS * 1000) / rateHz + deadlineMs;
}

/** What is wrong with a rule, one sentence each; empty when it may be used. */
export function ruleProblems(rule: Rule): string[] {
  const problems: string[] = [];
  if (rule.rungs.length === 0) problems.push('it has no rung');
  if (!(rule.forSamples >= 1)) problems.push('for.samples must be at least 1');
  if (!(rule.forMs >= 0 && rule.keepMs >= 0)) problems.push('for and keep must not be negative');
  if (!(rule.gapMs > 0)) problems.push('its channel has no sampling rate');
  rule.rungs.forEach((rung, i) => {
    problems.push(...rungProblems(rung, rule.rungs[i - 1]));
  });
  return problems;
}

function rungProblems({ severity, raise, clear }: Rung, lower: Rung | undefined): string[] {
  const problems: string[] = [];
  // Written so that NaN is refused too.
  if (!(Number.isFinite(raise) && Number.isFinite(clear) && clear < raise)) {
    problems.push(`${severity}: the clear bound (${clear}) must be below the raise bound (${raise})`);
  }
  if (lower === undefined) return problems;
  if (!(lower.raise < raise)) problems.push(`${severity}: its raise bound must be above that of ${lower.severity}`);
  if (SEVERITIES.indexOf(lower.severity) >= SEVERITIES.indexOf(severity)) {
    problems.push(`${severity}: severities must ascend`);
  }
  return problems;
}
