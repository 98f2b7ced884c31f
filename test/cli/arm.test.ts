import { chownSync, existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { allowListFile, INSTALLED_FILE } from '../../src/cli/allow-list.js';
import type { Handlers } from '../../src/control/socket-server.js';
import { SkosError } from '../../src/core/errors.js';
import { readAllowList } from '../fixtures/allow-list.js';
import { action, type Node, node, withCpufreq } from '../fixtures/cli.js';

interface Seen {
  reloads: number;
  /** What the files held when the agent was asked to reload. */
  armed: string[];
}

const PREVIEW = {
  node: 'nova',
  actions: [action({ reason: 'it is hot' })],
  targets: [{ target: 'cpufreq/policy0', former: '', current: '2400000', state: 'idle' }],
};

async function machine(
  t: Parameters<typeof node>[0],
  given: Partial<Handlers> = {},
): Promise<{ each: Node; seen: Seen }> {
  const seen: Seen = { reloads: 0, armed: [] };
  const each = await node(t, {
    preview: () => PREVIEW,
    reload: () => {
      seen.reloads += 1;
      seen.armed.push(read(each, 'etc/conf.d/90-armed.yaml') ?? '');
      return { mode: 'auto', changed: ['mode'] };
    },
    ...given,
  });
  withCpufreq(each);
  return { each, seen };
}

function read(each: Node, path: string): string | undefined {
  const file = join(each.directory, path);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

t.test('arms: shows, asks, writes, compiles, reloads', async (t) => {
  const { each, seen } = await machine(t);
  const questions: string[] = [];
  const ask = async (question: string) => {
    questions.push(question);
    return ' nova \n';
  };
  const { code, out } = await each.skos(['arm'], { ask });
  t.equal(code, 0, out);
  t.match(
    out.replaceAll(/\s+/g, ' '),
    /throttle_50 on cpufreq\/policy0, cpufreq\/policy1 \(rule thermal-cpu, critical\): it is hot/,
  );
  t.match(questions, [/nova/]);
  t.match(read(each, 'etc/conf.d/90-armed.yaml'), /^mode: auto$/m);
  const list = readAllowList(read(each, 'run/actuator.allow') ?? '');
  t.same([...list.targets.keys()], ['cpufreq/policy0', 'cpufreq/policy1']);
  t.equal(statSync(join(each.directory, 'run/actuator.allow')).mode & 0o777, 0o644);
  t.match(seen, { reloads: 1, armed: [/mode: auto/] }, 'the files were there before the agent was asked');
});

t.test(
  'is not led away from the installed list by a file that the agent put beside its socket',
  { skip: process.getuid?.() !== 0 && 'only root gives files away' },
  async (t) => {
    const run = t.testdir({ 'actuator.allow': '' });
    const { uid } = statSync(join(run, 'actuator.allow'));
    const of = (euid: number) =>
      allowListFile({ io: { env: {}, euid }, socketPath: async () => join(run, 'agent.sock') }, undefined);
    t.equal(await of(uid), join(run, 'actuator.allow'));
    chownSync(join(run, 'actuator.allow'), uid + 1, -1);
    t.equal(await of(uid), INSTALLED_FILE);
  },
);

t.test('shows what it could move while no actuator knows it yet', async (t) => {
  const { each } = await machine(t, { preview: () => ({ ...PREVIEW, targets: [] }) });
  const { out } = await each.skos(['arm'], { ask: async () => 'no' });
  t.match(out, /What it could move: 2 targets\n {2}cpufreq\/policy0 *\n {2}cpufreq\/policy1/);
});

t.test('arms twice, to the same end', async (t) => {
  const { each, seen } = await machine(t);
  for (let i = 0; i < 2; i++) t.equal((await each.skos(['arm', '--confirm', 'nova'])).code, 0);
  t.equal(seen.reloads, 2);
});

t.test('changes nothing without root, without the name, and with another name', async (t) => {
  const { each, seen } = await machine(t);
  for (const [argv, io, code] of [
    [['arm', '--confirm', 'nova'], { euid: 1000 }, 5],
    [['arm'], {}, 1],
    [['arm', '--confirm', 'lyra'], {}, 1],
    [['arm', '--confirm', ''], {}, 1],
    [['arm'], { ask: async () => 'yes' }, 1],
    [['disarm'], { euid: 1000 }, 5],
  ] as const) {
    t.equal((await each.skos(argv, io)).code, code, argv.join(' '));
  }
  t.equal(read(each, 'etc/conf.d/90-armed.yaml'), undefined);
  t.equal(read(each, 'run/actuator.allow'), undefined);
  t.equal(seen.reloads, 0);
});

t.test('puts the files back as they were when the agent refuses, and says so', async (t) => {
  const { each } = await machine(t, {
    reload: () => {
      throw new SkosError('SKOS_ACTUATOR_ALLOW', 'the actuator refuses the list');
    },
  });
  each.write('run/actuator.allow', 'former\n');
  const { code, err } = await each.skos(['arm', '--confirm', 'nova']);
  t.equal(code, 1);
  t.match(err, /SKOS_ACTUATOR_ALLOW(.|\n)*put back as they were/);
  t.equal(read(each, 'etc/conf.d/90-armed.yaml'), undefined);
  t.equal(read(each, 'run/actuator.allow'), 'former\n');
});

t.test('has the agent read the former files again when it refused, so that it runs what is written', async (t) => {
  const { each, seen } = await machine(t, {
    reload: () => {
      seen.armed.push(read(each, 'etc/conf.d/90-armed.yaml') ?? '');
      throw new SkosError('SKOS_ACTUATOR_ABSENT', 'half way');
    },
  });
  await each.skos(['arm', '--confirm', 'nova']);
  t.match(seen.armed, [/mode: auto/, /^$/]);
});

t.test('stays disarmed in its files when the agent does not take it, and says so', async (t) => {
  const { each } = await machine(t, {
    reload: () => {
      throw new SkosError('SKOS_ACTUATOR_ALLOW', 'no');
    },
  });
  each.write('etc/conf.d/90-armed.yaml', 'mode: auto\n');
  const { code, err } = await each.skos(['disarm']);
  t.equal(code, 1);
  t.match(err, /The files are disarmed, but the running agent did not take them/);
  t.equal(read(each, 'etc/conf.d/90-armed.yaml'), undefined);
});

t.test('needs an agent', async (t) => {
  const each = await node(t);
  t.equal((await each.skos(['arm', '--confirm', 'nova'])).code, 3);
  t.equal(read(each, 'etc/conf.d/90-armed.yaml'), undefined);
});

t.test('refuses when a later file would keep the node from acting, and names it', async (t) => {
  const { each, seen } = await machine(t);
  each.write('etc/conf.d/95-site.yaml', 'mode: observe\n');
  const { code, err } = await each.skos(['arm', '--confirm', 'nova']);
  t.equal(code, 4);
  t.match(err, /95-site\.yaml:1: mode is observe/);
  t.equal(read(each, 'etc/conf.d/90-armed.yaml'), undefined);
  t.equal(seen.reloads, 0);
});

t.test('refuses with a broken configuration', async (t) => {
  const { each } = await machine(t);
  each.write('etc/skos.yaml', 'moed: auto\n');
  t.equal((await each.skos(['arm', '--confirm', 'nova'])).code, 4);
});

t.test('disarms: removes the file, compiles without orders, reloads', async (t) => {
  const { each, seen } = await machine(t);
  await each.skos(['arm', '--confirm', 'nova']);
  const { code } = await each.skos(['disarm']);
  t.equal(code, 0);
  t.equal(read(each, 'etc/conf.d/90-armed.yaml'), undefined);
  t.match(read(each, 'run/actuator.allow'), /mode observe/);
  t.same(seen.armed.at(-1), '');
});

t.test('disarms without an agent, and when not armed', async (t) => {
  const each = await node(t);
  each.write('etc/conf.d/90-armed.yaml', 'mode: auto\n');
  for (let i = 0; i < 2; i++) {
    const { code, out } = await each.skos(['disarm']);
    t.equal(code, 0);
    t.match(out, 'No agent runs');
  }
  t.equal(read(each, 'etc/conf.d/90-armed.yaml'), undefined);
});

t.test('refuses to disarm when the configuration itself says auto, and names the line', async (t) => {
  const { each } = await machine(t);
  each.write('etc/skos.yaml', 'node: nova\nmode: auto\n');
  each.write('etc/conf.d/90-armed.yaml', 'mode: auto\n');
  const { code, err } = await each.skos(['disarm']);
  t.equal(code, 4);
  t.match(err, /skos\.yaml:2: mode is auto/);
  t.ok(read(each, 'etc/conf.d/90-armed.yaml'), 'as it was');
});
