/** Cooling devices: their states and bounds. */
import t from 'tap';
import { coolingDevices } from '../../src/sensors/cooling-device.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

t.test('reads the state, bounded by the highest state', async (t) => {
  const machine = fakeMachine(t);
  machine.addCoolingDevice({ type: 'Fan', current: 1, max: 3 });
  machine.addCoolingDevice({ type: 'Processor', current: 0, max: 10 });
  const found = await discover(machine, [coolingDevices]);
  t.match(channelOf(found, 'cooling_device/fan/0'), {
    quantity: 'stateCode',
    class: 'board',
    limits: { max: 3 },
    path: 'devices/virtual/thermal/cooling_device0/cur_state',
  });
  t.equal(channelOf(found, 'cooling_device/processor/0').class, 'cpu');
});

t.test('takes the first of many that move together, and says how many it left', async (t) => {
  const machine = fakeMachine(t);
  for (let i = 0; i < 128; i++) machine.addCoolingDevice({ type: 'Processor', current: 0, max: 10 });
  machine.addCoolingDevice({ type: 'Fan', current: 0, max: 1 });
  const found = await discover(machine, [coolingDevices]);
  t.equal(found.channels.length, 9);
  t.match(found.skipped, [{ what: '120 of 128 Processor' }]);
});

t.test('passes over one that is going away, and takes one without max_state', async (t) => {
  const machine = fakeMachine(t);
  machine.remove(`${machine.addCoolingDevice({ type: 'a', current: 0, max: 1 })}/type`);
  machine.remove(`${machine.addCoolingDevice({ type: 'b', current: 0, max: 1 })}/max_state`);
  machine.link('class/thermal/cooling_device7', 'devices/gone');
  const found = await discover(machine, [coolingDevices]);
  t.same(ids(found), ['cooling_device/b/0']);
  t.same(found.channels.at(0)?.limits, {});
  t.equal(found.skipped.length, 2);
});
