/** InfiniBand and RoCE ports. */
import t from 'tap';
import { loadAddon } from '../../src/sensors/addon.js';
import { infiniband } from '../../src/sensors/infiniband.js';
import { channelOf, discover, ids } from '../fixtures/discovery.js';
import { type FakeMachine, fakeMachine } from '../fixtures/fake-sysfs.js';
import { until } from '../fixtures/until.js';

interface Options {
  readonly address?: string;
  readonly virtual?: boolean;
  readonly ports?: number;
}

function addDevice(machine: FakeMachine, name: string, { address, virtual = false, ports = 1 }: Options = {}): string {
  const behind = `devices/pci0000:00/${address}`;
  const directory = address === undefined ? `devices/virtual/infiniband/${name}` : `${behind}/infiniband/${name}`;
  for (let port = 1; port <= ports; port++) {
    const at = `${directory}/ports/${port}`;
    machine.set(`${at}/state`, '4: ACTIVE');
    machine.set(`${at}/phys_state`, '5: LinkUp');
    machine.set(`${at}/rate`, '200 Gb/sec (4X HDR)');
    for (const counter of ['symbol_error', 'link_downed', 'port_rcv_data', 'port_xmit_data', 'port_xmit_discards'])
      machine.set(`${at}/counters/${counter}`, 7);
    machine.set(`${at}/hw_counters/out_of_sequence`, 9);
  }
  if (address !== undefined) {
    machine.set(`${behind}/uevent`, '');
    machine.link(`${directory}/device`, behind);
    if (virtual) machine.link(`${behind}/physfn`, 'devices/pci0000:00');
  }
  machine.link(`class/infiniband/${name}`, directory);
  return directory;
}

t.test('names a port by its place, and reads what is there of it', async (t) => {
  const machine = fakeMachine(t);
  addDevice(machine, 'mlx5_0', { address: '0000:3b:00.0' });
  const found = await discover(machine, [infiniband]);
  t.same(
    ids(found).map((id) => id.replace('infiniband/0000-3b-00-0-port1/', '')),
    [
      'state',
      'phys_state',
      'rate',
      'received',
      'sent',
      'symbol_errors',
      'link_downed',
      'send_discards',
      'out_of_sequence',
    ],
  );
  t.match(channelOf(found, 'infiniband/0000-3b-00-0-port1/received'), {
    label: 'mlx5_0 port 1 received',
    quantity: 'rateBytesPerSecond',
    class: 'network',
    probe: { kind: 'integer', multiplier: 4, perSecond: true },
  });
});

t.test('is read by the native sampler in the kernel’s own words', async (t) => {
  const machine = fakeMachine(t);
  const directory = addDevice(machine, 'mlx5_0', { address: '0000:3b:00.0' });
  const { channels } = await discover(machine, [infiniband]);
  const fast = channels.map((channel) => ({ ...channel, rateHz: 100 }));
  const sampler = loadAddon().createSampler(fast, [], { readDeadlineMs: 1_000, onCrossing: () => undefined });
  t.teardown(() => sampler.stop());
  sampler.start();
  const latest = (name: string) => {
    sampler.refresh();
    return sampler.latest(fast.findIndex((channel) => channel.name === name));
  };
  await until(() => latest('symbol_errors').quality === 'ok');
  t.match(latest('state'), { quality: 'ok', value: 4 });
  t.match(latest('phys_state'), { quality: 'ok', value: 5 });
  t.match(latest('rate'), { quality: 'ok', value: 25_000_000_000 });
  machine.set(`${directory}/ports/1/state`, '1: DOWN');
  await until(() => latest('state').value === 1);
  machine.set(`${directory}/ports/1/state`, '9: FLYING');
  await until(() => latest('state').quality === 'fault');
});

t.test('has a channel set per port, leaves virtual functions out, and takes soft RoCE by its name', async (t) => {
  const machine = fakeMachine(t);
  addDevice(machine, 'mlx5_0', { address: '0000:3b:00.0', ports: 2 });
  addDevice(machine, 'mlx5_1', { address: '0000:3b:00.2', virtual: true });
  addDevice(machine, 'rxe0');
  const { channels } = await discover(machine, [infiniband]);
  t.same(
    [...new Set(channels.map(({ device }) => device))],
    ['0000-3b-00-0-port1', '0000-3b-00-0-port2', 'rxe0-port1'],
  );
});

t.test('is silent where there is none, and bounds the ports aloud', async (t) => {
  const machine = fakeMachine(t);
  const none = await discover(machine, [infiniband]);
  t.same([none.channels, none.skipped], [[], []]);
  addDevice(machine, 'mlx5_0', { address: '0000:3b:00.0', ports: 40 });
  const found = await discover(machine, [infiniband]);
  t.equal(new Set(found.channels.map(({ device }) => device)).size, 32);
  t.match(found.skipped, [{ what: '8 InfiniBand ports' }]);
});
