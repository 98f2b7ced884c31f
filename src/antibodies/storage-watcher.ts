/** Storage watcher: used bytes and used inodes of every mounted file system, against the percentages of the config. */

import type { Config } from '../config/schema.js';
import type { Channel } from '../core/channel.js';
import { type BuiltInRule, SEVERITIES } from '../core/vocabulary.js';
import { type Rule, sampleGapMs } from '../policy/rule.js';
import { type Antibody, type Finding, type RulesContext, usable, watched } from './antibody.js';
import { message } from './message.js';

const PPM_PER_PERCENT = 10_000;

/** One rule for bytes and inodes, because an operator who releases it means the file system. */
const RULE: BuiltInRule = 'storage';

export const storageWatcher: Antibody = {
  name: 'storage-watcher',
  type: 'storage_watcher',

  rulesFor({ config, channels, report }: RulesContext): Rule[] {
    const rules = channels.filter(isWatched).map((channel) => storageRule(config, channel));
    return usable(rules, report);
  },

  describe({ transition, channel }: Finding): string {
    const subject = countsInodes(channel) ? 'Inode usage' : 'Disk usage';
    const place = mountPoint(channel);
    return message(transition, {
      subject: `${subject} of ${place}`,
      measured: (value) => `${subject} ${(value / PPM_PER_PERCENT).toFixed(1)}% of ${place}`,
    });
  },

  metadata: watched,
};

function isWatched({ source, quantity, probe }: Channel): boolean {
  if (source !== 'file_system' || quantity !== 'ratioPartsPerMillion' || probe.kind !== 'statvfs') return false;
  return probe.field === 'used_ppm' || probe.field === 'inodes_used_ppm';
}

function countsInodes({ probe }: Channel): boolean {
  return probe.kind === 'statvfs' && probe.field === 'inodes_used_ppm';
}

function mountPoint({ path, probe }: Channel): string {
  return probe.kind === 'statvfs' ? probe.path : path;
}

function storageRule(config: Config, channel: Channel): Rule {
  const { storage, sampling, mode } = config;
  return {
    name: RULE,
    agentType: 'storage_watcher',
    type: 'storage',
    sensor: 'disk',
    channelId: channel.id,
    quantity: channel.quantity,
    rungs: SEVERITIES.map((severity) => ({
      severity,
      raise: ppm(storage.thresholds[severity]),
      clear: ppm(storage.thresholds[severity] - storage.hysteresis),
      actions: storage.actions[severity],
    })),
    forMs: storage.for.seconds * 1000,
    forSamples: storage.for.samples,
    keepMs: storage.keep * 1000,
    gapMs: sampleGapMs({ rateHz: channel.rateHz, deadlineMs: sampling.deadline_ms }),
    mode,
    standing: false,
  };
}

function ppm(percent: number): number {
  return Math.round(percent * PPM_PER_PERCENT);
}
