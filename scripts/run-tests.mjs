/**
 * Runs test files of build/ts/test, each in a Node.js of its own, one more at once than there are processors, and writes one TAP
 * stream: for each file its own TAP, indented, and a line "ok" or "not ok"; last "# { total: N, pass: N, fail: N }".
 *
 *   node scripts/run-tests.mjs [FILE…]
 *
 * tap's own command loads a mocking and a coverage hook into each file and into each program that a test starts, which costs
 * a third of a second of processor time each; here nothing is loaded. A file counts as failed when it says so, when its exit
 * status is not 0, when a signal ended it, or when it ended without its last summary, whatever it had said before.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
/** What one file may take: tap inside it then names what it was at, and has so long to do it. */
const FILE_TIMEOUT_S = 120;
const LAST_WORDS_MS = 10_000;
/** A file waits for a third of its time and more: for a deadline to pass, for a cap to be taken back. */
const AT_ONCE = availableParallelism() + 1;
/** The longest go first, so that none is left alone at the end. */
const LONGEST_FIRST = [
  /store\/injection/,
  /e2e\/walk/,
  /mesh\/net/,
  /e2e\//,
  /scripts\/demo/,
  /actuators\//,
  /addon/,
  /mesh\/|store\//,
];

function testFiles() {
  const directory = join(root, 'build/ts/test');
  return readdirSync(directory, { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => relative(root, join(directory, name)))
    .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

function rank(file) {
  const found = LONGEST_FIRST.findIndex((pattern) => pattern.test(file));
  return found < 0 ? LONGEST_FIRST.length : found;
}

const running = new Set();

/** The whole group: what a file started and left behind must not outlive it. */
function killGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It is gone.
  }
}

function run(file) {
  return new Promise((done) => {
    const startMs = performance.now();
    const child = spawn(process.execPath, ['--enable-source-maps', file], {
      cwd: root,
      env: { ...process.env, TAP: '1', TAP_TIMEOUT: String(FILE_TIMEOUT_S), NODE_OPTIONS: '' },
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    running.add(child);
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
    const timer = setTimeout(() => killGroup(child, 'SIGKILL'), FILE_TIMEOUT_S * 1_000 + LAST_WORDS_MS);
    let ended;
    // A program that a test left behind may hold the pipe for ever: 'close' comes when it is gone.
    child.once('exit', (code, signal) => {
      ended = { code, signal };
      killGroup(child, 'SIGKILL');
    });
    child.once('error', (error) => {
      output += `# ${error.message}\n`;
      ended = { code: null, signal: error.code };
    });
    child.once('close', () => {
      clearTimeout(timer);
      running.delete(child);
      done({ file, output, ...ended, ms: performance.now() - startMs });
    });
  });
}

/** The file's own last word on itself: "# { total: 24, pass: 23, fail: 1 }". */
function summaryOf(output) {
  const line = output
    .trimEnd()
    .split('\n')
    .findLast((text) => text.startsWith('# { '));
  const figure = (name) => Number(new RegExp(` ${name}: (\\d+)`).exec(line ?? '')?.[1] ?? 0);
  return line === undefined ? undefined : { pass: figure('pass'), fail: figure('fail') };
}

const totals = { pass: 0, fail: 0 };
let number = 0;

function tell({ file, output, code, signal, ms }) {
  const summary = summaryOf(output);
  const isWhole = code === 0 && signal === null && summary !== undefined;
  const good = isWhole && summary.fail === 0;
  totals.pass += summary?.pass ?? 0;
  totals.fail += Math.max(summary?.fail ?? 0, good ? 0 : 1);
  const indented = output.replace(/^TAP version 14\n/, '').replace(/^(?=.)/gm, '    ');
  console.log(`# Subtest: ${file}\n${indented.trimEnd()}`);
  if (!good && (summary?.fail ?? 0) === 0) {
    const why = summary === undefined ? ', without a summary' : '';
    console.log(`    not ok - ended with ${signal ?? `exit status ${code}`}${why}\n      ---\n      ...`);
  }
  console.log(`${good ? 'ok' : 'not ok'} ${++number} - ${file} # time=${Math.round(ms)}ms\n`);
}

async function runAll(files) {
  const waiting = [...files];
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) tell(await run(file));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    for (const child of running) killGroup(child, 'SIGKILL');
    process.exit(1);
  });
}

const files = process.argv.length > 2 ? process.argv.slice(2) : testFiles();
console.log(`TAP version 14\n1..${files.length}`);
await runAll(files);
console.log(`# { total: ${totals.pass + totals.fail}, pass: ${totals.pass}, fail: ${totals.fail} }`);
process.exitCode = totals.fail === 0 && files.length > 0 ? 0 : 1;
