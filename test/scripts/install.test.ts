/**
 * scripts/install into a staging directory: what is there afterwards, with which modes, and that the units find in it what
 * they start. From a made checkout, so that nothing has to be built, and nothing of this machine is touched.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';

const root = checkout();
const UNITS = readdirSync(join(root, 'systemd')).filter((name) => /\.(service|slice|path|socket|timer)$/.test(name));
const BUILT = [
  'dist/agent.js',
  'dist/net.js',
  'dist/cli.js',
  'dist/act.js',
  'dist/chunk-OLD.js',
  'build/native/skos.node',
];

function checkout(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!readdirSync(directory).includes('biome.json')) directory = dirname(directory);
  return directory;
}

/** A built checkout with modes as careless as a umask of 077 makes them, and a stage beside it. */
function made(t: Test) {
  const directory = t.testdir({});
  const source = join(directory, 'checkout');
  const scripts = ['install', 'skos', 'wireguard-dump', 'new-antibody', 'antibody-template.py'];
  for (const part of [
    ...scripts.map((name) => `scripts/${name}`),
    'src/antibodies/EXTERNAL.md',
    'systemd',
    'LICENSE',
  ]) {
    cpSync(join(root, part), join(source, part), { recursive: true });
  }
  const programs = ['build/native/skos-actuator', 'build/native/skos-gpu', 'build/native/skos-units'];
  for (const file of [...BUILT, ...programs, 'dist/classic-level/prebuilds/linux-x64/x.node']) {
    mkdirSync(dirname(join(source, file)), { recursive: true, mode: 0o700 });
    writeFileSync(join(source, file), `// ${file}\n`, { mode: 0o600 });
  }
  for (const program of programs) chmodSync(join(source, program), 0o700);
  writeFileSync(join(source, 'scripts/setup'), '#!/bin/sh\necho setup was called\nexit 9\n', { mode: 0o755 });
  return { source, stage: join(directory, 'stage dir') };
}

function install({ source, stage }: { source: string; stage: string }, ...args: string[]) {
  const env = { ...process.env, DESTDIR: stage };
  return spawnSync(join(source, 'scripts/install'), args, { encoding: 'utf8', env });
}

/** Path to mode, of everything below a directory that is no directory. */
function files(directory: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) continue;
    const mode = entry.isSymbolicLink() ? `-> ${readlinkSync(path)}` : (lstatSync(path).mode & 0o7777).toString(8);
    found[relative(directory, path)] = mode;
  }
  return found;
}

t.test('stages every file with the mode that it needs, and nothing else', async (t) => {
  const each = made(t);
  const { status, stderr } = install(each);
  t.equal(stderr, '');
  t.equal(status, 0);
  t.strictSame(files(each.stage), {
    ...Object.fromEntries(BUILT.map((file) => [`usr/lib/skos/${file.replace('build/native/', '')}`, '644'])),
    'usr/lib/skos/dist/classic-level/prebuilds/linux-x64/x.node': '644',
    'usr/lib/skos/skos-actuator': '755',
    'usr/lib/skos/skos-gpu': '755',
    'usr/lib/skos/skos-units': '755',
    'usr/lib/skos/skos': '755',
    'usr/lib/skos/skos-wireguard-dump': '755',
    'usr/lib/skos/new-antibody': '755',
    'usr/lib/skos/antibody-template.py': '755',
    'usr/lib/skos/EXTERNAL.md': '644',
    'usr/lib/skos/LICENSE': '644',
    'usr/bin/skos': '-> ../lib/skos/skos',
    ...Object.fromEntries(UNITS.map((unit) => [`usr/lib/systemd/system/${unit}`, '644'])),
    'usr/lib/systemd/catalog/skos.catalog': '644',
    'usr/lib/sysusers.d/skos.conf': '644',
    'usr/lib/tmpfiles.d/skos.conf': '644',
    'etc/skos/skos.yaml': '644',
  });
  t.equal(statSync(join(each.stage, 'usr/lib/skos/dist')).mode & 0o777, 0o755);
});

t.test('what the units start and map is in the stage', async (t) => {
  const each = made(t);
  install(each);
  for (const unit of UNITS) {
    const text = readFileSync(join(each.stage, 'usr/lib/systemd/system', unit), 'utf8');
    for (const [path] of text.matchAll(/\/usr\/lib\/skos\/[\w./-]+/g)) t.ok(existsSync(join(each.stage, path)), path);
  }
});

t.test('a second run is an upgrade: old files go, the configuration stays', async (t) => {
  const each = made(t);
  install(each);
  writeFileSync(join(each.stage, 'etc/skos/skos.yaml'), 'node: nova\n');
  cpSync(join(each.source, 'dist/chunk-OLD.js'), join(each.source, 'dist/chunk-NEW.js'));
  spawnSync('rm', [join(each.source, 'dist/chunk-OLD.js')]);
  t.equal(install(each).status, 0);
  const after = files(each.stage);
  t.notOk(after['usr/lib/skos/dist/chunk-OLD.js']);
  t.ok(after['usr/lib/skos/dist/chunk-NEW.js']);
  t.equal(readFileSync(join(each.stage, 'etc/skos/skos.yaml'), 'utf8'), 'node: nova\n');
  t.strictSame(
    Object.keys(after).filter((path) => /\.(new|old)(\/|$)/.test(path)),
    [],
    'nothing half done',
  );
});

t.test('the configuration that it makes is one that the agent takes', async (t) => {
  const each = made(t);
  install(each);
  const main = join(root, 'build/ts/src/cli/main.js');
  const file = join(each.stage, 'etc/skos/skos.yaml');
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'config', 'check', '--config', file], {
    encoding: 'utf8',
  });
  t.equal(status, 0, stderr);
  t.match(stdout, 'is valid');
});

t.test('--uninstall takes the files away and keeps the configuration; --purge takes that, too', async (t) => {
  const each = made(t);
  install(each);
  t.equal(install(each, '--uninstall').status, 0);
  t.strictSame(Object.keys(files(each.stage)), ['etc/skos/skos.yaml']);
  t.equal(install(each, '--uninstall', '--purge').status, 0);
  t.strictSame(files(each.stage), {});
  t.equal(install(each, '--uninstall').status, 0, 'again does no harm');
});

t.test('says that what is kept is armed', async (t) => {
  const each = made(t);
  install(each);
  writeFileSync(join(each.stage, 'etc/skos/conf.d/90-armed.yaml'), 'mode: auto\n');
  t.match(install(each, '--uninstall').stdout, /armed/);
});

t.test('builds only where something is missing', async (t) => {
  const each = made(t);
  t.notMatch(install(each).stdout, /setup was called/);
  spawnSync('rm', [join(each.source, 'build/native/skos.node')]);
  const { status, stdout } = install(each);
  t.match(stdout, /skos\.node is missing: building\nsetup was called/);
  t.not(status, 0);
});

t.test('refuses what it does not know, and changes nothing', async (t) => {
  const each = made(t);
  for (const args of [['--unistall'], ['--purge'], ['extra']]) {
    const { status, stderr } = install(each, ...args);
    t.equal(status, 1);
    t.match(stderr, /^scripts\/install: /);
  }
  t.notOk(existsSync(each.stage));
});
