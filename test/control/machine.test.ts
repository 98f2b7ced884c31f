/** The machine as the configuration describes it to discovery. */
import t from 'tap';
import { Machine } from '../../src/control/machine.js';
import { configOf } from '../fixtures/antibodies.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

t.test('looks for the cgroups of targets and for the units of workloads', async (t) => {
  const machine = fakeMachine(t);
  const config = configOf({
    targets: { batch: { cgroup: '/jobs.slice/batch/' }, web: { unit: 'nginx.service' }, both: { unit: 'old.service' } },
    workloads: { trainer: { unit: 'train.service' }, both: { unit: 'new.service' } },
  });
  const { channels } = await new Machine(machine.env).discover(config);
  t.match(
    new Map(channels.filter(({ name }) => name === 'cpu_usage').map(({ id, path }) => [id, path])),
    new Map([
      ['cgroup/batch/cpu_usage', 'jobs.slice/batch/cpu.stat'],
      ['workload/web/cpu_usage', 'system.slice/nginx.service/cpu.stat'],
      ['workload/trainer/cpu_usage', 'system.slice/train.service/cpu.stat'],
      ['workload/both/cpu_usage', 'system.slice/new.service/cpu.stat'],
    ]),
  );
});

t.test('expects readings of the actuator only where one may be, and where somebody asks it', async (t) => {
  const machine = fakeMachine(t);
  const zone = 'class/powercap/intel-rapl:0';
  for (const [file, value] of Object.entries({ name: 'package-0', energy_uj: 1, max_energy_range_uj: 1_000 }))
    machine.set(`${zone}/${file}`, value);
  const powers = async (mode: 'auto' | 'off', options?: { hasActuator: boolean }) => {
    const { channels } = await new Machine(machine.env).discover(configOf({ actuator: { mode } }), options);
    return channels.filter(({ source }) => source === 'rapl').length;
  };
  t.equal(await powers('auto'), 1);
  t.equal(await powers('off'), 0);
  t.equal(await powers('auto', { hasActuator: false }), 0);
});
