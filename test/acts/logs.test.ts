/** cleanup_logs: the real logrotate on real files, and what journald would vacuum. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { archivedFiles, journalDirectory, vacuumable } from '../../src/acts/journal-vacuum.js';
import { LOGROTATE } from '../../src/acts/logrotate.js';
import { placeOf, planOf, runAct, scratch, UNTIL_OLD_MS } from '../fixtures/acts.js';

const skip = spawnSync(LOGROTATE, ['--version']).status === 0 ? false : 'logrotate is not here';
const programs = { tmpfiles: '/bin/false', journalctl: '/bin/false', logrotate: LOGROTATE };

t.test('rotates what is listed once a day, and says before what', { skip }, async (t) => {
  const base = scratch(t);
  const logs = join(base, 'logs');
  mkdirSync(logs);
  for (const [name, text] of [
    ['a.log', 'now'],
    ['a.log.1', 'former'],
    ['a.log.2', 'oldest'],
    ['b.txt', 'other'],
  ] as const)
    writeFileSync(join(logs, name), text);
  const config = join(base, 'config');
  writeFileSync(config, `${logs}/*.log {\n  rotate 2\n  nocompress\n  nodateext\n}\n`, { mode: 0o644 });
  const plan = planOf('cleanup_logs', [], { logrotate: [{ config, path: logs }] });
  const run = (isListing: boolean, dayMs = 0) =>
    runAct({ plan, reports: base, isListing, given: { programs, wallMs: () => Date.now() + dayMs } }).report;
  const listing = run(true);
  t.same(readdirSync(logs).sort(), ['a.log', 'a.log.1', 'a.log.2', 'b.txt'], 'a listing changes nothing');
  t.match(listing, { ok: true, items: [`${logs}/a.log (rotated)`] });
  t.match(run(false), { ok: true, total: 1 });
  t.same(readdirSync(logs).sort(), ['a.log.1', 'a.log.2', 'b.txt']);
  t.equal(readFileSync(join(logs, 'a.log.2'), 'utf8'), 'former');
  writeFileSync(join(logs, 'a.log'), 'again');
  t.match(run(false), { ok: false, summary: /rotated within the last day/ });
  t.equal(readFileSync(join(logs, 'a.log.2'), 'utf8'), 'former', 'not pushed out by one run after another');
  writeFileSync(config, 'nonsense {', { mode: 0o644 });
  t.match(run(false, 25 * 3_600_000), { ok: false, summary: /left alone: 1 of 1, logrotate of / });
});

t.test('old log files of a place go one by one, and their directories stay', async (t) => {
  const base = scratch(t);
  mkdirSync(join(base, 'logs/service'), { recursive: true });
  for (const name of ['logs/service/a.log', 'logs/b.log', 'logs/keep']) writeFileSync(join(base, name), '');
  await new Promise((resolve) => setTimeout(resolve, UNTIL_OLD_MS));
  const plan = planOf('cleanup_logs', [placeOf(join(base, 'logs'), { exclude: ['keep'] })]);
  t.match(runAct({ plan, reports: base }).report, { ok: true, total: 2 });
  t.same(readdirSync(join(base, 'logs')).sort(), ['keep', 'service']);
});

t.test('of the journal the oldest archived files go, by age and by size, and none that is written to', async (t) => {
  const root = scratch(t);
  const machine = '0123456789abcdef0123456789abcdef';
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/machine-id'), `${machine}\n`);
  t.equal(journalDirectory(root), undefined, 'none is kept on disk');
  const directory = join(root, 'var/log/journal', machine);
  mkdirSync(directory, { recursive: true });
  t.equal(journalDirectory(root), directory);
  const dayMs = 86_400_000;
  const nowMs = Date.now();
  const hex = (ms: number) =>
    Math.round(ms * 1000)
      .toString(16)
      .padStart(16, '0');
  const days = [1, 5, 20];
  for (const day of days)
    writeFileSync(
      join(directory, `system@${machine}-${hex(day)}-${hex(nowMs - day * dayMs)}.journal`),
      Buffer.alloc(8192),
    );
  writeFileSync(join(directory, `user-1000@${hex(nowMs - 9 * dayMs)}-${hex(7)}.journal~`), Buffer.alloc(8192));
  for (const name of ['system.journal', 'user-1000.journal', 'notes@x.journal']) {
    writeFileSync(join(directory, name), Buffer.alloc(8192));
    utimesSync(join(directory, name), 1, 1);
  }
  const files = archivedFiles(directory);
  const ages = (found: typeof files) => found.map(({ atMs }) => Math.round((nowMs - atMs) / dayMs));
  t.same(ages(files), [20, 9, 5, 1]);
  const gone = (sizeBytes: number | null, age: number | null) =>
    ages(vacuumable(files, { sizeBytes, ageSeconds: age === null ? null : age * 86_400 }, nowMs));
  t.same(gone(null, 7), [20, 9]);
  t.same(gone(8192, null), [20, 9, 5]);
  t.same(gone(3 * 8192, 6), [20, 9]);
  t.same(gone(1e9, 90), []);
});
