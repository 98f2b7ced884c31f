/**
 * A node whose disk fails for a while, for real: full to the last byte, read-only, broken. The node protects as before, says what
 * is at risk, invents nothing, and recovers by itself.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { DiskFault, ERRNO, FAULTY, noDiskFault } from '../fixtures/disk-fault.js';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ } from '../fixtures/node.js';

t.jobs = 3;

const SIZE_MIB = 12;
const TIMEOUT_MS = 120_000;
/** Of each: more of them in a minute would be a sensor that flaps. */
const CROSSINGS = 2;
/** A crossing is noticed at 10 Hz; on a test machine that does other things as well, so much more is no difference. */
const TOLERANCE_MS = 250;

/** Heats the node until it is capped, and lets it cool until all is given back: the times from the crossing to the cap. */
async function crossings(node: HeatedNode): Promise<number[]> {
  const tookMs: number[] = [];
  for (let n = 0; n < CROSSINGS; n++) {
    const startMs = performance.now();
    node.celsius(CELSIUS.critical);
    while (!node.isCappedAt(KHZ.throttle50)) {
      if (performance.now() - startMs > 20_000) throw new Error(`no cap\n${node.logText().slice(-4_000)}`);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    tookMs.push(Math.round(performance.now() - startMs));
    node.celsius(CELSIUS.cool);
    await node.untilCappedAt(FORMER_KHZ);
  }
  return tookMs.sort((a, b) => a - b);
}

const storeAlerts = async (node: HeatedNode) => (await node.alerts()).filter(({ rule }) => rule === 'store');

/** The disk fails from `begin` to `end`; in between the node does what it did before. */
async function outlives(
  t: Test,
  node: HeatedNode,
  { what, begin, end, before }: { what: string; begin: () => void; end: () => void; before: readonly number[] },
): Promise<void> {
  begin();
  const during = await crossings(node);
  await node.until(`the alert of a disk that is ${what}`, async () => (await storeAlerts(node)).length === 1);
  const [alert] = await storeAlerts(node);
  t.match(alert, { severity: 'critical', type: 'store', channel: 'store/local/writes', message: /takes no writes/ });
  t.match((await node.status()).store, { ok: false });
  t.strictSame(
    (await node.alerts()).filter(({ rule }) => rule !== 'store'),
    [],
    'no other alert stands',
  );
  const medianOf = (times: readonly number[]) => times[Math.floor(times.length / 2)] ?? 0;
  t.comment(`${what}: from crossing to cap ${before.join(', ')} ms before, ${during.join(', ')} ms during`);
  t.ok(
    medianOf(during) <= medianOf(before) + TOLERANCE_MS,
    `${medianOf(before)} ms before, ${medianOf(during)} during`,
  );
  t.ok(node.log().some(({ event, level }) => event === 'store.failed' && level === 'error'));
  end();
  await node.until('the store recovers by itself', async () => (await node.status()).store.ok, 30_000);
  await node.until('its alert is over', async () => (await storeAlerts(node)).length === 0);
  t.ok(node.log().some(({ event }) => event === 'store.recovered'));
  await node.until('the record is whole', async () => {
    const entries = await node.audit();
    return entries.filter(({ kind }) => kind === 'action.active').length >= 2 * CROSSINGS;
  });
  const verdict = await node.cli('audit', 'verify');
  t.equal(verdict.code, 0, `${verdict.out}${verdict.err}`);
}

// ---- A full disk -------------------------------------------------------------------------------------------------------

function mount(path: string): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE_MIB}m`, 'skos-test', path]).status === 0;
}

function whyNoTmpfs(): string | false {
  const path = mkdtempSync(join(tmpdir(), 'skos-e-'));
  const mounted = mount(path);
  if (mounted) spawnSync('umount', ['-l', path]);
  rmSync(path, { recursive: true, force: true });
  return mounted ? false : 'mounting a tmpfs needs root and CAP_SYS_ADMIN';
}

function fill(path: string): void {
  for (const size of [65_536, 4_096, 1]) {
    try {
      for (;;) writeFileSync(path, Buffer.alloc(size, 1), { flag: 'a' });
    } catch {
      // ENOSPC is what is wanted.
    }
  }
}

t.test('a disk that is full to the last byte', { skip: whyNoTmpfs(), timeout: TIMEOUT_MS }, async (t) => {
  const node = await heatedNode(t, { prepared: true });
  mkdirSync(node.dataDirectory, { recursive: true });
  if (!mount(node.dataDirectory)) throw new Error('the tmpfs could not be mounted');
  try {
    await node.start();
    const before = await crossings(node);
    const filler = join(node.dataDirectory, 'filler');
    await outlives(t, node, { what: 'full', begin: () => fill(filler), end: () => rmSync(filler), before });
    t.equal(await node.stop(), 0);
  } finally {
    node.signal('SIGKILL');
    await node.exited;
    spawnSync('umount', ['-l', node.dataDirectory]);
  }
});

// ---- A broken one ------------------------------------------------------------------------------------------------------

for (const [what, errno] of [
  ['read-only', ERRNO.EROFS],
  ['broken', ERRNO.EIO],
] as const) {
  t.test(`a disk that is ${what}`, { skip: noDiskFault, timeout: TIMEOUT_MS }, async (t) => {
    const place = realpathSync(mkdtempSync(join(tmpdir(), 'skos-d-')));
    let disk: DiskFault | undefined;
    t.teardown(() => {
      disk?.remove();
      rmSync(place, { recursive: true, force: true });
    });
    const node = await heatedNode(t, { prepared: true, env: () => disk?.env ?? {} });
    mkdirSync(node.dataDirectory, { recursive: true });
    const failing = new DiskFault({ root: realpathSync(node.dataDirectory), place, forgets: false });
    disk = failing;
    await node.start();
    const before = await crossings(node);
    const begin = () => failing.set({ what: FAULTY.all, errno, count: -1 });
    await outlives(t, node, { what, begin, end: () => failing.set({ what: 0 }), before });
    t.equal(await node.stop(), 0);
  });
}
