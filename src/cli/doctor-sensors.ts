/** `skos doctor`: what was found and read, what was not, and hardware that no driver shows. */
import type { ChannelJson } from '../core/channel.js';
import { isVirtualMachine } from '../sensors/absence.js';
import type { Finding } from '../sensors/finding.js';
import { undrivenHardware } from '../sensors/kernel-modules.js';
import type { Io } from './command.js';
import { derivedIds } from './derived-ids.js';
import type { Seen } from './doctor-machine.js';
import { plural, readingText } from './format.js';
import { lmSensors } from './sensors-j.js';

/** Of channels without a value: enough to see which device it is. */
const MAX_NAMED = 3;
/** Of what was not found. */
const MAX_NOT_FOUND = 24;

export async function sensorFindings(seen: Seen, env: Io['env']): Promise<Finding[]> {
  const { trees } = seen;
  const derived = derivedIds(seen.channels);
  const channels = seen.channels.filter(({ id }) => !derived.has(id));
  const isGuest = await isVirtualMachine(trees);
  const temperatures = channels.filter(({ quantity }) => quantity === 'temperature');
  return [
    found(channels),
    ...silent(channels),
    ...(temperatures.length > 0 ? [hottest(temperatures)] : [noTemperature(isGuest), ...(await shownByLmSensors(env))]),
    ...(await undrivenHardware(trees)),
    ...notFound(seen.notFound),
  ];
}

function found(channels: readonly ChannelJson[]): Finding {
  const check = 'sensors.found';
  if (channels.length === 0) {
    return { check, state: 'problem', what: 'not a single channel was found', next: 'each source says below why' };
  }
  const counts = new Map<string, number>();
  for (const { source } of channels) counts.set(source, (counts.get(source) ?? 0) + 1);
  const sources = [...counts].map(([source, count]) => `${source} ${count}`);
  return { check, state: 'ok', what: `${plural(channels.length, 'channel')}: ${sources.join(', ')}` };
}

function hottest(temperatures: readonly ChannelJson[]): Finding {
  const check = 'sensors.temperature';
  const read = temperatures.filter(({ value }) => value !== null);
  const [first, ...rest] = read;
  if (first === undefined) {
    const what = `${plural(temperatures.length, 'temperature')}, but none can be read now`;
    return { check, state: 'problem', what, next: 'skos sensors says of each what is the matter' };
  }
  const top = rest.reduce((most, each) => ((each.value ?? 0) > (most.value ?? 0) ? each : most), first);
  return {
    check,
    state: 'ok',
    what: `${plural(read.length, 'temperature')}, the highest ${readingText(top)} (${top.id})`,
  };
}

/** In a guest that is how it is; on a real machine it leaves nothing to guard by. */
function noTemperature(isGuest: boolean): Finding {
  const check = 'sensors.temperature';
  if (isGuest) {
    const what = 'no temperature at all: this is a virtual machine, and its host passes none through';
    return { check, state: 'note', what, next: 'run SKOS on the host; here it guards storage, memory and load' };
  }
  const what =
    'no temperature at all: no driver has registered a thermal zone or a hwmon chip, so nothing guards against heat';
  return { check, state: 'problem', what, next: "load the board's modules: sensors-detect (lm-sensors) finds them" };
}

/** Channels without a value, by what is the matter. */
function silent(channels: readonly ChannelJson[]): Finding[] {
  return (['hung', 'fault', 'stale', 'no_data'] as const).flatMap((quality) => {
    const all = channels.filter((channel) => channel.quality === quality);
    if (all.length === 0) return [];
    const named = all.slice(0, MAX_NAMED).map(({ id }) => id);
    const more = all.length > MAX_NAMED ? ` and ${all.length - MAX_NAMED} more` : '';
    return [
      {
        check: `sensors.${quality}`,
        state: quality === 'hung' ? ('problem' as const) : ('note' as const),
        what: `${plural(all.length, 'channel')} without a value, ${quality}: ${named.join(', ')}${more}`,
        ...(quality === 'hung' ? { next: 'journalctl -k: its driver does not answer; the others are read on' } : {}),
      },
    ];
  });
}

async function shownByLmSensors(env: Io['env']): Promise<Finding[]> {
  const check = 'sensors.lm_sensors';
  const answer = await lmSensors(env);
  if (answer.state === 'absent') return [];
  if (answer.state === 'failed') {
    return [{ check, state: 'note', what: `lm-sensors could not be asked (sensors -j): ${answer.why}` }];
  }
  if (answer.chips.length === 0)
    return [{ check, state: 'ok', what: 'lm-sensors shows no temperature either (sensors -j)' }];
  const chips = answer.chips.map(({ chip, temperatures }) => `${chip} (${temperatures})`);
  return [
    {
      check,
      state: 'problem',
      what: `lm-sensors shows temperatures that SKOS does not find: ${chips.slice(0, MAX_NAMED).join(', ')}`,
      next: 'report it with the output of sensors -j and of skos sensors --once --json',
    },
  ];
}

function notFound(lines: readonly string[]): Finding[] {
  const check = 'sensors.not_found';
  const shown = lines.slice(0, MAX_NOT_FOUND).map((what) => ({ check, state: 'note' as const, what }));
  const more = lines.length - shown.length;
  return more > 0 ? [...shown, { check, state: 'note', what: `and ${more} more: skos status --json` }] : shown;
}
