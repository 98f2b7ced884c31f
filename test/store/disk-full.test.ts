/** A disk that is full to the last byte, for real: a small tmpfs. Needs root; skipped with a message otherwise. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { FlightRecorder } from '../../src/control/flight-recorder.js';
import { systemClock } from '../../src/core/clock.js';
import { openStore } from '../../src/store/store.js';
import { heldSince } from '../fixtures/effort.js';
import { recordingLog } from '../fixtures/logs.js';
import { actionNamed, channelNamed } from '../fixtures/store-records.js';
import { until } from '../fixtures/until.js';

const SIZE_BYTES = 12 * 1024 * 1024;

function mount(path: string): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE_BYTES}`, 'skos-test', path]).status === 0;
}

function unmount(path: string): void {
  spawnSync('umount', ['-l', path]);
  rmdirSync(path);
}

/** Not t.testdir(): tap would remove it before it is unmounted. */
const newDirectory = () => mkdtempSync(join(tmpdir(), 'skos-disk-full-'));

function whyNot(): string | false {
  const path = newDirectory();
  const mounted = mount(path);
  unmount(path);
  return mounted ? false : 'mounting a tmpfs needs root and CAP_SYS_ADMIN';
}

const skip = whyNot();

function tmpfs(t: Test): string {
  const path = newDirectory();
  t.teardown(() => unmount(path));
  if (!mount(path)) throw new Error(`${path} could not be mounted`);
  return path;
}

async function fill(path: string): Promise<string> {
  const filler = join(path, 'filler');
  const file = await open(filler, 'w');
  try {
    for (const size of [65_536, 4_096, 1]) {
      for (;;) await file.write(Buffer.alloc(size, 1));
    }
  } catch {
    // ENOSPC is what is wanted.
  } finally {
    await file.close();
  }
  // The last bytes, which a large write left over.
  await writeFile(filler, Buffer.alloc(SIZE_BYTES), { flag: 'a' }).catch(() => undefined);
  return filler;
}

const append = (i: number) => ({ kind: 'test.append', who: 'agent', what: { i, text: 'x'.repeat(2_000) } });

t.test(
  'a full disk: no crash, nothing acknowledged is lost, protection is not held up, recovery by itself',
  { skip },
  async (t) => {
    const dataDir = tmpfs(t);
    const log = recordingLog();
    const store = await openStore({ dataDir, log, clock: systemClock });
    for (let i = 0; i < 50; i++) await store.audit.append(append(i));
    const filler = await fill(dataDir);

    const channel = channelNamed('hwmon/chip/temp1', 1_000);
    const waiting: Promise<unknown>[] = [];
    let longestMs = 0;
    let i = 50;
    while (store.health().ok && i < 5_000) {
      const heldMs = heldSince();
      waiting.push(store.audit.append(append(i)));
      store.sample(channel, i, 'ok', systemClock.monotonicMs());
      store.putAction(actionNamed(`n:${i}`, { startedAtMs: i }));
      longestMs = Math.max(longestMs, heldMs());
      i++;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    t.match(store.health(), { ok: false, why: /kept in memory/ });
    t.ok(longestMs < 50, `the longest put took ${longestMs.toFixed(1)} ms`);
    // Some more tries pass by; the log stays quiet.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    t.equal(log.lines.filter(({ fields }) => fields.event === 'store.failed').length, 1, 'it is said once');
    const onDisk = store.audit.head().seq;
    t.equal(
      (await store.audit.list({ fromSeq: 1, limit: 5_000 })).length,
      onDisk,
      'what is on disk can be read meanwhile',
    );
    t.match(await store.actions({ limit: 1 }), [{ actionId: `n:${i - 1}` }], 'and what is not on disk yet as well');
    t.match(await store.audit.verify(), { ok: true });

    await rm(filler);
    await until(() => store.health().ok, 20_000);
    await Promise.all(waiting);
    t.match(log.lines.at(-1), { fields: { event: 'store.recovered', lost: 0 } });
    t.match(await store.audit.verify(), { ok: true, entries: i });
    await store.stop();
    const again = await openStore({ dataDir, log, clock: systemClock });
    t.match(await again.audit.verify(), { ok: true, entries: i });
    t.equal((await again.actions({ limit: 10_000 })).length, i - 50);
    await again.stop();
  },
);

t.test(
  'stopping with the disk full rejects what is not written, says how much, and the rest is there',
  { skip },
  async (t) => {
    const dataDir = tmpfs(t);
    const log = recordingLog();
    const store = await openStore({ dataDir, log, clock: systemClock });
    await store.audit.append(append(0));
    const filler = await fill(dataDir);
    const outcomes: Promise<boolean>[] = [];
    for (let i = 1; i < 5_000 && store.health().ok; i++) {
      outcomes.push(
        store.audit.append(append(i)).then(
          () => true,
          () => false,
        ),
      );
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await store.stop();
    const acknowledged = (await Promise.all(outcomes)).filter(Boolean).length;
    t.ok(acknowledged < outcomes.length);
    const failures = log.lines.filter(({ fields }) => fields.event === 'store.failed');
    t.equal(failures.length, 2, 'that it fails, and at the end what is lost');
    await rm(filler);
    const again = await openStore({ dataDir, log: recordingLog(), clock: systemClock });
    const verdict = await again.audit.verify();
    // A write that failed may be on disk nevertheless, but never the other way round.
    t.ok(verdict.ok && verdict.entries >= acknowledged + 1, `${acknowledged + 1} acknowledged`);
    await again.stop();
  },
);

t.test(
  'a full disk holds up neither samples nor the end of a recording, which is whole when there is room',
  { skip },
  async (t) => {
    const dataDir = tmpfs(t);
    const log = recordingLog();
    const store = await openStore({ dataDir, log, clock: systemClock });
    const filler = await fill(dataDir);
    const recorder = new FlightRecorder({ store, clock: systemClock, log });
    const channel = channelNamed('hwmon/chip/temp1', 1_000);
    recorder.use([channel]);
    let longestMs = 0;
    let sampled = 0;
    const sample = () => {
      const heldMs = heldSince();
      recorder.sample(0, sampled++, 'ok', systemClock.monotonicMs());
      longestMs = Math.max(longestMs, heldMs());
    };
    sample();
    recorder.alert({ id: 'a', severity: 'warning', sinceAtMs: systemClock.wallMs() });
    // Audit entries fail at once, and the recording with them.
    void store.audit.append(append(1));
    while (store.health().ok || sampled < 500) {
      sample();
      if (sampled % 50 === 0) void store.audit.append(append(sampled));
      if (sampled % 100 === 0) await recorder.flush();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    t.ok(longestMs < 50, `the longest sample took ${longestMs.toFixed(1)} ms`);
    recorder.stop();
    const of = async (from: typeof store) => (await from.recordings.page({ alert: 'a' }))?.series[0]?.values.length;
    t.equal(await of(store), sampled, 'it can be read meanwhile');
    await rm(filler);
    await until(() => store.health().ok, 20_000);
    await store.stop();
    const again = await openStore({ dataDir, log, clock: systemClock });
    t.match(await again.recordings.list(), [{ alert: 'a', open: false, samples: sampled }]);
    t.equal(await of(again), sampled);
    await again.stop();
  },
);

t.test('a disk that is full from the start is SKOS_STORE_OPEN', { skip }, async (t) => {
  const dataDir = tmpfs(t);
  const filler = await fill(dataDir);
  const options = { dataDir, log: recordingLog(), clock: systemClock };
  await t.rejects(openStore(options), { code: 'SKOS_STORE_OPEN' });
  await rm(filler);
  await (await openStore(options)).stop();
});
