/**
 * What thermal-sentinel says beside temperatures of CPUs and GPUs: memory modules and disks near their own limits, GPUs that slow
 * down by themselves, fans that stand still, and GPUs that cannot be read under load. All but the last only alert.
 */
import type { Config } from '../config/schema.js';
import { type Channel, isDerived, isTemperature } from '../core/channel.js';
import { PPM_PER_PERCENT, toBase } from '../core/units.js';
import type { BuiltInRule, Severity } from '../core/vocabulary.js';
import { type Rule, type Rung, sampleGapMs } from '../policy/rule.js';
import type { Finding } from './antibody.js';
import { message, type Wording } from './message.js';

/** Memory modules and disks that state a limit outside this range state none: unset registers read as 0 or as their scale's end. */
const PLAUSIBLE_LIMIT_MILLI_CELSIUS = { min: 40_000, max: 125_000 };
/** Below the critical limit, of a device that states no lower one. */
const WARNING_MARGIN_MILLI_CELSIUS = 10_000;
/** A tenth of the last minute: one slow second is a job that began, six are a node that is too hot. */
const THROTTLED_PPM = { raise: 100_000, clear: 10_000 };
/** Between 0 and 1. */
const STOPPED = { raise: 0.5, clear: 0.4 };
/** A fan that starts again, or a tachometer that misses a beat, is no failure. */
const STOPPED_FOR_MS = 10_000;
/** Read again: the time since then is next to nothing. */
const READ_AGAIN_MS = 1_000;
const MS_PER_SECOND = 1_000;

type Extra = Pick<Rule, 'sensor' | 'rungs'> & { readonly name: BuiltInRule; readonly forMs?: number };

/** The rule of one channel, or none. */
export function alertRule(config: Config, channel: Channel): Rule | undefined {
  const extra = isDerived(channel) ? derivedRule(config, channel) : limitRule(config, channel);
  if (extra === undefined) return undefined;
  const { thermal, sampling, mode } = config;
  return {
    name: extra.name,
    agentType: 'thermal_sentinel',
    type: 'thermal',
    sensor: extra.sensor,
    channelId: channel.id,
    quantity: channel.quantity,
    rungs: extra.rungs,
    forMs: extra.forMs ?? 0,
    forSamples: thermal.for.samples,
    keepMs: thermal.keep * MS_PER_SECOND,
    gapMs: sampleGapMs({ rateHz: channel.rateHz, deadlineMs: sampling.deadline_ms }),
    mode,
    standing: false,
  };
}

function derivedRule(config: Config, { class: hot, name }: Channel): Extra | undefined {
  if (hot === 'gpu' && name.endsWith('_blind')) return blindRule(config);
  if (hot === 'gpu' && name.endsWith('_thermal_share')) return throttleRule('warning');
  if (hot === 'gpu' && name.endsWith('_hardware_share')) return throttleRule('critical');
  if (!name.endsWith('_stopped')) return undefined;
  return { name: 'fan-failure', sensor: 'fan', rungs: [rung('critical', STOPPED)], forMs: STOPPED_FOR_MS };
}

function rung(severity: Severity, { raise, clear }: { raise: number; clear: number }): Rung {
  return { severity, raise, clear, actions: [] };
}

function throttleRule(severity: Severity): Extra {
  return { name: 'gpu-throttle', sensor: 'gpu', rungs: [rung(severity, THROTTLED_PPM)] };
}

/** Nobody knows how hot it is: all caps of the table, and nothing that cannot be taken back. */
function blindRule({ thermal: { blind, actions } }: Config): Extra {
  const all = [...actions.warning, ...actions.critical, ...actions.emergency];
  const caps = [...new Set(all)].filter((action) => /^throttle_\d+$/.test(action));
  const bounds = { raise: blind * MS_PER_SECOND, clear: READ_AGAIN_MS };
  return { name: 'gpu-blind', sensor: 'gpu', rungs: [{ ...rung('critical', bounds), actions: caps }] };
}

/** Memory modules and disks, by what they state themselves. */
function limitRule({ thermal }: Config, channel: Channel): Extra | undefined {
  if (!isTemperature(channel) || (channel.class !== 'memory' && channel.class !== 'disk')) return undefined;
  const critical = plausible(channel.limits.critical);
  const max = plausible(channel.limits.max);
  const lower = critical === undefined ? undefined : critical - WARNING_MARGIN_MILLI_CELSIUS;
  const warning = max !== undefined && (critical === undefined || max < critical) ? max : lower;
  const hysteresis = thermal.hysteresis * 1000;
  const bounds = (raise: number) => ({ raise, clear: raise - hysteresis });
  const rungs = [
    ...(warning === undefined ? [] : [rung('warning', bounds(warning))]),
    ...(critical === undefined ? [] : [rung('critical', bounds(critical))]),
  ];
  if (rungs.length === 0) return undefined;
  return { name: channel.class === 'memory' ? 'thermal-memory' : 'thermal-disk', sensor: channel.class, rungs };
}

function plausible(limit: number | undefined): number | undefined {
  const { min, max } = PLAUSIBLE_LIMIT_MILLI_CELSIUS;
  return limit !== undefined && limit >= min && limit <= max ? limit : undefined;
}

/** The message of an alert of alertRule(); undefined: it is of another rule. */
export function alertMessage({ rule, channel, transition }: Finding): string | undefined {
  const words = wordsOf(rule, channel);
  if (words === undefined) return undefined;
  const { kind, value } = transition;
  const isRaised = (kind === 'fire' || kind === 'escalate') && value !== null;
  return isRaised && words.raised !== undefined ? words.raised(value) : message(transition, words);
}

interface Words extends Wording {
  /** Where no bound of the table was exceeded. */
  readonly raised?: (value: number) => string;
}

function wordsOf({ name, rungs }: Rule, { label }: Channel): Words | undefined {
  switch (name) {
    case 'thermal-memory':
      return degrees(`Memory temperature (${label})`);
    case 'thermal-disk':
      return degrees(`Disk temperature (${label})`);
    case 'gpu-throttle': {
      const subject = `GPU ${rungs[0]?.severity === 'critical' ? 'hardware' : 'thermal'} slowdown`;
      const share = (value: number) => `${subject} in ${(value / PPM_PER_PERCENT).toFixed(0)}% of the last minute`;
      return { subject, measured: share, raised: share };
    }
    case 'gpu-blind': {
      const subject = 'GPU under load';
      const raised = (value: number) =>
        `${subject} cannot be read for ${(value / MS_PER_SECOND).toFixed(0)} s: it counts as hot`;
      return { subject, measured: () => subject, raised };
    }
    case 'fan-failure': {
      const subject = `Fan (${label})`;
      return { subject, measured: () => subject, raised: () => `${subject}: though it should turn` };
    }
    default:
      return undefined;
  }
}

function degrees(subject: string): Words {
  return { subject, measured: (value) => `${subject} ${toBase('temperatureMilliCelsius', value).toFixed(1)}°C` };
}
