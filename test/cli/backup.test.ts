/** `skos backup` and `skos restore` on the command line: files, signals, full disks, and what they refuse. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Handlers } from '../../src/control/socket-server.js';
import { systemClock } from '../../src/core/clock.js';
import { SkosError } from '../../src/core/errors.js';
import type { BackupTaken } from '../../src/core/protocol.js';
import { entryBytes } from '../../src/store/backup-file.js';
import { openStore } from '../../src/store/store.js';
import { type Node, node } from '../fixtures/cli.js';
import { recordingLog } from '../fixtures/logs.js';

const GENESIS = { seq: 0, hash: '0'.repeat(64) };
const PAGE_BYTES = 64 * 1024;

interface Agent {
  readonly verbs: Partial<Handlers>;
  readonly taken: (BackupTaken | undefined)[];
}

/** An agent with a database of so many pages that nothing can pack; `onRead` sees the number of each. */
function agentOf(pages: number, onRead: (page: number) => unknown = () => undefined, dataDir = '/nowhere'): Agent {
  const taken: (BackupTaken | undefined)[] = [];
  let page = 0;
  const verbs: Partial<Handlers> = {
    'backup.begin': () => {
      page = 0;
      const facts = { node: 'nova', program: '0.1.0', dataDir, atMs: 1_767_322_800_000, format: 1, missing: [] };
      return { ...facts, auditHead: GENESIS, approximateBytes: pages * PAGE_BYTES };
    },
    'backup.read': async () => {
      await onRead(page);
      if (page >= pages) return { data: null, fraction: 1 };
      const key = Buffer.from(`k${String(page++).padStart(6, '0')}`);
      const value = noise(page);
      return { data: entryBytes(key, value).toString('base64'), fraction: page / pages };
    },
    'backup.end': (params) => {
      taken.push(params.taken);
      return {};
    },
  };
  return { verbs, taken };
}

function noise(seed: number): Buffer {
  const bytes = Buffer.alloc(PAGE_BYTES);
  let state = seed;
  for (let i = 0; i < PAGE_BYTES; i++) {
    state = (state * 48_271) % 0x7fffffff;
    bytes[i] = state & 0xff;
  }
  return bytes;
}

function target(now: Node, name = 'out'): { directory: string; file: string } {
  const directory = join(now.directory, name);
  mkdirSync(directory);
  return { directory, file: join(directory, 'b.skos') };
}

t.test('writes a file that verifies, 0600, and tells the agent its SHA-256', async (t) => {
  const { verbs, taken } = agentOf(5);
  const now = await node(t, verbs);
  const { file, directory } = target(now);
  const outcome = await now.skos(['backup', file]);
  t.match(outcome, { code: 0, out: /backup of nova[\s\S]*5 records[\s\S]*not in it:\s+keys of/ }, outcome.err);
  const sum = spawnSync('sha256sum', [file], { encoding: 'utf8' }).stdout.split(' ')[0] ?? '';
  t.match(outcome.out, new RegExp(`SHA-256 ${sum}`));
  t.match(taken, [{ sha256: sum, fileBytes: statSync(file).size, records: 5, withKeys: false }]);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.strictSame(readdirSync(directory), ['b.skos']);
  t.match(await now.skos(['backup', '--verify', file]), { code: 0, out: /5 records/ });
  const json = JSON.parse((await now.skos(['backup', '--verify', file, '--json'])).out);
  t.match(json, { ok: true, node: 'nova', records: 5, sha256: sum, chain: { ok: true, entries: 0 } });
});

t.test('replaces a file only with --force', async (t) => {
  const now = await node(t, agentOf(1).verbs);
  const { file } = target(now);
  writeFileSync(file, 'precious');
  t.match(await now.skos(['backup', file]), { code: 1, err: /SKOS_BACKUP_EXISTS/ });
  t.equal(readFileSync(file, 'utf8'), 'precious');
  t.match(await now.skos(['backup', file, '--force']), { code: 0 });
  t.match(await now.skos(['backup', '--verify', file]), { code: 0 });
});

t.test('writes to standard output, but to no terminal, and fails when nobody takes the bytes', async (t) => {
  const now = await node(t, agentOf(3).verbs);
  const parts: Buffer[] = [];
  const write = async (bytes: Buffer) => void parts.push(bytes);
  const outcome = await now.skos(['backup', '-'], { write });
  t.match(outcome, { code: 0, out: '', err: /3 records/ });
  const { file } = target(now);
  writeFileSync(file, Buffer.concat(parts));
  t.match(await now.skos(['backup', '--verify', file]), { code: 0 });
  t.match(await now.skos(['backup', '-'], { write, screen: true }), { code: 2, err: /terminal/ });
  const broken = () => Promise.reject(new Error('EPIPE'));
  t.match(await now.skos(['backup', '-'], { write: broken }), { code: 1, err: /SKOS_BACKUP_WRITE/ });
});

t.test('leaves nothing behind when it is interrupted, and when the agent is killed in the middle', async (t) => {
  const interrupt = new AbortController();
  const interrupted = agentOf(50, (page) => page === 10 && interrupt.abort());
  const now = await node(t, interrupted.verbs);
  const { file, directory } = target(now);
  t.match(await now.skos(['backup', file], { signal: interrupt.signal }), { code: 130, err: /SKOS_CLI_INTERRUPTED/ });
  t.strictSame(readdirSync(directory), []);
  t.strictSame(interrupted.taken, [undefined], 'the agent is told that there is none');
  let kill: () => unknown = () => undefined;
  const dying = await node(t, agentOf(50, (page) => page === 10 && kill()).verbs);
  const other = target(dying);
  kill = () => dying.stop();
  t.match(await dying.skos(['backup', other.file]), { code: 3, err: /SKOS_SOCKET_UNAVAILABLE/ });
  t.strictSame(readdirSync(other.directory), []);
});

t.test('passes on why the agent gives none', async (t) => {
  const refuse = () => {
    throw new SkosError('SKOS_BACKUP_BUSY', 'root is taking one');
  };
  const now = await node(t, { 'backup.begin': refuse });
  const { file, directory } = target(now);
  t.match(await now.skos(['backup', file]), { code: 1, err: /SKOS_BACKUP_BUSY/ });
  t.strictSame(readdirSync(directory), []);
  t.match(await now.skos(['backup']), { code: 2, err: /needs the name/ });
  t.match(await now.skos(['backup', '--verify', file, file]), { code: 2 });
});

t.test('a file that is not whole has its own message, and verifying needs no agent', async (t) => {
  const now = await node(t, agentOf(2).verbs);
  const { file } = target(now);
  await now.skos(['backup', file]);
  await now.stop();
  appendFileSync(file, 'x');
  t.match(await now.skos(['backup', '--verify', file]), { code: 1, err: /SKOS_BACKUP_DAMAGED/ });
  t.match(await now.skos(['backup', '--verify', `${file}.gone`]), { code: 1, err: /SKOS_BACKUP_READ/ });
  t.match(await now.skos(['backup', '--verify', now.directory]), { code: 1, err: /SKOS_BACKUP_READ/ });
});

const isRoot = process.geteuid?.() === 0;

function mounted(t: Test, bytes: number): string | undefined {
  const path = mkdtempSync(join(tmpdir(), 'skos-b-'));
  t.teardown(() => {
    spawnSync('umount', ['-l', path]);
    rmdirSync(path);
  });
  const options = ['-t', 'tmpfs', '-o', `size=${bytes}`, 'skos-test', path];
  return spawnSync('mount', options).status === 0 ? path : undefined;
}

t.test('a full disk: nothing stays, and the message says how much is needed', async (t) => {
  const path = isRoot ? mounted(t, 512 * 1024) : undefined;
  if (path === undefined) return t.comment('skipped: mounting a tmpfs needs root and CAP_SYS_ADMIN');
  const now = await node(t, agentOf(64).verbs);
  const outcome = await now.skos(['backup', join(path, 'b.skos')]);
  t.match(outcome, { code: 1, err: /SKOS_BACKUP_SPACE[\s\S]*about [45] MiB/ }, outcome.err);
  t.strictSame(readdirSync(path), []);
});

t.test('keys are read by this program, from a directory that it may read', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'skos-k-'));
  const { verbs, taken } = agentOf(1, undefined, root);
  const now = await node(t, verbs);
  const { file } = target(now);
  t.match(await now.skos(['backup', file, '--with-keys']), { code: 1, err: /SKOS_BACKUP_KEYS/ }, 'there are none');
  mkdirSync(join(root, 'keys'));
  writeFileSync(join(root, 'keys', '0123456789abcdef.pem'), 'secret');
  t.match(await now.skos(['backup', file, '--with-keys'], { euid: 12_345 }), { code: 1, err: /SKOS_BACKUP_KEYS/ });
  t.notOk(existsSync(file));
  t.match(await now.skos(['backup', file, '--with-keys']), { code: 0, out: /1 private key/ });
  t.match(taken.at(-1), { withKeys: true });
  symlinkSync('/etc/passwd', join(root, 'keys', 'fedcba9876543210.pem'));
  const linked = await now.skos(['backup', file, '--with-keys', '--force']);
  t.match(linked, { code: 1, err: /SKOS_BACKUP_KEYS/ }, 'a link leads to no other file');
});

// ---- Restore ---------------------------------------------------------------------------------------------------------

/** A node that is stopped, with a past in its data_dir, and a backup of that. */
async function stopped(t: Test) {
  const now = await node(t, {});
  await now.stop();
  const dataDir = join(now.directory, 'data');
  now.write('etc/skos.yaml', `node: nova\ndata_dir: ${dataDir}\n`);
  const store = await openStore({ dataDir, log: recordingLog(), clock: systemClock });
  for (let i = 0; i < 3; i++) await store.audit.append({ kind: 'test', who: 'agent', what: { i } });
  const snapshot = await store.snapshot();
  const piece = await snapshot.next(1e7);
  const { facts } = snapshot;
  await snapshot.close();
  await store.stop();
  let asked = 0;
  const file = join(now.directory, 'b.skos');
  const taker = await node(t, {
    'backup.begin': () => ({ node: 'nova', program: '0.1.0', dataDir, atMs: 1, missing: [], ...facts }),
    'backup.read': () => ({ data: asked++ === 0 ? (piece?.bytes.toString('base64') ?? '') : null, fraction: 1 }),
    'backup.end': () => ({}),
  });
  const outcome = await taker.skos(['backup', file]);
  if (outcome.code !== 0) throw new Error(outcome.err);
  return { now, dataDir, file };
}

function replaced(dataDir: string): string[] {
  return readdirSync(dataDir).filter((name) => name.includes('.replaced-'));
}

t.test('restore shows what comes and what goes before it asks, and does nothing without the name', async (t) => {
  const { now, dataDir, file } = await stopped(t);
  let question = '';
  const ask = async (text: string) => {
    question = text;
    return 'lyra';
  };
  const outcome = await now.skos(['restore', file], { ask });
  t.match(outcome, { code: 1, err: /SKOS_CLI_NAME/, out: /HIGH[\s\S]*whole, 3 entries[\s\S]*entry 3 was its last/ });
  t.match(question, /nova/);
  t.strictSame(replaced(dataDir), []);
  t.match(await now.skos(['restore', file], { ask: async () => 'nova' }), { code: 0, out: /Restored/ });
  t.match(replaced(dataDir), [/^db\./]);
  const json = JSON.parse((await now.skos(['restore', file, '--confirm', 'nova', '--json'])).out);
  t.match(json, { restored: true, node: 'nova', auditHead: { seq: 3 }, replaced: [/^db\./] });
});

t.test("restore takes another node's backup only when that node is named", async (t) => {
  const { now, dataDir, file } = await stopped(t);
  now.write('etc/skos.yaml', `node: lyra\ndata_dir: ${dataDir}\n`);
  t.match(await now.skos(['restore', file, '--confirm', 'lyra']), { code: 1, err: /SKOS_RESTORE_NODE/ });
  const wrong = ['restore', file, '--confirm', 'lyra', '--from-node', 'athena'];
  t.match(await now.skos(wrong), { code: 1, err: /SKOS_RESTORE_NODE/ });
  t.strictSame(replaced(dataDir), []);
  t.match(await now.skos(['restore', file, '--confirm', 'lyra', '--from-node', 'nova']), { code: 0 });
});

t.test('restore is for root and the owner of data_dir', async (t) => {
  const { now, dataDir, file } = await stopped(t);
  const outcome = await now.skos(['restore', file, '--confirm', 'nova'], { euid: 12_345 });
  t.match(outcome, { code: 5, err: /SKOS_RESTORE_DENIED/ });
  t.strictSame(replaced(dataDir), []);
});

t.test('restored by root, everything belongs to the owner of data_dir', async (t) => {
  if (!isRoot) return t.comment('skipped: only root can act for another user');
  const { now, dataDir, file } = await stopped(t);
  const [uid, gid] = [54_321, 54_322];
  const all = (path: string) => readdirSync(path, { recursive: true }).map((name) => join(path, String(name)));
  for (const path of [dataDir, ...all(dataDir)]) chownSync(path, uid, gid);
  chmodSync(now.directory, 0o755);
  const outcome = await now.skos(['restore', file, '--confirm', 'nova'], { env: { SUDO_USER: 'alice' } });
  t.match(outcome, { code: 0 }, outcome.err);
  for (const path of [join(dataDir, 'db'), ...all(join(dataDir, 'db')), join(dataDir, 'restore.json')]) {
    const facts = statSync(path);
    t.strictSame([facts.uid, facts.gid], [uid, gid], path);
    t.equal(facts.mode & 0o077, 0, `${path} is for nobody else`);
  }
  t.match(readFileSync(join(dataDir, 'restore.json'), 'utf8'), /"who": "root"[\s\S]*"sudoUser": "alice"/);
  t.strictSame([process.geteuid?.(), process.getegid?.()], [0, process.getgid?.()], 'and this process is root again');
});

t.test('restore onto a full disk changes nothing and says how much is needed', async (t) => {
  const path = isRoot ? mounted(t, 4 * 1024 * 1024) : undefined;
  if (path === undefined) return t.comment('skipped: mounting a tmpfs needs root and CAP_SYS_ADMIN');
  const now = await node(t, agentOf(120).verbs);
  const { file } = target(now);
  t.match(await now.skos(['backup', file]), { code: 0 });
  const dataDir = join(path, 'data');
  now.write('etc/skos.yaml', `node: nova\ndata_dir: ${dataDir}\n`);
  const store = await openStore({ dataDir, log: recordingLog(), clock: systemClock });
  await store.audit.append({ kind: 'test', who: 'agent', what: {} });
  await store.stop();
  const before = readdirSync(dataDir).sort();
  const outcome = await now.skos(['restore', file, '--confirm', 'nova']);
  t.match(outcome, { code: 1, err: /SKOS_BACKUP_SPACE[\s\S]*about \d+ MiB/ }, outcome.err);
  t.strictSame(readdirSync(dataDir).sort(), before);
  const again = await openStore({ dataDir, log: recordingLog(), clock: systemClock });
  t.equal(again.audit.head().seq, 1);
  await again.stop();
});
