import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { requireOrders } from '../../src/cli/allow-list.js';
import { readAllowList } from '../fixtures/allow-list.js';
import { node, withCpufreq } from '../fixtures/cli.js';

t.test('check says what was read and what is in force', async (t) => {
  const each = await node(t);
  each.write('etc/conf.d/10-a.yaml', 'mode: propose\n');
  const { code, out } = await each.skos(['config', 'check']);
  t.equal(code, 0);
  t.match(out, /valid \(2 files\): node nova, mode propose\.\n {2}.*skos\.yaml\n {2}.*10-a\.yaml/);
});

t.test('explain shows the value in force, its default and where it was written, in 80 columns', async (t) => {
  const each = await node(t);
  each.write('etc/skos.yaml', 'thermal:\n  keep: 3\n');
  const { out } = await each.skos(['config', 'explain', 'thermal.keep']);
  t.match(out, /^thermal\.keep = 3\n(.|\n)*skos\.yaml:2; default 10$/);
  const all = await each.skos(['config', 'explain']);
  for (const line of all.out.split('\n')) t.ok(line.length <= 80 || !line.includes(' ', 4), line);
  const json = JSON.parse((await each.skos(['config', 'explain', 'thermal.keep', '--json'])).out);
  t.match(json, [{ key: 'thermal.keep', value: '3', default: '10' }]);
});

t.test('compile prints a diff and writes a list that the actuator takes', async (t) => {
  const each = await node(t);
  withCpufreq(each);
  const file = join(each.directory, 'run/actuator.allow');
  const first = await each.skos(['config', 'compile']);
  t.equal(first.code, 0);
  t.match(first.out, /^\+ target cpufreq\/policy0 cpufreq /m);
  t.equal(statSync(file).mode & 0o777, 0o644);
  t.equal(readAllowList(readFileSync(file, 'utf8')).targets.size, 2);
  t.match((await each.skos(['config', 'compile'])).out, 'up to date');
  each.write('etc/skos.yaml', 'node: nova\ntargets: { demo: { cgroup: a } }\n');
  const changed = await each.skos(['config', 'compile']);
  t.match(changed.out, /^\+ # left out: quota\/demo/m, 'this machine has no cgroup controllers');
  t.match(changed.out, /^ {2}target cpufreq\/policy0 /m);
});

t.test('a list keeps its standing orders when their sensors did not answer', async (t) => {
  const order = (name: string) => `order ${name} sensor=devices/temp raise=95000 clear=90000 samples=2\n`;
  const former = `skos-allow 1\n${order('a')}${order('b')}end 2\n`;
  const unanswered = ['thermal_zone', 'hwmon'];
  const file = '/etc/skos/actuator.allow';
  const text = `skos-allow 1\n${order('a')}end 1\n`;
  t.throws(() => requireOrders({ text, unanswered }, { former, file }), {
    code: 'SKOS_ACTUATOR_SENSORS',
    message: /actuator\.allow stays as it is: without thermal_zone, hwmon, .* lose 1 standing order$/,
  });
  for (const [given, before] of [
    [{ text, unanswered: [] }, former],
    [{ text, unanswered }, undefined],
    [{ text: former, unanswered }, text],
    [{ text, unanswered }, text],
  ] as const)
    t.doesNotThrow(() => requireOrders(given, { former: before, file }));
});

t.test('compile finds version 2, version 1 and hybrid hierarchies', async (t) => {
  for (const [files, paths] of [
    [{ 'cgroup/cgroup.controllers': 'cpuset cpu io\n' }, ['a', 'a']],
    [{ 'cgroup/cpu/cpu.shares': '1024\n', 'cgroup/freezer/cgroup.procs': '' }, ['cpu/a', 'freezer/a']],
    [
      { 'cgroup/cpu,cpuacct/cpu.shares': '1024\n', 'cgroup/unified/cgroup.controllers': '' },
      ['cpu,cpuacct/a', 'unified/a'],
    ],
  ] as const) {
    const each = await node(t);
    for (const [path, text] of Object.entries(files)) each.write(path, text);
    each.write('etc/skos.yaml', 'node: nova\ntargets: { demo: { cgroup: a } }\n');
    const { targets } = readAllowList(`${(await each.skos(['config', 'compile', '-o', '-'])).out}\n`);
    t.same([targets.get('quota/demo')?.path, targets.get('freeze/demo')?.path], paths);
  }
});

t.test('compile names who may control the actuator', async (t) => {
  const each = await node(t);
  const controllers = async (...argv: string[]) => {
    const { out } = await each.skos(['config', 'compile', '-o', '-', ...argv]);
    return readAllowList(`${out}\n`).controllers;
  };
  t.same(await controllers('--controller', '1234'), [1234]);
  t.same(await controllers('--controller', 'root'), [0]);
  t.equal((await each.skos(['config', 'compile', '--controller', 'no-such-user'])).code, 2);
});

t.test('compile writes nothing in a dry run, without root, and with a broken configuration', async (t) => {
  const each = await node(t);
  t.equal((await each.skos(['config', 'compile', '--dry-run'])).code, 0);
  t.equal((await each.skos(['config', 'compile'], { euid: 1000 })).code, 5);
  each.write('etc/skos.yaml', 'moed: auto\n');
  t.equal((await each.skos(['config', 'compile'])).code, 4);
  t.same(readdirSync(join(each.directory, 'run')), []);
});

t.test('compile writes where it is told, also without root, and leaves no temporary file', async (t) => {
  const each = await node(t);
  const file = join(each.directory, 'out/list');
  t.equal((await each.skos(['config', 'compile', '--output', file], { euid: 1000 })).code, 0);
  t.ok(existsSync(file));
  t.same(readdirSync(join(each.directory, 'out')), ['list']);
});

t.test('compile that cannot write fails and leaves what was there', async (t) => {
  const each = await node(t);
  each.write('out/list/kept', '');
  const { code } = await each.skos(['config', 'compile', '--output', join(each.directory, 'out/list')]);
  t.equal(code, 1);
  t.same(readdirSync(join(each.directory, 'out')), ['list']);
});

t.test(
  'compile of an installed node writes the plans of what deletes, shows them first, and takes them away again',
  async (t) => {
    const each = await node(t);
    const env = { ...each.env, SKOS_HOST_ROOT: each.directory };
    const skos = (...argv: string[]) => each.skos(['config', 'compile', ...argv], { env });
    const plan = join(each.directory, 'etc/skos/act/cleanup_temp.json');
    const dropIn = join(each.directory, 'etc/systemd/system/skos-act-cleanup-temp.service.d/50-skos-paths.conf');
    each.write('etc/skos.yaml', 'node: nova\nstorage: { cleanup: { temp: [{ path: /scratch/tmp, age: 7d }] } }\n');
    const shown = await skos('--dry-run');
    t.match(shown.out, /^\+ {3}"name": "cleanup_temp",$/m);
    t.match(shown.out, /^\+ ReadWritePaths="-\/scratch\/tmp"$/m);
    t.notOk(existsSync(plan));
    await skos();
    t.equal(statSync(plan).mode & 0o777, 0o644);
    t.match(readFileSync(dropIn, 'utf8'), /^\[Service\]\nReadWritePaths="-\/scratch\/tmp"\n$/m);
    t.match((await skos()).out, 'up to date');
    each.write('etc/skos.yaml', 'node: nova\n');
    t.match((await skos()).out, /^- ReadWritePaths=.*(.|\n)*^Removed: /m);
    t.notOk(existsSync(plan) || existsSync(dropIn));
  },
);

t.test('an archive that the plan knows is not looked for anew: its disk may not be mounted yet', async (t) => {
  const each = await node(t);
  const env = { ...each.env, SKOS_HOST_ROOT: each.directory };
  const archive = join(each.directory, 'archive');
  const plan = join(each.directory, 'etc/skos/act/archive_old_data.json');
  const compile = (to: string) => {
    each.write(
      'etc/skos.yaml',
      `storage: { cleanup: { archive: [{ path: /data/results, age: 9d }], archive_to: ${to} } }\n`,
    );
    return each.skos(['config', 'compile'], { env });
  };
  t.match((await compile(archive)).err, /archive_to: .* is not there/);
  t.notOk(existsSync(plan), 'where it lies is not known');
  each.write('archive/x', '');
  await compile(archive);
  const text = readFileSync(plan, 'utf8');
  writeFileSync(plan, text.replace(/"inside": ".*"/, '"inside": "/of/another/disk"'));
  await compile(archive);
  t.match(JSON.parse(readFileSync(plan, 'utf8')), { archiveTo: { path: archive, inside: '/of/another/disk' } });
  each.write('archive-2/x', '');
  await compile(`${archive}-2`);
  t.match(JSON.parse(readFileSync(plan, 'utf8')), { archiveTo: { path: `${archive}-2`, inside: /archive-2$/ } });
});
