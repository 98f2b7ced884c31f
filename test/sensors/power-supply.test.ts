/** Power supplies and batteries. */
import t from 'tap';
import { powerSupplies } from '../../src/sensors/power-supply.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

const SUPPLIES = 'class/power_supply';

t.test('reads a battery in canonical units, its state by the word', async (t) => {
  const machine = fakeMachine(t);
  for (const [file, value] of Object.entries({
    type: 'Battery',
    status: 'Not charging',
    capacity: 80,
    voltage_now: 12_345_000,
    current_now: 1_500_000,
    power_now: 18_000_000,
    temp: 301,
  }))
    machine.set(`${SUPPLIES}/BAT0/${file}`, value);
  machine.set(`${SUPPLIES}/AC/online`, 1);
  const found = await discover(machine, [powerSupplies]);
  t.same(ids(found), [
    'power_supply/ac/online',
    'power_supply/bat0/status',
    'power_supply/bat0/charge',
    'power_supply/bat0/voltage',
    'power_supply/bat0/current',
    'power_supply/bat0/power',
    'power_supply/bat0/temperature',
  ]);
  t.match(channelOf(found, 'power_supply/bat0/status').probe, { kind: 'word', words: /Not charging/ });
  t.match(channelOf(found, 'power_supply/bat0/voltage'), {
    quantity: 'voltageMilliVolts',
    probe: { multiplier: 0.001 },
  });
  t.match(channelOf(found, 'power_supply/bat0/temperature').probe, { multiplier: 100 });
});

t.test('leaves to hwmon what its chip of the supply shows', async (t) => {
  const machine = fakeMachine(t);
  for (const file of ['online', 'voltage_now', 'current_now', 'temp']) machine.set(`${SUPPLIES}/BAT0/${file}`, 1);
  machine.set(`${SUPPLIES}/BAT0/hwmon3/in0_input`, 1);
  machine.set(`${SUPPLIES}/BAT0/hwmon3/temp1_input`, 1);
  t.same(ids(await discover(machine, [powerSupplies])), ['power_supply/bat0/online', 'power_supply/bat0/current']);
});

t.test('passes over batteries of mice, and says when there are too many', async (t) => {
  const machine = fakeMachine(t);
  machine.set(`${SUPPLIES}/hidpp_battery_0/scope`, 'Device');
  machine.set(`${SUPPLIES}/hidpp_battery_0/status`, 'Full');
  t.same(await discover(machine, [powerSupplies]).then(ids), []);
  for (let i = 0; i < 34; i++) machine.set(`${SUPPLIES}/USB${i}/online`, 0);
  const found = await discover(machine, [powerSupplies]);
  t.equal(found.channels.length, 32);
  t.match(found.skipped, [{ what: 'USB32' }, { what: 'USB33' }]);
});
