/**
 * Thermal sentinel: temperatures of CPU and GPU against the margin to the device's own limit, or the bounds that the
 * operator wrote (config/thermal-bounds.ts computes them for this and for the standing orders alike).
 *
 * What else it watches is in thermal-alerts.ts.
 *
 * It binds to the sensors that discovery marked as fit for the default table; other temperatures are observed only,
 * because unconnected board inputs read nonsense.
 */

import type { Config } from '../config/schema.js';
import { thermalBounds } from '../config/thermal-bounds.js';
import type { Channel } from '../core/channel.js';
import { toBase } from '../core/units.js';
import { type BuiltInRule, SEVERITIES } from '../core/vocabulary.js';
import { type Rule, sampleGapMs } from '../policy/rule.js';
import { type Antibody, type Finding, type RulesContext, usable, watched } from './antibody.js';
import { message } from './message.js';
import { alertMessage, alertRule } from './thermal-alerts.js';

type ThermalClass = 'cpu' | 'gpu';
const RULES: Readonly<Record<ThermalClass, BuiltInRule>> = { cpu: 'thermal-cpu', gpu: 'thermal-gpu' };
const SUBJECTS: Readonly<Record<ThermalClass, string>> = { cpu: 'CPU temperature', gpu: 'GPU temperature' };

export const thermalSentinel: Antibody = {
  name: 'thermal-sentinel',
  type: 'thermal_sentinel',

  rulesFor({ config, channels, report }: RulesContext): Rule[] {
    const rules = channels.flatMap((channel) => {
      const sensor = thermalClass(channel);
      const rule = sensor === undefined ? alertRule(config, channel) : thermalRule(config, channel, sensor);
      return rule ?? [];
    });
    return usable(rules, report);
  },

  describe(finding: Finding): string {
    const { rule, transition } = finding;
    const wording = {
      subject: subject(rule.sensor),
      measured: (value: number) => `${subject(rule.sensor)} ${toBase('temperatureMilliCelsius', value).toFixed(1)}°C`,
    };
    return alertMessage(finding) ?? message(transition, wording);
  },

  metadata: watched,
};

function thermalClass(channel: Channel): ThermalClass | undefined {
  if (channel.thermalDefault !== true || channel.quantity !== 'temperatureMilliCelsius') return undefined;
  return channel.class === 'cpu' || channel.class === 'gpu' ? channel.class : undefined;
}

function subject(sensor: string): string {
  return sensor === 'gpu' ? SUBJECTS.gpu : SUBJECTS.cpu;
}

function thermalRule(config: Config, channel: Channel, sensor: ThermalClass): Rule {
  const { thermal, sampling, mode } = config;
  const bounds = thermalBounds(config, channel);
  return {
    name: RULES[sensor],
    agentType: 'thermal_sentinel',
    type: 'thermal',
    sensor,
    channelId: channel.id,
    quantity: channel.quantity,
    rungs: SEVERITIES.map((severity) => ({ severity, ...bounds[severity], actions: thermal.actions[severity] })),
    forMs: thermal.for.seconds * 1000,
    forSamples: thermal.for.samples,
    keepMs: thermal.keep * 1000,
    gapMs: sampleGapMs({ rateHz: channel.rateHz, deadlineMs: sampling.deadline_ms }),
    mode,
    // What config/compile.ts makes default orders of.
    standing: true,
  };
}
