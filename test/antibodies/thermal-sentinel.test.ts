import t from 'tap';
import { thermalSentinel } from '../../src/antibodies/thermal-sentinel.js';
import type { Channel } from '../../src/core/channel.js';
import { configOf, cpuTemperature, finding, only, Skipped } from '../fixtures/antibodies.js';

function rules(channels: Channel[], written: Record<string, unknown> = {}) {
  const report = new Skipped();
  return { rules: thermalSentinel.rulesFor({ config: configOf(written), channels, report }), skipped: report.entries };
}

const celsius = (channel: Channel, written?: Record<string, unknown>) =>
  only(rules([channel], written).rules).rungs.map(({ raise, clear }) => [raise / 1000, clear / 1000]);

t.test('binds the default table to a CPU sensor', async (t) => {
  const rule = only(rules([cpuTemperature()]).rules);
  t.match(rule, {
    name: 'thermal-cpu',
    agentType: 'thermal_sentinel',
    type: 'thermal',
    sensor: 'cpu',
    channelId: 'hwmon/coretemp/temp1',
    forMs: 0,
    forSamples: 2,
    keepMs: 10_000,
    gapMs: 1300,
    mode: 'observe',
    standing: true,
  });
  t.same(rule.rungs, [
    { severity: 'warning', raise: 75_000, clear: 70_000, actions: ['throttle_10'] },
    { severity: 'critical', raise: 85_000, clear: 80_000, actions: ['throttle_50', 'redistribute'] },
    { severity: 'emergency', raise: 95_000, clear: 90_000, actions: ['shutdown_non_essential', 'failover'] },
  ]);
});

t.test('keeps the margin to the limit that the device states', async (t) => {
  t.same(celsius(cpuTemperature({ limits: { critical: 105_000 } })), [
    [90, 85],
    [97, 92],
    [102, 97],
  ]);
});

t.test('falls back to the table where the stated limit cannot be true', async (t) => {
  for (const critical of [0, -1000, 1000, 39_000, 127_875, 151_000, 65_261_850]) {
    t.same(celsius(cpuTemperature({ limits: { critical } }))[2], [95, 90], String(critical));
  }
});

t.test('takes what the operator writes as absolute, whatever the device says', async (t) => {
  const thermal = { thresholds: { warning: 60, critical: 70.5, emergency: 80 }, hysteresis: 3 };
  t.same(celsius(cpuTemperature({ limits: { critical: 105_000 } }), { thermal }), [
    [60, 57],
    [70.5, 67.5],
    [80, 77],
  ]);
});

t.test('leaves alone what discovery did not mark, and what is no CPU or GPU temperature', async (t) => {
  const { thermalDefault, ...unmarked } = cpuTemperature();
  t.ok(thermalDefault);
  const others = [
    unmarked,
    cpuTemperature({ class: 'board' }),
    cpuTemperature({ class: 'disk' }),
    cpuTemperature({ quantity: 'fanRpm' }),
    cpuTemperature({ thermalDefault: false }),
  ];
  t.same(rules(others), { rules: [], skipped: [] });
});

t.test('makes one rule per sensor and counts them in its heartbeat', async (t) => {
  const found = rules([cpuTemperature(), cpuTemperature({ id: 'nvidia/gpu-1/temp', class: 'gpu' })]).rules;
  t.match(found, [{ name: 'thermal-cpu' }, { name: 'thermal-gpu', sensor: 'gpu', standing: true }]);
  t.same(thermalSentinel.metadata(found), { rules: 2, channels: 2 });
});

t.test('says when a rule cannot be used instead of protecting nothing', async (t) => {
  const thermal = { thresholds: { warning: 90, critical: 80, emergency: 70 } };
  const { rules: found, skipped } = rules([cpuTemperature()], { thermal });
  t.same(found, []);
  t.match(skipped, [/^thermal-cpu: on hwmon\/coretemp\/temp1: critical: its raise bound/]);
});

t.test('words the alert as others already read it', async (t) => {
  const channel = cpuTemperature();
  const rule = only(rules([channel]).rules);
  const said = (...values: (number | null)[]) => thermalSentinel.describe(finding(rule, channel, values));
  t.equal(said(87_500, 87_500), 'CPU temperature 87.5°C exceeds critical threshold');
  t.equal(said(76_000, 76_000, 96_000, 96_000), 'CPU temperature 96.0°C exceeds emergency threshold');
  t.equal(said(76_000, 76_000, 60_000), 'CPU temperature 60.0°C is below the clear bound of warning');
  t.equal(said(76_000, 76_000, 60_000, 72_000), 'CPU temperature 72.0°C is no longer below the clear bound of warning');
  t.equal(said(76_000, 76_000, null), 'CPU temperature cannot be read: its driver hangs; warning alert stands');
  t.equal(said(60_000, null), 'CPU temperature cannot be read: its driver hangs');
  t.equal(said(null, -44_000), 'CPU temperature -44.0°C is read again');
  const cool = Array(12).fill(60_000);
  t.equal(
    said(86_000, 86_000, ...cool),
    'CPU temperature 60.0°C stayed below the clear bound of critical: down to warning',
  );
  t.equal(said(76_000, 76_000, ...cool), 'CPU temperature 60.0°C is back to normal');
  const gpu = cpuTemperature({ class: 'gpu' });
  t.equal(
    thermalSentinel.describe(finding(only(rules([gpu]).rules), gpu, [96_000, 96_000])),
    'GPU temperature 96.0°C exceeds emergency threshold',
  );
});
