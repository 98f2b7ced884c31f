/** A sensor that goes blind while an alert fires is no recovery, and one that hangs is no reason to wait. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ } from '../fixtures/node.js';

t.jobs = 4;

/** No sensor yet to come cool within the keep of 1 s, twice over. */
const BLIND_MS = 3_000;
const ZONE = 'thermal_zone/x86_pkg_temp/0';

async function hot(node: HeatedNode): Promise<void> {
  node.celsius(CELSIUS.critical);
  await node.untilCappedAt(KHZ.throttle50);
  await node.until('the alert stands', async () => (await node.alerts())[0]?.severity === 'critical');
}

/** The cap stays while nobody knows the temperature, and nothing that is said sounds like a recovery. */
async function staysCappedBlind(node: HeatedNode, verdict: string): Promise<void> {
  await node.until(`the alert says ${verdict}`, async () => (await node.alerts())[0]?.verdict === verdict);
  await node.stays('capped', () => node.isCappedAt(KHZ.throttle50), BLIND_MS);
  await node.until('the alert stands', async () => {
    const [alert] = await node.alerts();
    return alert?.severity === 'critical' && alert.verdict === verdict && alert.value === null;
  });
  const calm = node.log().filter(({ event }) => event === 'alert.clear' || event === 'alert.recover');
  if (calm.length > 0) throw new Error(`called a recovery: ${JSON.stringify(calm)}`);
}

async function recovers(node: HeatedNode): Promise<void> {
  await node.untilCappedAt(FORMER_KHZ);
  await node.until('the alert is over', async () => (await node.alerts()).length === 0);
}

/** As a driver that is reloaded: a new file at the old path. */
function reappears(node: HeatedNode, degrees: number): void {
  node.machine.set(node.sensorFile, degrees * 1000);
}

t.test('a sensor file that vanishes while firing keeps the cap, and recovers when it is back and cool', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  node.machine.remove(node.sensorFile);
  await staysCappedBlind(node, 'no_data');
  t.match((await node.alerts())[0]?.message, /no data.*critical alert stands/);
  reappears(node, CELSIUS.cool);
  await recovers(node);
});

t.test('a sensor that vanishes with its whole device keeps the cap, and recovers when it is back', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  const device = 'devices/virtual/thermal/thermal_zone0';
  node.machine.remove('class/thermal/thermal_zone0');
  node.machine.remove(device);
  await staysCappedBlind(node, 'no_data');
  t.match(
    await node.request('sensors', { glob: ZONE }),
    [{ quality: 'no_data', value: null }],
    'the channel is still there',
  );
  node.machine.set(`${device}/type`, 'x86_pkg_temp');
  node.machine.set(`${device}/mode`, 'enabled');
  node.machine.set(`${device}/temp`, CELSIUS.cool * 1000);
  node.machine.link('class/thermal/thermal_zone0', device);
  await recovers(node);
});

t.test('garbage in the sensor file while firing keeps the cap, and recovers when it reads well and cool', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  node.sensorSays('N/A');
  await staysCappedBlind(node, 'fault');
  node.celsius(CELSIUS.cool);
  await recovers(node);
  await node.until('the journal says so', () => node.log().some(({ event }) => event === 'alert.clear'));
});

t.test('a sensor that comes back hot goes on where it was', async (t) => {
  const node = await heatedNode(t);
  await hot(node);
  const { length } = await node.actions();
  node.sensorSays('');
  await node.until('blind', async () => (await node.alerts())[0]?.verdict !== 'ok');
  node.celsius(CELSIUS.critical);
  await node.until('seen again', async () => (await node.alerts())[0]?.verdict === 'ok');
  await node.stays('capped', () => node.isCappedAt(KHZ.throttle50), 1_500);
  t.equal((await node.actions()).length, length, 'nothing was done twice');
});

t.test('a FIFO planted as a sensor file blocks neither discovery, nor the agent, nor its end', async (t) => {
  const node = await heatedNode(t, {
    prepared: true,
    machine: (machine) => {
      const zones = ['iwlwifi', 'acpitz'].map((type) => machine.addZone({ type, milliCelsius: 40_000 }));
      plantFifo(join(machine.sysfs, zones[0] ?? '', 'temp'));
      plantFifo(join(machine.sysfs, zones[1] ?? '', 'type'));
      const chip = machine.addHwmon({ name: 'nct6798', files: { temp1_input: 45_000, temp1_label: 'SYSTIN' } });
      for (const file of ['temp1_input', 'temp1_max', 'temp2_input', 'in0_input'])
        plantFifo(join(machine.sysfs, chip, file));
      plantFifo(join(machine.sysfs, 'devices/system/cpu/cpufreq/policy1/scaling_cur_freq'));
    },
  });
  await node.start();
  await hot(node);
  t.pass('the good sensor protects');
  t.match(await node.request('sensors', { glob: ZONE }), [{ quality: 'ok', value: CELSIUS.critical }]);
  node.celsius(CELSIUS.cool);
  await recovers(node);
  const beganMs = performance.now();
  t.equal(await node.stop(), 0);
  t.ok(performance.now() - beganMs < 2_000, `stopped in ${Math.round(performance.now() - beganMs)} ms`);
});

function plantFifo(path: string): void {
  rmSync(path, { force: true });
  const made = spawnSync('mkfifo', [path]);
  if (made.status !== 0) throw new Error(`mkfifo ${path}: ${made.stderr}`);
}

t.test('a CPU sensor that cannot be read counts as hot for its standing order, until it is read', async (t) => {
  let sensor = '';
  const node = await heatedNode(t, {
    machine: (machine) => {
      const chip = machine.addHwmon({ name: 'coretemp', files: { temp1_label: 'Package id 0' } });
      sensor = join(chip, 'temp1_input');
      plantFifo(join(machine.sysfs, sensor));
    },
  });
  await node.untilCappedAt(KHZ.throttle50);
  const { actuator, alerts } = await node.status();
  t.equal(actuator.orders.filter(({ raised }) => raised).length, 1, 'the status says which order it is');
  t.same(actuator.orders.find(({ raised }) => raised)?.value, null, 'and that it knows no temperature');
  t.equal(alerts, 0, 'no danger is invented');
  node.machine.remove(sensor);
  node.machine.set(sensor, CELSIUS.cool * 1000);
  await node.untilCappedAt(FORMER_KHZ);
});

t.test('a machine without any temperature sensor runs, and says in one line what it did not find', async (t) => {
  const node = await heatedNode(t, { prepared: true });
  node.machine.remove('class/thermal');
  node.machine.remove('devices/virtual/thermal');
  node.spawnAgent();
  await node.until('it runs', async () => (await node.status()).ticks > 1);
  const { notFound, channels } = await node.status();
  t.ok(channels > 0, 'watches what there is');
  t.ok(
    notFound.some((line) => line.startsWith('thermal_zone: ')),
    notFound.join('\n'),
  );
});
