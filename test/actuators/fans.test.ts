/** Fans at full speed and back, by the real skos-actuator over the files of a board's chip. */
import { chmodSync, mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { fans } from '../../src/actuators/fans.js';
import { parseAction } from '../../src/core/action-names.js';
import { startActuator } from '../fixtures/actuator.js';
import { configOf, cpuTemperature } from '../fixtures/antibodies.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { until } from '../fixtures/until.js';

const CHIP = 'devices/platform/nct6775.656/hwmon';
const ITEMS = ['target fan/a fan devices/platform/nct6775.656/hwmon/*/pwm1 floor_ppm=0'];
const LEASE = { lease: 'l', target: 'fan/a', capPpm: 0, ttlMs: 600_000 };

function board(t: Test, mode: number, duty: number): FakeMachine {
  const machine = fakeMachine(t);
  machine.set(`${CHIP}/hwmon3/pwm1_enable`, mode);
  machine.set(`${CHIP}/hwmon3/pwm1`, duty);
  return machine;
}

const stands = (machine: FakeMachine) =>
  `${machine.get(`${CHIP}/hwmon3/pwm1_enable`)} ${machine.get(`${CHIP}/hwmon3/pwm1`)}`;

t.test('turns at full speed while a lease stands, and has the former control back after it', async (t) => {
  for (const [mode, duty, former] of [
    [5, 90, 'auto_5'],
    [2, 0, 'auto_2'],
    [1, 77, 'manual_77'],
    [0, 255, 'full'],
  ] as const) {
    const machine = board(t, mode, duty);
    const actuator = await startActuator(t, machine, { items: ITEMS });
    const client = await actuator.client();
    t.match(await client.set(LEASE), { ok: true, former, readBack: 'manual_255' });
    t.equal(stands(machine), '1 255');
    // The curve goes on moving the duty as soon as it has the fan again: what it says is nobody's change.
    t.match(await client.release('l'), { ok: true, outcome: 'released', readBack: former });
    t.equal(machine.get(`${CHIP}/hwmon3/pwm1_enable`), String(mode));
    if (mode === 1) t.equal(stands(machine), '1 77');
    actuator.process.kill('SIGTERM');
    await actuator.exited;
  }
});

t.test('gives the curve back after its own death, and on its way out', async (t) => {
  const machine = board(t, 5, 90);
  const first = await startActuator(t, machine, { items: ITEMS });
  await (await first.client()).set(LEASE);
  first.process.kill('SIGKILL');
  await first.exited;
  t.equal(stands(machine), '1 255', 'at full speed, the safe side');
  rmSync(first.socket);
  const second = await startActuator(t, machine, { items: ITEMS });
  second.process.kill('SIGTERM');
  t.equal(await second.exited, 0);
  t.equal(machine.get(`${CHIP}/hwmon3/pwm1_enable`), '5');
});

t.test(
  'never leaves manual control behind where the duty cannot be set',
  { skip: process.getuid?.() !== 0 },
  async (t) => {
    const machine = board(t, 2, 40);
    const pwm = join(machine.sysfs, `${CHIP}/hwmon3/pwm1`);
    // No regular file, as of a driver that is going away: mode 2 stands, or comes back at once.
    rmSync(pwm);
    mkdirSync(pwm);
    const actuator = await startActuator(t, machine, { items: ITEMS });
    const client = await actuator.client();
    t.match(await client.set(LEASE), { ok: false });
    t.equal(machine.get(`${CHIP}/hwmon3/pwm1_enable`), '2');
    rmdirSync(pwm);
    writeFileSync(pwm, '40\n');
    chmodSync(pwm, 0o644);
    await until(() => stands(machine) === '1 255');
  },
);

t.test('a fan that somebody else took meanwhile is left alone', async (t) => {
  const machine = board(t, 2, 40);
  const actuator = await startActuator(t, machine, { items: ITEMS });
  const client = await actuator.client();
  await client.set(LEASE);
  machine.set(`${CHIP}/hwmon3/pwm1`, 120);
  t.match(await client.release('l'), { outcome: 'foreign_change' });
  t.equal(stands(machine), '1 120');
});

t.test('a driver that was loaded again is found under its new number', async (t) => {
  const machine = board(t, 2, 40);
  const actuator = await startActuator(t, machine, { items: ITEMS });
  const client = await actuator.client();
  machine.remove(`${CHIP}/hwmon3`);
  machine.set(`${CHIP}/hwmon9/pwm1_enable`, 2);
  machine.set(`${CHIP}/hwmon9/pwm1`, 40);
  t.match(await client.set(LEASE), { ok: true });
  t.equal(machine.get(`${CHIP}/hwmon9/pwm1`), '255');
});

t.test('the allow-list takes a pwm of a chip for a fan and nothing else', async (t) => {
  const machine = board(t, 2, 40);
  for (const path of [
    'devices/x/pwm1',
    'class/hwmon/hwmon1/temp1_input',
    'class/hwmon/hwmon1/pwm',
    'class/hwmon/pwm1/../../x/pwm1',
  ]) {
    const actuator = await startActuator(t, machine, {
      items: [`target fan/a fan ${path} floor_ppm=0`],
      refused: true,
    });
    t.equal(await actuator.exited, 3, path);
  }
});

t.test('fans_full means every fan that is listed', async (t) => {
  const action = parseAction('fans_full');
  if (typeof action === 'string') throw new Error(action);
  const target = (id: string) => ({ target: id, state: 'idle', former: '-', current: '-' });
  const build = (...ids: readonly string[]) =>
    fans.build({ action, channel: cpuTemperature(), targets: ids.map(target), jobs: new Set(), config: configOf() });
  t.same(build('fan/a/pwm1', 'cpufreq/policy0', 'fan/b/pwm2'), {
    effects: [
      { target: 'fan/a/pwm1', capPpm: 0 },
      { target: 'fan/b/pwm2', capPpm: 0 },
    ],
  });
  t.match(build('cpufreq/policy0'), { unavailable: String });
});
