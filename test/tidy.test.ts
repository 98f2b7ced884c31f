/**
 * The house rules that a machine can check: layers, forbidden imports, dead files and codes, private paths. See CONTRIBUTING.
 *
 * Sources are read as text, with comments taken out: the compiler has no JavaScript API here, and imports are simple.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ERRORS } from '../src/core/errors.js';

/** Top to bottom: a layer may import those behind it. */
const LAYERS = 'app acts cli api mesh alerts control antibodies actuators sensors store policy config core'.split(' ');
const ENTRIES = ['src/app/agent.ts', 'src/app/net.ts', 'src/cli/main.ts', 'src/app/act.ts'];
const NETWORK_LAYERS = ['api', 'mesh', 'alerts'];
/** Unix sockets and inherited socket pairs need node:net too; these open nothing else. net.ts composes the network program. */
const NETWORK_FILES = [
  'src/core/agent-client.ts',
  'src/control/socket-server.ts',
  'src/control/socket-connection.ts',
  'src/control/socket-file.ts',
  'src/app/parent.ts',
  'src/app/net.ts',
];
const NETWORK_MODULES = /^((node:)?(net|http|https|http2|tls|dgram|dns)(\/.*)?|mqtt.*|aedes.*|ws)$/;
/** The agent's children under `skos run`; and what the CLI asks systemd, lm-sensors and the journal, which are never the agent's. */
const CLI_CHILD_PROCESS_FILES = ['src/cli/act-files.ts', 'src/cli/journal-heads.ts', 'src/cli/sensors-j.ts'];
/** What the units of acts run; the agent, skos-net and the CLI reach none of it. */
const ACT_CHILD_PROCESS_FILES = ['src/acts/command.ts', 'src/acts/run-to-end.ts'];
const CHILD_PROCESS_FILES = [...ACT_CHILD_PROCESS_FILES, 'src/app/children.ts', ...CLI_CHILD_PROCESS_FILES];

const root = checkout();
const sources = filesBelow(join(root, 'src'), /\.ts$/);
const text = (file: string): string => readFileSync(join(root, file), 'utf8');

/** The tests run compiled, somewhere below the checkout. */
function checkout(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!readdirSync(directory).includes('biome.json')) directory = dirname(directory);
  return directory;
}

function filesBelow(directory: string, pattern: RegExp): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

/** Strings stay, because imports are strings; a `//` inside a string must not end the line. */
function withoutComments(source: string): string {
  return source.replaceAll(
    /('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, quoted) => quoted ?? ' ',
  );
}

interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
}

function importsOf(file: string): Import[] {
  const code = withoutComments(text(file));
  const found = code.matchAll(
    /\b(import|export)\s+(type\s+)?(?:[\w*{}\s,$]+?\s+from\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/g,
  );
  return [...found].map(([, , type, from, dynamic]) => ({ from: from ?? dynamic ?? '', typeOnly: type !== undefined }));
}

function layerOf(file: string): string {
  return file.split('/')[1] ?? '';
}

/** The source file that a relative import names. */
function target(file: string, from: string): string {
  return relative(root, resolve(root, dirname(file), from)).replace(/\.js$/, '.ts');
}

t.test('finds the sources', async (t) => {
  t.ok(sources.length > 50);
  t.ok(
    sources.some((file) => importsOf(file).length > 3),
    'and their imports',
  );
});

t.test('every source lies in a layer', async (t) => {
  for (const file of sources) t.ok(LAYERS.includes(layerOf(file)), file);
});

t.test('imports run downward only', async (t) => {
  for (const file of sources) {
    for (const { from } of importsOf(file)) {
      if (!from.startsWith('.')) continue;
      const below = target(file, from);
      t.ok(sources.includes(below), `${file} imports ${from}, a source file`);
      t.ok(LAYERS.indexOf(layerOf(below)) >= LAYERS.indexOf(layerOf(file)), `${file} → ${below}`);
    }
  }
});

t.test('every source file is reached from a program', async (t) => {
  const reached = new Set<string>();
  const visit = (file: string): void => {
    if (reached.has(file) || !sources.includes(file)) return;
    reached.add(file);
    for (const { from } of importsOf(file)) if (from.startsWith('.')) visit(target(file, from));
  };
  ENTRIES.forEach(visit);
  for (const entry of ENTRIES) t.ok(reached.has(entry), `${entry} is there`);
  t.same(
    sources.filter((file) => !reached.has(file)),
    [],
  );
});

t.test(
  'only app/children.ts starts processes, the CLI systemctl, lm-sensors and journalctl, and the acts what they need',
  async (t) => {
    const found = sources.filter((file) => importsOf(file).some(({ from }) => /^(node:)?child_process$/.test(from)));
    t.same(found, CHILD_PROCESS_FILES);
    const reached = filesReached('src/app/agent.ts');
    for (const file of [...CLI_CHILD_PROCESS_FILES, ...ACT_CHILD_PROCESS_FILES])
      t.notOk(reached.includes(file), `the agent does not reach ${file}`);
    for (const entry of ['src/app/net.ts', 'src/cli/main.ts'])
      for (const file of ACT_CHILD_PROCESS_FILES) t.notOk(filesReached(entry).includes(file), `${entry}: ${file}`);
  },
);

t.test('only skos-net, and the Unix socket, import network modules', async (t) => {
  for (const file of sources) {
    if (NETWORK_LAYERS.includes(layerOf(file)) || NETWORK_FILES.includes(file)) continue;
    const network = importsOf(file).filter(({ from, typeOnly }) => !typeOnly && NETWORK_MODULES.test(from));
    t.same(network, [], file);
  }
});

t.test('the agent reaches no network file, and skos-net no database, sysfs or actuator', async (t) => {
  t.same(
    layersReached('src/app/agent.ts').filter((layer) => NETWORK_LAYERS.includes(layer)),
    [],
  );
  const forbidden = ['store', 'sensors', 'actuators', 'antibodies', 'control'];
  const native = ['src/sensors/addon.ts'];
  t.same(
    filesReached('src/app/net.ts').filter((file) => forbidden.includes(layerOf(file)) && !native.includes(file)),
    [],
  );
});

/** By imports that stay at run time. */
function filesReached(entry: string): string[] {
  const reached = new Set<string>();
  const visit = (file: string): void => {
    if (reached.has(file) || !sources.includes(file)) return;
    reached.add(file);
    for (const { from, typeOnly } of importsOf(file)) if (!typeOnly && from.startsWith('.')) visit(target(file, from));
  };
  visit(entry);
  return [...reached];
}

function layersReached(entry: string): string[] {
  return [...new Set(filesReached(entry).map(layerOf))];
}

t.test('every source file begins with a comment', async (t) => {
  for (const file of sources) t.match(text(file), /^(#![^\n]*\n)?(\/\*\*|\/\/)\s/, file);
});

t.test('nothing is exported by default, and nothing is `any`', async (t) => {
  for (const file of [...sources, ...filesBelow(join(root, 'test'), /\.ts$/)]) {
    const code = withoutStrings(withoutComments(text(file)));
    t.notMatch(code, /\bexport\s+default\b/, file);
    t.notMatch(code, /[:<|&,(]\s*any\b(?!\w)|\bas\s+any\b/, file);
    t.notMatch(code, /@ts-(ignore|nocheck|expect-error)/, file);
  }
});

function withoutStrings(code: string): string {
  return code.replaceAll(/'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`/g, "''");
}

t.test('napi.h is included only in native/binding', async (t) => {
  const native = filesBelow(join(root, 'native'), /\.(h|cc|cpp|hpp)$/);
  t.ok(native.length > 0);
  for (const file of native) {
    if (!file.startsWith('native/binding/'))
      t.notMatch(text(file), /#\s*include\s*[<"](napi|node_api|js_native_api|node|v8)[./h]/, file);
  }
});

t.test('every error code of the ledger is used', async (t) => {
  const code = [...sources, ...filesBelow(join(root, 'native'), /\.(h|cc)$/)].filter(
    (file) => file !== 'src/core/errors.ts',
  );
  const used = new Set(code.flatMap((file) => text(file).match(/(?<=['"])SKOS_[A-Z]+_[A-Z_]+(?=['"])/g) ?? []));
  t.same(
    Object.keys(ERRORS).filter((known) => !used.has(known)),
    [],
    'codes that nothing raises',
  );
});

t.test('files that are tracked name no path or host of a private machine', async (t) => {
  const tracked = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' }).split('\0').filter(Boolean);
  t.ok(tracked.length > 0);
  const home = /(^|[\s"'`(=:])\/(home|Users|work|root)\/[\w.-]+/m;
  for (const file of tracked) {
    if (file === 'test/tidy.test.ts' || /\.(png|gz|bin)$/.test(file)) continue;
    const content = readTracked(file);
    t.notMatch(content, home, file);
    if (file === 'package-lock.json') {
      const hosts = new Set([...content.matchAll(/"resolved": "https?:\/\/([^/]+)\//g)].map(([, host]) => host));
      t.same(
        [...hosts].filter((host) => host !== 'registry.npmjs.org'),
        [],
        'the lock file names the public registry only',
      );
    }
  }
});

function readTracked(file: string): string {
  try {
    return text(file);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''; // Deleted, and not committed yet.
    throw error;
  }
}
