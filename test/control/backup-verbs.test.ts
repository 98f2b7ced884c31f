/** The verbs of a backup: one session at a time, bound to its connection, bounded in time, and always on record. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { backupHandlers, PAGE_BYTES } from '../../src/control/backup-verbs.js';
import type { Occurrence } from '../../src/control/record.js';
import type { Caller } from '../../src/control/socket-server.js';
import { systemClock } from '../../src/core/clock.js';
import { SkosError } from '../../src/core/errors.js';
import type { RecordSnapshot } from '../../src/core/ports.js';

const HEAD = { seq: 7, hash: 'ab'.repeat(32) };
const TAKEN = { sha256: 'cd'.repeat(32), fileBytes: 10, records: 3, withKeys: false };

class FakeSnapshot implements RecordSnapshot {
  readonly facts = { format: 1, auditHead: HEAD, approximateBytes: 1_000 };
  readonly missing = ['nothing much'];
  readonly asked: number[] = [];
  closed = 0;
  #left: number;
  readonly #fault: Error | undefined;

  constructor({ pages = 2, fault }: { pages?: number; fault?: Error } = {}) {
    this.#left = pages;
    this.#fault = fault;
  }

  async next(maxBytes: number) {
    this.asked.push(maxBytes);
    await sleep(1);
    if (this.closed > 0) throw new Error('closed under a read');
    if (this.#fault !== undefined) throw this.#fault;
    return this.#left-- > 0 ? { bytes: Buffer.from(`page ${this.#left}`), fraction: 0.5 } : undefined;
  }

  async close() {
    this.closed++;
  }
}

interface Given {
  readonly snapshots?: readonly FakeSnapshot[];
  readonly open?: () => Promise<RecordSnapshot>;
  readonly limitsMs?: { idle: number; lifetime: number };
}

function desk({ snapshots = [new FakeSnapshot()], open, limitsMs }: Given = {}) {
  const records: Occurrence[] = [];
  let opened = 0;
  const snapshot = open ?? (async () => snapshots[opened++] ?? new FakeSnapshot());
  const verbs = backupHandlers({
    store: { snapshot },
    node: 'nova',
    program: '0.1.0',
    dataDir: '/var/lib/skos',
    record: { add: (occurrence) => void records.push(occurrence) },
    clock: systemClock,
    ...(limitsMs === undefined ? {} : { limitsMs }),
  });
  return { verbs, records };
}

function caller(uid = 0): Caller & { leave: () => void } {
  const gone = new AbortController();
  const credentials = { uid, gid: 0, groups: [], pid: 1 };
  return { role: 'admin', credentials, gone: gone.signal, leave: () => gone.abort() };
}

t.test('hands out the pages, then the end, and writes down who took it with which hash', async (t) => {
  const snapshot = new FakeSnapshot();
  const { verbs, records } = desk({ snapshots: [snapshot] });
  const who = caller(1000);
  t.match(await verbs['backup.begin']({}, who), {
    node: 'nova',
    auditHead: HEAD,
    missing: ['nothing much'],
    format: 1,
  });
  const first = await verbs['backup.read']({}, who);
  t.match(first, { data: Buffer.from('page 1').toString('base64'), fraction: 0.5 });
  await verbs['backup.read']({}, who);
  t.match(await verbs['backup.read']({}, who), { data: null });
  t.ok(snapshot.asked.every((bytes) => bytes === PAGE_BYTES));
  await verbs['backup.end']({ taken: TAKEN }, who);
  t.equal(snapshot.closed, 1);
  t.match(records, [{ kind: 'backup.taken', who: 'uid 1000', what: { ...TAKEN, auditHead: HEAD } }]);
  await t.rejects(async () => verbs['backup.read']({}, who), { code: 'SKOS_BACKUP_ENDED' });
});

t.test('a second is refused while the first lasts, also when both come at once, and may come after it', async (t) => {
  const { verbs, records } = desk();
  const [a, b] = [caller(), caller()];
  const both = await Promise.allSettled([verbs['backup.begin']({}, a), verbs['backup.begin']({}, b)]);
  t.match(both, [{ status: 'fulfilled' }, { status: 'rejected', reason: { code: 'SKOS_BACKUP_BUSY' } }]);
  await t.rejects(async () => verbs['backup.begin']({}, a), { code: 'SKOS_BACKUP_BUSY' }, 'nor twice by one');
  await t.rejects(async () => verbs['backup.read']({}, b), { code: 'SKOS_BACKUP_ENDED' }, 'nor read by another');
  await t.rejects(async () => verbs['backup.end']({}, b), { code: 'SKOS_BACKUP_ENDED' }, 'nor ended');
  await verbs['backup.end']({}, a);
  await verbs['backup.begin']({}, b);
  t.strictSame(records, [], 'nothing was read, and nothing is told');
});

t.test('a client that goes away frees it, whatever it was doing', async (t) => {
  const doing: Record<string, (verbs: ReturnType<typeof desk>['verbs'], who: Caller) => unknown> = {
    nothing: () => undefined,
    reading: (verbs, who) => Promise.allSettled([verbs['backup.read']({}, who), verbs['backup.read']({}, who)]),
  };
  for (const [what, act] of Object.entries(doing)) {
    const snapshot = new FakeSnapshot({ pages: 10 });
    const { verbs, records } = desk({ snapshots: [snapshot] });
    const who = caller();
    await verbs['backup.begin']({}, who);
    await verbs['backup.read']({}, who);
    const acting = act(verbs, who);
    who.leave();
    await acting;
    await verbs['backup.begin']({}, caller());
    await sleep(5);
    t.equal(snapshot.closed, 1, what);
    t.match(records, [{ kind: 'backup.ended', what: { why: 'the connection was closed' } }]);
  }
});

t.test('one that goes away while the snapshot is being opened leaves none open', async (t) => {
  const snapshot = new FakeSnapshot();
  let open: (snapshot: RecordSnapshot) => void = () => undefined;
  const opening = new Promise<RecordSnapshot>((resolve) => {
    open = resolve;
  });
  const { verbs } = desk({ open: () => opening });
  const who = caller();
  const begun = t.rejects(async () => verbs['backup.begin']({}, who), { code: 'SKOS_BACKUP_ENDED' });
  who.leave();
  open(snapshot);
  await begun;
  t.ok(snapshot.closed >= 1);
  await t.rejects(async () => verbs['backup.read']({}, who), { code: 'SKOS_BACKUP_ENDED' });
});

async function endsBy(t: Test, limitsMs: { idle: number; lifetime: number }, why: RegExp, keepsAsking: boolean) {
  const snapshot = new FakeSnapshot({ pages: 1e6 });
  const { verbs, records } = desk({ snapshots: [snapshot], limitsMs });
  const who = caller();
  await verbs['backup.begin']({}, who);
  await verbs['backup.read']({}, who);
  const endMs = performance.now() + 5_000;
  while (snapshot.closed === 0 && performance.now() < endMs) {
    await sleep(5);
    if (keepsAsking) await Promise.resolve(verbs['backup.read']({}, who)).catch(() => undefined);
  }
  await t.rejects(async () => verbs['backup.read']({}, who), { code: 'SKOS_BACKUP_ENDED', message: why });
  t.match(records, [{ kind: 'backup.ended', what: { why } }]);
  await verbs['backup.begin']({}, caller());
}

t.test('ends when nothing is asked for a while, and after its time however much is asked', async (t) => {
  await endsBy(t, { idle: 60, lifetime: 1e6 }, /nothing was asked/, false);
  await endsBy(t, { idle: 1e6, lifetime: 120 }, /took longer/, true);
});

t.test('is not called taken before it is read to its end', async (t) => {
  const { verbs, records } = desk();
  const who = caller();
  await verbs['backup.begin']({}, who);
  await verbs['backup.read']({}, who);
  await t.rejects(async () => verbs['backup.end']({ taken: TAKEN }, who), { code: 'SKOS_PROTOCOL_INVALID' });
  await verbs['backup.end']({}, who);
  t.match(records, [{ kind: 'backup.ended', what: { why: 'it was given up' } }]);
});

t.test('a database that cannot be read ends it, with the code of the database', async (t) => {
  const fault = new SkosError('SKOS_STORE_READ', 'a bad block');
  const { verbs } = desk({ snapshots: [new FakeSnapshot({ fault })] });
  const who = caller();
  await verbs['backup.begin']({}, who);
  await t.rejects(async () => verbs['backup.read']({}, who), { code: 'SKOS_STORE_READ' });
  await verbs['backup.begin']({}, caller());
});

t.test('what cannot be opened is refused, and the next may try', async (t) => {
  let broken = true;
  const open = async () => {
    if (broken) throw new SkosError('SKOS_STORE_READ', 'a bad block');
    return new FakeSnapshot();
  };
  const { verbs, records } = desk({ open });
  await t.rejects(async () => verbs['backup.begin']({}, caller()), { code: 'SKOS_STORE_READ' });
  broken = false;
  await verbs['backup.begin']({}, caller());
  t.strictSame(records, []);
  const none = backupHandlers({
    store: {},
    node: 'nova',
    program: '0',
    dataDir: '/',
    record: { add: () => undefined },
    clock: systemClock,
  });
  await t.rejects(async () => none['backup.begin']({}, caller()), { code: 'SKOS_STORE_OPEN' }, 'no database');
});
