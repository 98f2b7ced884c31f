/**
 * The operator's own rules (`rules` of the config): one severity each, bound to every channel that the glob names, or to
 * the temperatures of a class. A rule that binds to nothing is reported, because its author believes in it.
 */

import { ruleBounds, watches } from '../config/rule-bounds.js';
import type { Config, RuleConfig } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import { QUANTITIES, toBase } from '../core/units.js';
import { type Rule, sampleGapMs } from '../policy/rule.js';
import { type Antibody, type Finding, type RulesContext, usable, watched } from './antibody.js';
import { message } from './message.js';

/** Readable for a temperature and for a voltage alike. */
const SHOWN_DECIMALS = 2;

export const operatorRules: Antibody = {
  name: 'operator-rules',
  type: 'operator_rules',

  rulesFor({ config, channels, report }: RulesContext): Rule[] {
    const rules = config.rules.flatMap((written) => {
      const bound = channels.filter((channel) => watches(written, channel));
      if (bound.length === 0) report.skipped(written.name, unmatched(written));
      return bound.map((channel) => operatorRule(config, written, channel));
    });
    return usable(rules, report);
  },

  describe({ rule, transition, channel }: Finding): string {
    return message(transition, {
      subject: channel.label,
      measured: (value) => `${channel.label} ${shown(channel, value)} (rule ${rule.name})`,
    });
  },

  metadata: watched,
};

function unmatched({ channel, class: wanted }: RuleConfig): string {
  return channel === undefined ? `no channel of class ${wanted} is a temperature` : `no channel matches "${channel}"`;
}

function operatorRule(config: Config, written: RuleConfig, channel: Channel): Rule {
  const { severity, actions } = written;
  return {
    name: written.name,
    agentType: 'operator_rules',
    type: 'rule',
    sensor: channel.class,
    channelId: channel.id,
    quantity: channel.quantity,
    rungs: [{ severity, ...ruleBounds(written, channel.quantity), actions }],
    forMs: written.for.seconds * 1000,
    forSamples: written.for.samples,
    keepMs: written.keep * 1000,
    gapMs: sampleGapMs({ rateHz: channel.rateHz, deadlineMs: config.sampling.deadline_ms }),
    mode: written.mode ?? config.mode,
    standing: written.standing,
  };
}

function shown({ quantity }: Channel, value: number): string {
  if (quantity === 'ratioPartsPerMillion') return `${(toBase(quantity, value) * 100).toFixed(1)}%`;
  const base = Number(toBase(quantity, value).toFixed(SHOWN_DECIMALS));
  const { symbol } = QUANTITIES[quantity];
  if (symbol === '') return String(base);
  return symbol === '°C' ? `${base}°C` : `${base} ${symbol}`;
}
