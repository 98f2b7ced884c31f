/**
 * What an antibody is: it knows which channels endanger the node and at which bounds, makes rules of that, and words
 * what the ladder found. It proposes and never acts; it holds no state and no clock, so that one constant serves.
 */

import type { Config } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import type { AntibodyType } from '../core/vocabulary.js';
import type { Transition } from '../policy/ladder.js';
import { type Rule, ruleProblems } from '../policy/rule.js';

export interface RulesContext {
  readonly config: Config;
  readonly channels: readonly Channel[];
  readonly report: RuleReport;
}

/** Rules that could not be bound, with the reason: shown like what discovery passed over. */
export interface RuleReport {
  skipped(rule: string, why: string): void;
}

/** The rule, the channel that it is bound to and what happened there. */
export interface Finding {
  readonly rule: Rule;
  readonly channel: Channel;
  readonly transition: Transition;
}

export interface Antibody {
  /** "thermal-sentinel"; `agent_id` is this and the node's name. */
  readonly name: string;
  /** "thermal_sentinel"; `agent_type`. */
  readonly type: AntibodyType;
  /** One rule per channel that it watches; all of them pass ruleProblems. */
  rulesFor(context: RulesContext): Rule[];
  /** The message of the alert, for people. */
  describe(finding: Finding): string;
  /** `metadata` of its heartbeat; `rules` are its own. */
  metadata(rules: readonly Rule[]): Readonly<Record<string, unknown>>;
}

/** The rules that may be used; the others are reported, because a rule that protects nothing must not look as if it did. */
export function usable(rules: readonly Rule[], report: RuleReport): Rule[] {
  return rules.filter((rule) => {
    const problems = ruleProblems(rule);
    if (problems.length > 0) report.skipped(rule.name, `on ${rule.channelId}: ${problems.join('; ')}`);
    return problems.length === 0;
  });
}

/** A heartbeat's metadata that all antibodies give. */
export function watched(rules: readonly Rule[]): Readonly<Record<string, unknown>> {
  return { rules: rules.length, channels: new Set(rules.map((rule) => rule.channelId)).size };
}
