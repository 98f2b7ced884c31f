/**
 * Runs the sources and makes one discovery of what they find.
 *
 * Each source is timed, caught and given a deadline, so that one that fails or hangs costs its own channels only. What
 * was found stands in the order of the sources, whichever came first; ids are made unique in that order, so that the
 * same machine gives the same ids.
 */
import { type Channel, segment } from '../core/channel.js';
import { type Clock, systemClock } from '../core/clock.js';
import { withDeadline } from '../core/deadline.js';
import { reason } from '../core/errors.js';
import type { Discovery, SensorsConf, Source, SourceContext, Tree } from '../core/ports.js';
import type { ConfIssue } from './lm-sensors.js';
import { compareNaturally } from './tree.js';

/** 64 is a well-equipped node; each channel costs memory in three programs and a topic. */
export const MAX_CHANNELS = 4096;
/** Of each source: more are of one kind, and nobody reads them. */
const MAX_SKIPPED = 256;
/** A read of discovery gives up after 1 s (tree.ts); a source that meets a few such chips still comes in time. */
const SOURCE_DEADLINE_MS = 5_000;

export interface DiscoverOptions {
  readonly trees: { readonly sysfs: Tree; readonly proc: Tree; readonly cgroup: Tree };
  /** Rate of temperatures. */
  readonly rateHz: number;
  /** cgroups by name, relative to the cgroup root. */
  readonly targets: Readonly<Record<string, string>>;
  /** Units by name. */
  readonly workloads: Readonly<Record<string, string>>;
  readonly hasActuator: boolean;
  readonly sensorsConf: SensorsConf & { readonly issues?: readonly ConfIssue[] };
  readonly clock?: Clock;
  readonly sourceDeadlineMs?: number;
}

export interface SourceTiming {
  readonly source: string;
  readonly durationMs: number;
  readonly channels: number;
}

export interface TimedDiscovery extends Discovery {
  readonly timings: readonly SourceTiming[];
}

type Skipped = Discovery['skipped'][number];

interface Result {
  readonly channels: readonly Channel[];
  readonly skipped: readonly Skipped[];
  readonly failed: boolean;
  readonly timing: SourceTiming;
}

export async function discoverAll(sources: readonly Source[], options: DiscoverOptions): Promise<TimedDiscovery> {
  const results = await Promise.all(sources.map((source) => run(source, options)));
  const all = results.flatMap(({ channels }) => channels);
  return {
    channels: bindAcpitz(withUniqueIds(all.slice(0, MAX_CHANNELS))),
    skipped: [
      ...results.flatMap(({ skipped }) => skipped),
      ...tooMany(all),
      ...stuckReads(options.trees),
      ...(options.sensorsConf.issues ?? []).slice(0, MAX_SKIPPED).map(confIssue),
    ],
    unanswered: results.filter(({ failed }) => failed).map(({ timing }) => timing.source),
    timings: results.map(({ timing }) => timing),
  };
}

async function run(source: Source, options: DiscoverOptions): Promise<Result> {
  const { trees, clock = systemClock } = options;
  const skipped: Skipped[] = [];
  let omitted = 0;
  let isOver = false;
  const skip = (what: string, why: string): void => {
    if (isOver) return; // A source beyond its deadline: the result is made already.
    if (skipped.length < MAX_SKIPPED) skipped.push({ source: source.name, what, why });
    else omitted++;
  };
  const { rateHz, targets, workloads, hasActuator, sensorsConf } = options;
  const report = { skipped: skip };
  const context: SourceContext = { ...trees, rateHz, targets, workloads, hasActuator, sensorsConf, report };
  const startedMs = clock.monotonicMs();
  let channels: readonly Channel[] = [];
  let failure: readonly Skipped[] = [];
  try {
    channels = await withDeadline(source.discover(context), options.sourceDeadlineMs ?? SOURCE_DEADLINE_MS);
  } catch (error) {
    failure = [{ source: source.name, what: `source ${source.name}`, why: reason(error) }];
  }
  isOver = true;
  skipped.sort((a, b) => compareNaturally(a.what, b.what)); // Reads end in any order.
  if (omitted > 0) skipped.push({ source: source.name, what: `${omitted} more`, why: 'not listed' });
  const durationMs = clock.monotonicMs() - startedMs;
  return {
    channels,
    skipped: [...failure, ...skipped],
    failed: failure.length > 0,
    timing: { source: source.name, durationMs, channels: channels.length },
  };
}

/** Sources make ids that differ; two equal devices at one place, or equal serials, are told apart by their order. */
function withUniqueIds(channels: readonly Channel[]): Channel[] {
  const ids = new Set<string>();
  return channels.map((channel) => {
    let unique = channel;
    for (let n = 2; ids.has(unique.id); n++) {
      const name = segment(`${channel.name.replaceAll('~', '_')}-${n}`);
      unique = { ...channel, name, id: `${segment(channel.source)}/${channel.device}/${name}` };
    }
    ids.add(unique.id);
    return unique;
  });
}

/**
 * The ACPI zone may be the CPU or a corner of the board: the default table binds to it where
 * there is no better sensor of the CPU.
 */
function bindAcpitz(channels: Channel[]): Channel[] {
  const hasBetter = channels.some((channel) => channel.thermalDefault === true && channel.class === 'cpu');
  if (hasBetter) return channels;
  return channels.map((channel) =>
    channel.source === 'thermal_zone' && channel.device === 'acpitz' ? { ...channel, thermalDefault: true } : channel,
  );
}

function tooMany({ length }: readonly Channel[]): Skipped[] {
  if (length <= MAX_CHANNELS) return [];
  return [{ source: 'discovery', what: `${length - MAX_CHANNELS} channels`, why: `more than ${MAX_CHANNELS}` }];
}

function stuckReads(trees: DiscoverOptions['trees']): Skipped[] {
  return Object.values(trees).flatMap((tree) =>
    tree.stuck.map((path) => ({
      source: 'discovery',
      what: tree.absolute(path),
      why: 'hung: its read does not return',
    })),
  );
}

function confIssue({ code, file, line, message }: ConfIssue): Skipped {
  return { source: 'lm_sensors', what: line === 0 ? file : `${file}:${line}`, why: `${code}: ${message}` };
}
