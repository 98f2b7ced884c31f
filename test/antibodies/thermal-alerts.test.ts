/** What thermal-sentinel says beside the temperatures of CPUs and GPUs. */
import t from 'tap';
import { buildEffects } from '../../src/actuators/effects.js';
import { thermalSentinel } from '../../src/antibodies/thermal-sentinel.js';
import { parseAction } from '../../src/core/action-names.js';
import type { Channel } from '../../src/core/channel.js';
import { withDerived } from '../../src/sensors/derived.js';
import { configOf, cpuTemperature, Skipped } from '../fixtures/antibodies.js';

const GPU = '0000:3b:00.0';
const probe = { kind: 'gpu', address: GPU, index: 0 } as const;
const gpu = (name: string, given: Partial<Channel>): Channel =>
  cpuTemperature({ id: `nvml/gpu-0/${name}`, source: 'nvml', device: 'gpu-0', name, class: 'gpu', probe, ...given });

function rulesOf(channels: readonly Channel[], written: Record<string, unknown> = {}) {
  const report = new Skipped();
  const rules = thermalSentinel.rulesFor({ config: configOf(written), channels, report });
  t.same(report.entries, []);
  return rules;
}

const bounds = (channel: Channel) =>
  rulesOf([channel]).flatMap(({ rungs }) => rungs.map(({ severity, raise, clear }) => [severity, raise, clear]));
const hot = (deviceClass: 'memory' | 'disk', limits: Channel['limits'], given: Partial<Channel> = {}) =>
  cpuTemperature({ class: deviceClass, thermalDefault: false, limits, ...given });

t.test('memory modules and disks alert by their own limits, and cap nothing', async (t) => {
  t.same(bounds(hot('disk', { max: 81_850, critical: 84_850 })), [
    ['warning', 81_850, 76_850],
    ['critical', 84_850, 79_850],
  ]);
  t.same(bounds(hot('memory', { critical: 95_000 })), [
    ['warning', 85_000, 80_000],
    ['critical', 95_000, 90_000],
  ]);
  t.same(bounds(hot('disk', { max: 60_000 })), [['warning', 60_000, 55_000]]);
  t.same(bounds(hot('memory', { max: 90_000, critical: 85_000 }))[0], ['warning', 75_000, 70_000], 'upside down');
  for (const limits of [{}, { critical: 0 }, { critical: 127_875 }, { max: 0, critical: -1000 }]) {
    t.same(bounds(hot('disk', limits)), [], JSON.stringify(limits));
  }
  t.same(bounds(hot('disk', { critical: 80_000 }, { quantity: 'sizeBytes' })), []);
  t.match(rulesOf([hot('disk', { critical: 80_000 })]), [
    {
      name: 'thermal-disk',
      type: 'thermal',
      sensor: 'disk',
      standing: false,
      rungs: [{ actions: [] }, { actions: [] }],
    },
  ]);
  t.match(rulesOf([hot('memory', { critical: 80_000 })]), [{ name: 'thermal-memory', sensor: 'memory' }]);
});

const channels = withDerived([
  gpu('temperature', { limits: { critical: 89_000 } }),
  gpu('utilization', { quantity: 'ratioPartsPerMillion', thermalDefault: false }),
  gpu('throttle_reasons', { quantity: 'flagsBitmask', thermalDefault: false }),
  gpu('fan', { quantity: 'ratioPartsPerMillion', thermalDefault: false }),
  gpu('fan_rpm', { quantity: 'fanRpm', thermalDefault: false }),
]);

t.test('a GPU’s own slowdown, its fan and its silence have rules of their own', async (t) => {
  const rules = rulesOf(channels);
  t.same(
    rules
      .map(({ name, channelId, rungs }) => `${name} ${channelId.split('/')[2]} ${rungs.map((each) => each.severity)}`)
      .sort(),
    [
      'fan-failure fan_rpm_stopped critical',
      'gpu-blind temperature_blind critical',
      'gpu-throttle throttle_reasons_hardware_share critical',
      'gpu-throttle throttle_reasons_thermal_share warning',
      'thermal-gpu temperature warning,critical,emergency',
    ],
  );
  const alerting = rules.filter(({ name }) => name === 'gpu-throttle' || name === 'fan-failure');
  t.ok(alerting.every(({ rungs }) => rungs.every(({ actions }) => actions.length === 0)));
});

t.test('a GPU that is blind under load gets every cap of the table, and nothing else of it', async (t) => {
  const blind = rulesOf(channels).find(({ name }) => name === 'gpu-blind');
  t.match(blind?.rungs, [{ raise: 30_000, clear: 1_000, actions: ['throttle_10', 'throttle_50'] }]);
  const written = { thermal: { blind: 60, actions: { critical: ['throttle_40', 'fans_full', 'redistribute'] } } };
  const other = rulesOf(channels, written).find(({ name }) => name === 'gpu-blind');
  t.match(other?.rungs, [{ raise: 60_000, actions: ['throttle_10', 'throttle_40'] }]);
  const channel = channels.find(({ id }) => id === blind?.channelId);
  const action = parseAction('throttle_50');
  if (channel === undefined || typeof action === 'string') throw new Error('no such channel');
  const target = (id: string) => ({ target: id, state: 'idle', former: '-', current: '-' });
  const targets = [target(`gpu/${GPU}`), target('gpu/0000:86:00.0'), target('cpufreq/policy0')];
  t.same(buildEffects({ action, channel, targets, jobs: new Set(), config: configOf() }), {
    effects: [{ target: `gpu/${GPU}`, capPpm: 500_000 }],
  });
});

t.test('says what it found in words', async (t) => {
  const said = (name: string, value: number | null) => {
    const rule = rulesOf([...channels, hot('disk', { critical: 84_850 }, { label: 'Composite' })]).find(
      (each) => each.name === name,
    );
    const channel = channels.find(({ id }) => id === rule?.channelId) ?? hot('disk', {}, { label: 'Composite' });
    if (rule === undefined) throw new Error(name);
    const transition = {
      kind: 'fire',
      before: null,
      after: rule.rungs[0]?.severity ?? null,
      phase: 'firing',
      verdict: 'ok',
      value,
      threshold: rule.rungs[0]?.raise ?? null,
      atMs: 0,
    } as const;
    return thermalSentinel.describe({ rule, channel, transition });
  };
  t.equal(said('thermal-disk', 80_000), 'Disk temperature (Composite) 80.0°C exceeds warning threshold');
  t.equal(said('gpu-throttle', 250_000), 'GPU thermal slowdown in 25% of the last minute');
  t.equal(said('gpu-blind', 31_000), 'GPU under load cannot be read for 31 s: it counts as hot');
  t.match(said('fan-failure', 1), /^Fan \(.* stands still\): though it should turn$/);
});
