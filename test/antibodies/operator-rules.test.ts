import t from 'tap';
import { operatorRules } from '../../src/antibodies/operator-rules.js';
import type { Channel } from '../../src/core/channel.js';
import { configOf, cpuTemperature, fileSystem, finding, only, Skipped } from '../fixtures/antibodies.js';

function rules(channels: Channel[], rule: Record<string, unknown>, more: Record<string, unknown> = {}) {
  const report = new Skipped();
  const config = configOf({ ...more, rules: [{ name: 'mine', ...rule }] });
  return { rules: operatorRules.rulesFor({ config, channels, report }), skipped: report.entries };
}

const board = cpuTemperature({ id: 'hwmon/nct6798/temp2', class: 'board', label: 'SYSTIN' });
const fan = cpuTemperature({ id: 'hwmon/nct6798/fan1', class: 'board', quantity: 'fanRpm', label: 'CPU fan' });
const volts = cpuTemperature({ id: 'hwmon/nct6798/in0', class: 'board', quantity: 'voltageMilliVolts', label: '+12V' });

t.test('binds to every channel that the glob names', async (t) => {
  const found = rules([cpuTemperature(), board, fan], { channel: 'hwmon/*/temp?', raise: 50 }).rules;
  t.same(
    found.map(({ channelId }) => channelId),
    ['hwmon/coretemp/temp1', 'hwmon/nct6798/temp2'],
  );
  t.same(found[1]?.rungs, [{ severity: 'warning', raise: 50_000, clear: 45_000, actions: [] }]);
  t.match(found[1], { name: 'mine', agentType: 'operator_rules', type: 'rule', sensor: 'board', standing: false });
});

t.test('binds a class to its temperatures only', async (t) => {
  const found = rules([cpuTemperature(), board, fan, volts], { class: 'board', raise: 50 }).rules;
  t.equal(only(found).channelId, 'hwmon/nct6798/temp2');
});

t.test('reads bounds in the unit that people write, shares in percent', async (t) => {
  const bounds = (channel: Channel, rule: Record<string, unknown>) => {
    const { raise, clear } = only(only(rules([channel], { channel: '**', ...rule }).rules).rungs);
    return [raise, clear];
  };
  t.same(bounds(fileSystem('used_ppm'), { raise: 60, clear: 40 }), [600_000, 400_000]);
  t.same(bounds(fileSystem('used_ppm'), { raise: 60 }), [600_000, 550_000]);
  t.same(bounds(volts, { raise: 12.6, clear: 12.5 }), [12_600, 12_500]);
  t.same(bounds(fan, { raise: 3000 }), [3000, 2850]);
  t.same(bounds(board, { raise: -40 }), [-40_000, -45_000]);
});

t.test('its own mode goes before that of the node', async (t) => {
  const node = { mode: 'auto' };
  t.equal(only(rules([board], { channel: '**', raise: 50 }, node).rules).mode, 'auto');
  t.equal(only(rules([board], { channel: '**', raise: 50, mode: 'observe' }, node).rules).mode, 'observe');
});

t.test('carries for, keep, severity, actions and standing', async (t) => {
  const written = { channel: '**', raise: 50, for: { seconds: 3, samples: 7 }, keep: 1.5, severity: 'emergency' };
  const rule = only(rules([board], { ...written, actions: ['throttle_50'], standing: true }).rules);
  t.match(rule, { forMs: 3000, forSamples: 7, keepMs: 1500, standing: true });
  t.match(rule.rungs, [{ severity: 'emergency', actions: ['throttle_50'] }]);
});

t.test('says when a rule binds to nothing', async (t) => {
  t.same(rules([board], { channel: 'hwmon/none/*', raise: 1 }), {
    rules: [],
    skipped: ['mine: no channel matches "hwmon/none/*"'],
  });
  t.same(rules([board], { class: 'gpu', raise: 1 }).skipped, ['mine: no channel of class gpu is a temperature']);
});

t.test('a class stands for how hot its devices are, not for a margin, a slope or an imbalance', async (t) => {
  const gpu = { ...board, class: 'gpu' } as const;
  const derived = { kind: 'pushed', feed: 'derived' } as const;
  const channels = [
    { ...gpu, id: 'nvml/a/temperature', name: 'temperature' },
    { ...gpu, id: 'nvml/a/margin', name: 'margin' },
    { ...gpu, id: 'nvml/a/temperature_imbalance', name: 'temperature_imbalance', probe: derived },
  ];
  const found = rules(channels, { class: 'gpu', raise: 50 }).rules;
  t.strictSame(
    found.map(({ channelId }) => channelId),
    ['nvml/a/temperature'],
  );
  t.equal(rules(channels, { channel: 'nvml/*/margin', raise: 50 }).rules.length, 1, 'a glob, for whatever it matches');
});

t.test('a glob means what is derived only where its end says so', async (t) => {
  const derived = { kind: 'pushed', feed: 'derived' } as const;
  const channels = [
    { ...board, id: 'hwmon/x/temp1', name: 'temp1' },
    { ...board, id: 'hwmon/x/temp1_slope', name: 'temp1_slope', probe: derived },
    { ...board, id: 'hwmon/x/temp1_time_to_limit', name: 'temp1_time_to_limit', probe: derived },
  ];
  for (const [glob, last] of [
    ['hwmon/x/temp*', ['temp1']],
    ['**', ['temp1']],
    ['**/*_slope', ['temp1_slope']],
    ['hwmon/x/temp1_time_to_limit', ['temp1_time_to_limit']],
  ] as const) {
    const found = rules(channels, { channel: glob, raise: 80 }).rules;
    t.strictSame(
      found.map(({ channelId }) => channelId.split('/').at(-1)),
      last,
      glob,
    );
  }
});

t.test('says when the bounds cannot work on a channel', async (t) => {
  // Beyond exact integers, where one less is the same.
  const { rules: found, skipped } = rules([board], { channel: '**', raise: 1e15, clear: 1e15 });
  t.same(found, []);
  t.match(skipped, [/^mine: on hwmon\/nct6798\/temp2: warning: the clear bound/]);
});

t.test('a glob made to be slow costs nothing', async (t) => {
  const startedMs = performance.now();
  const glob = `${'*a'.repeat(120)}b`;
  const long = cpuTemperature({ id: 'a'.repeat(190) });
  t.same(rules([long], { channel: glob, raise: 1 }).rules, []);
  t.ok(performance.now() - startedMs < 1000);
});

t.test('words the alert with the label and the value as people read it', async (t) => {
  const said = (channel: Channel, raise: number, value: number) =>
    operatorRules.describe(finding(only(rules([channel], { channel: '**', raise }).rules), channel, [value, value]));
  t.equal(said(board, 50, 51_500), 'SYSTIN 51.5°C (rule mine) exceeds warning threshold');
  t.equal(said(volts, 12.6, 12_700), '+12V 12.7 V (rule mine) exceeds warning threshold');
  t.equal(said(fileSystem('used_ppm'), 60, 612_345), '/ 61.2% (rule mine) exceeds warning threshold');
});
