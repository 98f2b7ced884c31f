/**
 * Storage watcher: used bytes and used inodes of every mounted file system, against the percentages of the config. Beside it, what nobody
 * can clean away: a file system that will be full within hours, one that has become read-only, and disks and arrays that fail. Those
 * are for people, and alert only.
 */

import type { Config } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import { PPM_PER_PERCENT } from '../core/units.js';
import { type BuiltInRule, SEVERITIES, type Severity } from '../core/vocabulary.js';
import { FORECAST_HOURS } from '../policy/fill-forecast.js';
import type { Transition } from '../policy/ladder.js';
import { type Rule, type Rung, sampleGapMs } from '../policy/rule.js';
import { READ_ONLY } from '../sensors/file-system.js';
import { type Antibody, type Finding, type RulesContext, usable, watched } from './antibody.js';
import { message } from './message.js';

type StorageRule = Extract<BuiltInRule, 'storage' | 'storage-filling' | 'storage-read-only' | 'disk-health'>;

/** Full, of what an unprivileged user can use. */
const FULL_PPM = 100 * PPM_PER_PERCENT;
/** A trend has to turn for good before it is believed to be over. */
const FILLING = { raise: FULL_PPM - 1, clear: 90 * PPM_PER_PERCENT, forMs: 300_000, keepMs: 600_000 };
const READ_ONLY_BOUNDS = { raise: 0.75, clear: 0.5, forMs: 0, keepMs: 10_000 };
/** Controllers are reset and paths change over without a disk being ill. */
const HEALTH_FOR_MS = 30_000;
const HEALTH_KEEP_MS = 60_000;

/**
 * States from which on a device is ill, by source and channel; between the bounds lies none. NVMe: resetting (2), connecting (3), and from
 * deleting (4) to dead (6) it is given up. SCSI: from offline (6) on; running is 2. md: devices that are missing.
 */
const ILL: Readonly<Record<string, readonly Pick<Rung, 'severity' | 'raise' | 'clear'>[]>> = {
  'nvme state': [
    { severity: 'warning', raise: 1.75, clear: 1.5 },
    { severity: 'critical', raise: 3.75, clear: 3.5 },
  ],
  'scsi state': [{ severity: 'critical', raise: 5.75, clear: 5.5 }],
  'md missing_devices': [{ severity: 'critical', raise: 0.75, clear: 0.5 }],
};
/** Asks for a person where a machine has no remedy. */
const FOR_PEOPLE = ['alert_human'];

export const storageWatcher: Antibody = {
  name: 'storage-watcher',
  type: 'storage_watcher',

  rulesFor({ config, channels, report }: RulesContext): Rule[] {
    return usable(
      channels.flatMap((channel) => ruleOf(config, channel) ?? []),
      report,
    );
  },

  describe({ rule, transition, channel }: Finding): string {
    const place = mountPoint(channel);
    switch (rule.name as StorageRule) {
      case 'storage-filling':
        return told(transition, {
          subject: `The trend of ${place}`,
          bad: (value) => `${place} fills up: ${percent(value)} in ${FORECAST_HOURS} h, as it rises now`,
          good: `${place} no longer fills up within ${FORECAST_HOURS} h`,
        });
      case 'storage-read-only':
        return told(transition, {
          subject: `The state of file system ${place}`,
          bad: () => `File system ${place} has become read-only; to do: see journalctl -k, check its disk`,
          good: `File system ${place} can be written again`,
        });
      case 'disk-health':
        return told(transition, {
          subject: channel.label,
          bad: (value) => `${channel.label}: ${stateWord(channel, value)}; to do: check the disk and its connection`,
          good: `${channel.label} is back to normal`,
        });
      default: {
        const subject = countsInodes(channel) ? 'Inode usage' : 'Disk usage';
        return message(transition, {
          subject: `${subject} of ${place}`,
          measured: (value) => `${subject} ${percent(value)} of ${place}`,
        });
      }
    }
  },

  metadata: watched,
};

/** What is so or is not: "exceeds a threshold" would say nothing to anybody. */
function told(
  transition: Transition,
  { subject, bad, good }: { subject: string; bad: (value: number) => string; good: string },
): string {
  const { kind, value } = transition;
  if ((kind === 'fire' || kind === 'escalate') && value !== null) return bad(value);
  if (kind === 'clear') return good;
  return message(transition, { subject, measured: () => subject });
}

function percent(ppm: number): string {
  return `${(ppm / PPM_PER_PERCENT).toFixed(1)}%`;
}

function stateWord({ probe }: Channel, value: number): string {
  return probe.kind === 'word' ? `"${probe.words[value] ?? value}"` : String(value);
}

function countsInodes({ probe }: Channel): boolean {
  return probe.kind === 'statvfs' && probe.field === 'inodes_used_ppm';
}

/** Labels of file systems begin with it: "/data used", "/data read-only". */
function mountPoint({ label, probe }: Channel): string {
  return probe.kind === 'statvfs' ? probe.path : label.replace(/ (read-only|used in \d+ h)$/, '');
}

function ruleOf(config: Config, channel: Channel): Rule | undefined {
  const { source, name, quantity, probe } = channel;
  const ill = ILL[`${source} ${name}`];
  if (ill !== undefined) {
    const rungs = ill.map((rung) => ({ ...rung, actions: FOR_PEOPLE }));
    return rule('disk-health', rungs, { config, channel, forMs: HEALTH_FOR_MS, keepMs: HEALTH_KEEP_MS });
  }
  if (source !== 'file_system') return undefined;
  if (name === READ_ONLY) return alertOnly('storage-read-only', 'critical', { config, channel, ...READ_ONLY_BOUNDS });
  if (quantity !== 'ratioPartsPerMillion') return undefined;
  if (name.endsWith('_forecast')) return alertOnly('storage-filling', 'warning', { config, channel, ...FILLING });
  if (probe.kind !== 'statvfs' || (probe.field !== 'used_ppm' && probe.field !== 'inodes_used_ppm')) return undefined;
  return usageRule(config, channel);
}

interface RuleParts {
  readonly config: Config;
  readonly channel: Channel;
  readonly forMs: number;
  readonly keepMs: number;
  readonly forSamples?: number;
}

function rule(name: StorageRule, rungs: readonly Rung[], parts: RuleParts): Rule {
  const { config, channel, forMs, keepMs, forSamples = 2 } = parts;
  return {
    name,
    agentType: 'storage_watcher',
    type: 'storage',
    sensor: 'disk',
    channelId: channel.id,
    quantity: channel.quantity,
    rungs,
    forMs,
    forSamples,
    keepMs,
    gapMs: sampleGapMs({ rateHz: channel.rateHz, deadlineMs: config.sampling.deadline_ms }),
    mode: config.mode,
    standing: false,
  };
}

function alertOnly(
  name: StorageRule,
  severity: Severity,
  { raise, clear, ...parts }: RuleParts & { raise: number; clear: number },
): Rule {
  return rule(name, [{ severity, raise, clear, actions: FOR_PEOPLE }], parts);
}

/** One rule for bytes and inodes, because an operator who releases it means the file system. */
function usageRule(config: Config, channel: Channel): Rule {
  const { storage } = config;
  const rungs = SEVERITIES.map((severity) => ({
    severity,
    raise: ppm(storage.thresholds[severity]),
    clear: ppm(storage.thresholds[severity] - storage.hysteresis),
    actions: storage.actions[severity],
  }));
  return rule('storage', rungs, {
    config,
    channel,
    forMs: storage.for.seconds * 1000,
    forSamples: storage.for.samples,
    keepMs: storage.keep * 1000,
  });
}

function ppm(written: number): number {
  return Math.round(written * PPM_PER_PERCENT);
}
