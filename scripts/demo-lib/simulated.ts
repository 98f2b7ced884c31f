/**
 * scripts/demo: one armed node on a simulated machine whose fan fails under full load. What is printed was read over MQTT
 * from the node; the simulation is never looked at, only its fan and its jobs are switched.
 */
import { parseArgs } from 'node:util';
import { DemoNode } from './demo-node.js';
import { CHANNELS, SimulatedMachine } from './simulated-machine.js';
import { claim, perform, type Stage, say, until } from './stage.js';
import { Watcher } from './watcher.js';

const { values: options } = parseArgs({ options: { fast: { type: 'boolean', default: false } } });
/** Seconds. With --fast for tests: the same physics on a lighter heat sink. */
const PACE = options.fast ? { timeConstant: 3, keep: 1 } : { timeConstant: 10, keep: 4 };
/** Many times what each step takes, also on a machine that has other things to do. */
const PATIENCE_S = 60;

const CAPS = ['throttle_10', 'throttle_50', 'freeze@batch'];
const CONFIG = `node: nova
mode: auto
actuator: { mode: child }
targets: { batch: { cgroup: batch } }
thermal:
  keep: ${PACE.keep}
  actions:
    warning: [throttle_10]
    critical: [throttle_50, redistribute]
    emergency: [freeze@batch]
`;
/** The bar, °C. */
const BAR = { from: 30, to: 102, perMark: 2 };

async function play(stage: Stage): Promise<void> {
  const directory = stage.directory();
  const machine = new SimulatedMachine({ directory, timeConstantSeconds: PACE.timeConstant });
  stage.onEnd(() => machine.stop());
  machine.start();

  const temperatures: number[] = [];
  const watcher = new Watcher({
    rule: 'thermal-cpu',
    onSensor: (id, value) => {
      if (id !== CHANNELS.temperature) return;
      temperatures.push(value);
      say(temperatureLine(value, watcher.value(CHANNELS.frequency)));
    },
  });
  const node = new DemoNode({
    stage,
    directory,
    config: CONFIG,
    roots: machine.roots,
    onMessage: (message) => watcher.take(message),
  });
  say('A node of its own, armed, on a simulated machine: 4 cores at 3 GHz, one batch job beside the training job.');
  say('Rungs: 75 °C throttle_10, 85 °C throttle_50, 95 °C freeze@batch. All that follows comes over MQTT.\n');
  await node.start();
  const hottest = () => Math.max(...temperatures);
  const latest = () => temperatures.at(-1) ?? Number.NaN;

  say('\n--- Both jobs start, and the fan fails. Unprotected, this CPU would reach 175 °C. ---\n');
  machine.load = { training: 0.6, batch: 0.4 };
  machine.hasFan = false;
  for (const action of CAPS)
    await until(`${action} held`, () => watcher.result(action, 'active') !== undefined, PATIENCE_S);
  await until('it cools, fan or no fan', () => latest() < hottest() - 2, PATIENCE_S);

  say(
    `\n--- It cools, though the fan still stands: ${hottest().toFixed(1)} °C was the worst reading. Now the fan is replaced. ---\n`,
  );
  machine.hasFan = true;
  await until('the alert cleared', () => watcher.cleared, PATIENCE_S);
  for (const action of CAPS) {
    await until(`${action} released`, () => watcher.result(action, 'released') !== undefined, PATIENCE_S);
  }
  await until('full clock again', () => watcher.value(CHANNELS.frequency) === 3e9, PATIENCE_S);

  say('\n--- All is taken back; both jobs run at full clock. What was done, and the record of it: ---\n');
  await show(node, 'actions');
  await show(node, 'audit', 'verify');
  const severities = ['warning', 'critical', 'emergency'];
  for (const severity of severities) {
    claim(
      watcher.alerts.some((alert) => alert.severity === severity),
      `there was no ${severity} alert`,
    );
  }
  // throttle_50 was released to what throttle_10 still held; these two to what stood there at first.
  for (const action of ['throttle_10', 'freeze@batch']) {
    const effects = watcher.result(action, 'released')?.effects ?? [];
    const isRestored = effects.length > 0 && effects.every((each) => each.former === each.read_after);
    claim(isRestored, `${action} did not give back the former value`);
  }
  claim(hottest() < 105, `it reached ${hottest().toFixed(1)} °C, which the caps should have prevented`);
  const { alerts, actuator } = await node.status();
  claim(alerts === 0 && actuator.leases.length === 0, `${alerts} alerts, ${actuator.leases.length} leases are left`);
  say('\nThe loop closed: heated, throttled, cooled, released.');
}

async function show(node: DemoNode, ...args: string[]): Promise<void> {
  const { status, text } = await node.skos(...args);
  say(`$ skos ${args.join(' ')}\n${text}\n`);
  claim(status === 0, `skos ${args.join(' ')} ended with ${status}`);
}

function temperatureLine(celsius: number, hertz: number | undefined): string {
  const length = Math.round((BAR.to - BAR.from) / BAR.perMark);
  const filled = Math.min(length, Math.max(0, Math.round((celsius - BAR.from) / BAR.perMark)));
  const bar = '#'.repeat(filled) + '.'.repeat(length - filled);
  const clock = hertz === undefined ? '' : `  ${(hertz / 1e9).toFixed(1)} GHz`;
  return `${celsius.toFixed(1).padStart(6)} °C  ${bar}${clock}`;
}

await perform(play);
