/** The runner: a source that fails or hangs costs its own channels only; ids are unique and the same every time. */
import { existsSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { type Channel, segment } from '../../src/core/channel.js';
import { ERRORS } from '../../src/core/errors.js';
import type { Source } from '../../src/core/ports.js';
import { blockDevices } from '../../src/sensors/block.js';
import { cgroups } from '../../src/sensors/cgroup.js';
import { coolingDevices } from '../../src/sensors/cooling-device.js';
import { cpus } from '../../src/sensors/cpu.js';
import { discoverAll, MAX_CHANNELS } from '../../src/sensors/discover.js';
import { fileSystems, READ_ONLY } from '../../src/sensors/file-system.js';
import { hwmon } from '../../src/sensors/hwmon.js';
import { LmSensorsConf } from '../../src/sensors/lm-sensors.js';
import { makeChannel } from '../../src/sensors/make-channel.js';
import { memory } from '../../src/sensors/memory.js';
import { networkInterfaces } from '../../src/sensors/network.js';
import { pressure } from '../../src/sensors/pressure.js';
import { thermalZones } from '../../src/sensors/thermal-zone.js';
import { rootsFromEnvironment } from '../../src/sensors/tree.js';
import { discover, ids, noSensorsConf, treesOf } from '../fixtures/discovery.js';
import { quickestMs } from '../fixtures/effort.js';
import { fakeMachine } from '../fixtures/fake-sysfs.js';

const ALL = [
  thermalZones,
  hwmon,
  coolingDevices,
  cpus,
  pressure,
  memory,
  fileSystems,
  blockDevices,
  networkInterfaces,
  cgroups,
];

function channel(device: string, name: string): Channel {
  return makeChannel({
    source: 'made',
    device,
    name,
    label: 'x',
    quantity: 'stateCode',
    class: 'other',
    probe: { kind: 'integer', path: '/x' },
    rateHz: 1,
    domain: 'made',
    path: 'x',
  });
}

function source(name: string, discoverChannels: Source['discover']): Source {
  return { name, discover: discoverChannels };
}

t.test('goes on without a source that fails, and says which and why', async (t) => {
  const failing = source('failing', async () => {
    throw new Error('no such thing');
  });
  const throwing = source('throwing', () => {
    throw new Error('at once');
  });
  const found = await discover(fakeMachine(t), [failing, throwing, memory]);
  t.ok(ids(found).includes('memory/ram/total'));
  t.match(found.skipped, [
    { source: 'failing', what: 'source failing', why: 'no such thing' },
    { source: 'throwing', why: 'at once' },
  ]);
});

t.test('goes on without a source that hangs, and takes nothing from it afterwards', async (t) => {
  let late: (() => void) | undefined;
  const hanging = source('hanging', ({ report }) => {
    return new Promise((resolve) => {
      late = () => {
        report.skipped('late', 'too late');
        resolve([channel('late', 'x')]);
      };
    });
  });
  const machine = fakeMachine(t);
  const found = await discoverAll([hanging, memory], {
    trees: treesOf(machine),
    rateHz: 10,
    targets: {},
    workloads: {},
    hasActuator: true,
    sensorsConf: noSensorsConf,
    sourceDeadlineMs: 100,
  });
  late?.();
  await new Promise((resolve) => setImmediate(resolve));
  t.ok(found.channels.every(({ source }) => source === 'memory') && found.channels.length > 0);
  t.match(found.skipped, [{ source: 'hanging', why: /100 ms/ }]);
  t.equal(found.skipped.length, 1);
  t.strictSame(found.unanswered, ['hanging']);
});

t.test('times each source', async (t) => {
  let nowMs = 0;
  const slow = source('slow', async () => {
    nowMs += 7;
    return [channel('a', 'b')];
  });
  const found = await discoverAll([slow], {
    trees: treesOf(fakeMachine(t)),
    rateHz: 10,
    targets: {},
    workloads: {},
    hasActuator: true,
    sensorsConf: noSensorsConf,
    clock: { monotonicMs: () => nowMs, wallMs: () => 0 },
  });
  t.same(found.timings, [{ source: 'slow', durationMs: 7, channels: 1 }]);
});

t.test('keeps the order of the sources, whichever comes first', async (t) => {
  const slow = source('slow', async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    return [channel('slow', 'x')];
  });
  const quick = source('quick', async () => [channel('quick', 'x')]);
  t.same(ids(await discover(fakeMachine(t), [slow, quick])), ['made/slow/x', 'made/quick/x']);
});

t.test('makes ids unique, the same way every time, and leaves unique ones alone', async (t) => {
  const machine = fakeMachine(t);
  const names = fc.array(fc.constantFrom('x', 'x-2', 'X', 'x-2-2', '~', 'y'.repeat(80)), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(names, async (raw) => {
      const made = source('made', async () => raw.map((name) => channel('d', name)));
      const [first, second] = [await discover(machine, [made]), await discover(machine, [made])];
      const isUnique = new Set(ids(first)).size === raw.length;
      const isSame = JSON.stringify(ids(first)) === JSON.stringify(ids(second));
      const fits = first.channels.every(
        ({ id, device, name }) => id === `made/${device}/${name}` && name.length <= 64 && /^[a-z0-9_~-]+$/.test(name),
      );
      const isFirstKept = raw.length === 0 || first.channels[0]?.name === segment(raw[0] ?? '');
      return isUnique && isSame && fits && isFirstKept;
    }),
    { numRuns: 50 },
  );
});

t.test('bounds the channels and the reports', async (t) => {
  const many = source('many', async ({ report }) => {
    for (let i = 0; i < 1000; i++) report.skipped(`thing ${i}`, 'for no reason');
    return Array.from({ length: MAX_CHANNELS + 10 }, (_, i) => channel('d', `n${i}`));
  });
  const found = await discover(fakeMachine(t), [many]);
  t.equal(found.channels.length, MAX_CHANNELS);
  t.equal(found.skipped.length, 256 + 2);
  t.match(found.skipped.at(-2), { what: '744 more' });
  t.match(found.skipped.at(-1), { what: '10 channels' });
});

t.test("reports what is wrong in lm-sensors' configuration, with its code", async (t) => {
  const sensorsConf = new LmSensorsConf([{ name: '/etc/sensors3.conf', text: '\nnonsense' }]);
  const { skipped } = await discover(fakeMachine(t), [], { sensorsConf });
  t.match(skipped, [{ source: 'lm_sensors', what: '/etc/sensors3.conf:2', why: /^SKOS_SENSORS_CONF: / }]);
  t.ok('SKOS_SENSORS_CONF' in ERRORS);
});

t.test('finds an empty machine empty, and an absent one too', async (t) => {
  const absent = { sysfs: '/nonexistent/sys', proc: '/nonexistent/proc', cgroup: '/nonexistent/cgroup' };
  const found = await discover(absent, ALL, { targets: { a: 'a' } });
  t.same(found.channels, []);
  for (const what of ['thermal zones', 'hwmon chips', 'CPU usage', 'memory', 'file systems']) {
    t.ok(
      found.skipped.some((each) => each.what === what && each.why !== ''),
      what,
    );
  }
});

t.test('finds a whole machine in order, quickly, with files that exist', async (t) => {
  const machine = fakeMachine(t);
  machine.addZone({ type: 'x86_pkg_temp', milliCelsius: 40_000, critical: 100_000 });
  for (let i = 0; i < 8; i++) {
    machine.addHwmon({
      name: `chip${i}`,
      device: `devices/platform/chip.${i}`,
      files: Object.fromEntries(
        Array.from({ length: 8 }, (_, n) => [
          [`temp${n + 1}_input`, 1],
          [`temp${n + 1}_crit`, 90_000],
          [`temp${n + 1}_label`, `T${n}`],
        ]).flat(),
      ),
    });
  }
  machine.addCpufreq({ policies: [[0], [1]], maxKHz: 3_000_000, minKHz: 800_000 });
  machine.addCgroup('demo');
  const found = await discover(machine, ALL, { targets: { demo: 'demo' } });
  const tookMs = await quickestMs(400, () => discover(machine, ALL, { targets: { demo: 'demo' } }));
  t.ok(
    tookMs < 400,
    `${Math.round(tookMs)} ms: a small part of the start-up on a free machine; a bound for a busy one`,
  );
  t.equal(found.channels.filter(({ quantity }) => quantity === 'temperatureMilliCelsius').length, 65);
  // What is read of the table of mounts has no file of its own.
  const ofFiles = found.channels.filter(({ name }) => name !== READ_ONLY);
  for (const { probe, id } of ofFiles) t.ok('path' in probe && existsSync(probe.path), id);
});

t.test('discovers this machine, whatever it is', async (t) => {
  const found = await discover(rootsFromEnvironment({}), ALL);
  t.ok(ids(found).includes('cpu/total/usage'));
  t.ok(ids(found).includes('memory/ram/total'));
  t.equal(new Set(ids(found)).size, found.channels.length);
  for (const each of found.channels) {
    t.equal(each.id, `${each.source}/${each.device}/${each.name}`);
    t.ok(each.rateHz >= 0.1 && each.rateHz <= 1000, each.id);
    t.ok(each.domain !== '' && each.label !== '', each.id);
    t.notOk(each.path.startsWith('/'), 'relative to its root');
  }
  t.notOk(
    found.skipped.some(({ what }) => what.startsWith('source ')),
    'no source failed',
  );
});
