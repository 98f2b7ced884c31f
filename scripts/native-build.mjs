/**
 * Builds the native programs by cmake-js into build/native: skos.node, skos-actuator, skos-gpu and skos-units.
 *
 *   node scripts/native-build.mjs [--if-missing] [--debug] [--target NAME] [--doubles]
 *
 * --if-missing does nothing when the outputs exist and are newer than every native source: it is npm's install script.
 * --doubles builds the test doubles of vendors' libraries too, into build/native/double*: tests need them, nothing else does.
 * Nothing is downloaded: Node's headers come from the installation that runs this, else from node-api-headers.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const nativeDirectory = join(root, 'native');
const outputDirectory = join(root, 'build', 'native');
const { values: options } = parseArgs({
  options: {
    'if-missing': { type: 'boolean', default: false },
    debug: { type: 'boolean', default: false },
    target: { type: 'string' },
    doubles: { type: 'boolean', default: false },
  },
});

function outputs() {
  const names = ['skos.node'];
  for (const part of ['actuator', 'gpu', 'units'])
    if (existsSync(join(nativeDirectory, part, 'main.cc'))) names.push(`skos-${part}`);
  return names.map((name) => join(outputDirectory, name));
}

function newestSourceMs() {
  const times = readdirSync(nativeDirectory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(cc|h|c|txt)$/.test(entry.name))
    .map((entry) => statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
  return Math.max(...times);
}

function upToDate() {
  const newest = newestSourceMs();
  return outputs().every((file) => existsSync(file) && statSync(file).mtimeMs >= newest);
}

/** A CMake cache that was made elsewhere (a copied or moved checkout) makes every later build fail. */
function dropForeignCache() {
  const cache = join(outputDirectory, 'CMakeCache.txt');
  if (!existsSync(cache)) return;
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, 'utf8'))?.[1];
  if (home === nativeDirectory) return;
  rmSync(cache);
  rmSync(join(outputDirectory, 'CMakeFiles'), { recursive: true, force: true });
}

function nodeHeaders() {
  const installed = join(dirname(process.execPath), '..', 'include', 'node');
  return existsSync(join(installed, 'node_api.h')) ? installed : undefined;
}

function cmakeJs() {
  const require = createRequire(import.meta.url);
  return join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
}

/** One build at a time: two of them in one directory break each other. util-linux's flock is on every Debian. */
function locked(command) {
  const lock = join(root, 'build', 'native.lock');
  const hasFlock = spawnSync('flock', ['--version'], { stdio: 'ignore' }).status === 0;
  return hasFlock ? ['flock', lock, ...command] : command;
}

function run(command) {
  const [program, ...args] = locked(command);
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit' });
  if (status === 0) return;
  const why = error === undefined ? `exit status ${status}` : error.message;
  console.error(`native-build: ${command.slice(0, 3).join(' ')} … failed: ${why}`);
  console.error(
    'native-build: it needs a C++17 compiler, make or ninja, and cmake 3.18 (Debian: build-essential cmake)',
  );
  process.exit(1);
}

function build() {
  mkdirSync(outputDirectory, { recursive: true });
  dropForeignCache();
  const common = [process.execPath, cmakeJs(), '-l', 'warn', '-d', nativeDirectory, '-O', outputDirectory];
  const headers = nodeHeaders();
  const config = ['-B', options.debug ? 'Debug' : 'Release'];
  // Said in either case: CMake's cache remembers the last answer.
  const defines = [`--CDSKOS_NATIVE_DOUBLES=${options.doubles ? 'ON' : 'OFF'}`];
  if (headers !== undefined) defines.push(`--CDNODE_INCLUDE_DIR=${headers}`);
  run([...common, 'configure', ...config, ...defines]);
  const target = options.target === undefined ? [] : ['-T', options.target];
  run([...common, 'build', ...config, '-p', String(cpus().length), ...target]);
}

/** An output whose own sources did not change keeps its old time; --if-missing compares with the newest source. */
function touchOutputs() {
  const now = new Date();
  for (const file of outputs()) if (existsSync(file)) utimesSync(file, now, now);
}

if (options['if-missing'] && upToDate()) process.exit(0);
build();
if (options.target === undefined) touchOutputs();
