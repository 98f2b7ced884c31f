import t from 'tap';
import { EXIT } from '../../src/cli/exit-codes.js';
import { node } from '../fixtures/cli.js';

t.test('shows what would be done on a machine that is not there, the same for the same seed', async (t) => {
  const { skos } = await node(t);
  const once = await skos(['simulate', '--seed', '8', '--hours', '30', '--faults', '3']);
  t.equal(once.code, EXIT.ok, once.err);
  for (const text of [
    /Package id 0 .*°C/,
    /GPU 1/,
    /thermal-(cpu|gpu) .* of 14/,
    /throttle_10 active \d+×/,
    /hours a minute/,
  ]) {
    t.match(once.out, text);
  }
  for (const line of once.out.split('\n')) t.ok([...line].length <= 80, line);
  const figures = (out: string) => out.replace(/\d+ simulated hours a minute/, '');
  const again = await skos(['simulate', '--seed', '8', '--hours', '30', '--faults', '3']);
  t.equal(figures(again.out), figures(once.out));
});

t.test('obeys the configuration and the mode, and writes JSON lines', async (t) => {
  const { skos, write } = await node(t);
  write('etc/skos.yaml', 'thermal: { thresholds: { warning: 45, critical: 200, emergency: 220 } }\n');
  const argv = [
    'simulate',
    '--seed',
    '8',
    '--hours',
    '5',
    '--nodes',
    '2',
    '--gpus',
    '0',
    '--json',
    '--mode',
    'observe',
  ];
  const { out, code, err } = await skos(argv);
  t.equal(code, EXIT.ok, err);
  const reports = out.split('\n').map((line) => JSON.parse(line));
  t.same(
    reports.map(({ seed }) => seed),
    [8, 9],
  );
  t.match(reports[0], { devices: [{ bounds: [45, 200, 220] }], leases: { set: 0 } });
  t.ok(reports[0].rules[0].fired > 0);
  t.ok(reports[0].actions.every(({ state }: { state: string }) => state === 'observed'));
});

t.test('refuses what makes no sense', async (t) => {
  const { skos } = await node(t);
  for (const argv of [
    ['--hours', '0'],
    ['--seed', 'x'],
    ['--gpus', '65'],
    ['--mode', 'on'],
    ['--faults', '1000'],
  ]) {
    t.match(await skos(['simulate', ...argv]), { code: EXIT.usage, err: /SKOS_CLI_USAGE/ });
  }
});
