import { execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { catalog, JOURNAL_EVENTS, messageId } from '../../src/app/journal-events.js';
import { type AdjustableLog, createLog, findJournalSocket, type LogOptions } from '../../src/app/log.js';
import { LogBounds, MAX_KINDS, MAX_PER_WINDOW, WINDOW_MS } from '../../src/app/log-bounds.js';
import { MAX_KEPT, MAX_VALUE_BYTES } from '../../src/app/log-journal.js';
import { lineWriter, MAX_QUEUED_BYTES, prettyLine } from '../../src/app/log-stderr.js';
import { SkosError } from '../../src/core/errors.js';
import { ACTION_STATES } from '../../src/core/vocabulary.js';
import { until } from '../fixtures/until.js';

const ENOENT = 2;
const EAGAIN = 11;
const atNoon = new Date(2026, 10, 20, 12, 1, 2).getTime();

interface Journal {
  readonly entries: Record<string, string>[];
  errno: number;
  readonly send: (path: string, fields: Record<string, string>) => number;
}

function journal(): Journal {
  const entries: Record<string, string>[] = [];
  return {
    entries,
    errno: 0,
    send(_path, fields) {
      if (this.errno === 0) entries.push(fields);
      return this.errno;
    },
  };
}

function journalLog(t: Test, to: Journal, options: Partial<LogOptions> = {}) {
  const file = join(t.testdir({}), 'stderr');
  const fd = openSync(file, 'a');
  t.teardown(() => closeSync(fd));
  const log = createLog({
    identifier: 'skos-agent',
    node: 'nova',
    level: 'info',
    journalSocket: '/journal',
    journalSend: (path, fields) => to.send(path, fields),
    format: 'json',
    stderrFd: fd,
    ...options,
  });
  return { log, stderr: () => readFileSync(file, 'utf8').split('\n').filter(Boolean) };
}

t.test('journal', async (t) => {
  t.test('an entry has the fields of the contract', async (t) => {
    const to = journal();
    const { log } = journalLog(t, to);
    log.warn('CPU is hot', {
      event: 'alert.fire',
      channel: 'hwmon/coretemp/temp1',
      rule: 'thermal-cpu',
      alert: 'a1',
      action: 'throttle_10',
      outcome: 'applied',
      auditSeq: 17,
      auditHead: 'ab12',
      someValue: 3,
      absent: undefined,
    });
    t.strictSame(to.entries, [
      {
        MESSAGE: 'CPU is hot',
        PRIORITY: '4',
        MESSAGE_ID: JOURNAL_EVENTS['alert.fire'].id,
        SYSLOG_IDENTIFIER: 'skos-agent',
        SKOS_NODE: 'nova',
        SKOS_EVENT: 'alert.fire',
        SKOS_CHANNEL: 'hwmon/coretemp/temp1',
        SKOS_RULE: 'thermal-cpu',
        SKOS_ALERT: 'a1',
        SKOS_ACTION: 'throttle_10',
        SKOS_OUTCOME: 'applied',
        SKOS_AUDIT_SEQ: '17',
        SKOS_AUDIT_HEAD: 'ab12',
        SKOS_SOME_VALUE: '3',
      },
    ]);
  });

  t.test('an error is in the message with its causes, and its code in SKOS_CODE', async (t) => {
    const to = journal();
    const { log } = journalLog(t, to);
    const cause = new Error('No space left on device');
    log.error('cannot open the store', { error: new SkosError('SKOS_STORE_OPEN', 'open failed', { cause }) });
    t.match(to.entries[0], {
      MESSAGE: /cannot open the store.*open failed.*No space left on device.*SKOS_STORE_OPEN/,
      SKOS_CODE: 'SKOS_STORE_OPEN',
      PRIORITY: '3',
    });
  });

  t.test('a programming error brings its trace, an operating error does not', async (t) => {
    const to = journal();
    const { log } = journalLog(t, to);
    log.error('failed', { error: new TypeError('x is undefined') });
    log.error('failed', { error: new SkosError('SKOS_STORE_OPEN', 'no', { cause: new TypeError('y is undefined') }) });
    log.error('failed', { error: Object.assign(new Error('gone'), { code: 'ENOENT' }) });
    t.match(to.entries[0]?.SKOS_STACK, /x is undefined\n {4}at .*log\.test/);
    t.match(to.entries[1]?.SKOS_STACK, /y is undefined\n {4}at /, 'behind an operating error too');
    t.equal(to.entries[2]?.SKOS_STACK, undefined);
    const entry = { level: 'fatal', message: 'failed', fields: { error: new TypeError('z') }, atMs: atNoon } as const;
    t.match(prettyLine(entry), /^12:01:02 FATAL failed: z\n {4}at /);
  });

  t.test('levels become syslog priorities; detail below the level is not sent', async (t) => {
    const to = journal();
    const { log } = journalLog(t, to, { level: 'trace' });
    for (const level of ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const) log[level](level);
    t.strictSame(
      to.entries.map((entry) => entry.PRIORITY),
      ['2', '3', '4', '6', '7', '7'],
    );
    log.setLevel('error');
    t.equal(log.level, 'error');
    log.warn('not sent');
    t.equal(to.entries.length, 6);
    log.setLevel('debug');
    log.debug('sent');
    t.equal(to.entries.length, 7);
  });

  t.test('a field never replaces one of the contract, and odd names become legal ones', async (t) => {
    const to = journal();
    const { log } = journalLog(t, to);
    log.info('x', { node: 'forged', 'a.b-c': 'y', ['n'.repeat(200)]: 'z', nested: { a: [1] } });
    const entry = to.entries[0] ?? {};
    t.equal(entry.SKOS_NODE, 'nova');
    t.equal(entry.SKOS_A_B_C, 'y');
    t.equal(entry.SKOS_NESTED, '{"a":[1]}');
    for (const name of Object.keys(entry)) t.match(name, /^[A-Z][A-Z0-9_]{0,63}$/);
  });

  t.test('values that are huge, cyclic or strange are bounded and do not throw', async (t) => {
    const to = journal();
    const { log } = journalLog(t, to);
    const cyclic: Record<string, unknown> = {};
    cyclic.self = cyclic;
    log.info('é'.repeat(1_000_000), { cyclic, big: 10n, error: { not: 'an error' }, nothing: null });
    const entry = to.entries[0] ?? {};
    for (const value of Object.values(entry)) t.ok(Buffer.byteLength(value) <= MAX_VALUE_BYTES);
    t.equal(entry.SKOS_BIG, '10');
    t.notOk('SKOS_NOTHING' in entry);
  });

  t.test('what the journal refuses goes to stderr at once, and to the journal when it is back, in order', async (t) => {
    const to = journal();
    const { log, stderr } = journalLog(t, to);
    to.errno = ENOENT;
    log.info('first');
    to.errno = EAGAIN;
    log.info('second');
    t.match(stderr(), [/"msg":"first"/, /"msg":"second"/]);
    to.errno = 0;
    log.info('third');
    t.equal(to.entries.length, 0, 'a later line does not overtake those that wait');
    await until(() => to.entries.length === 3);
    t.strictSame(
      to.entries.map((entry) => entry.MESSAGE),
      ['first', 'second', 'third'],
    );
    log.info('fourth');
    t.equal(to.entries.at(-1)?.MESSAGE, 'fourth', 'and then goes straight again');
  });

  t.test('a journal that stays away costs bounded memory, and the loss is said', async (t) => {
    const to = journal();
    const { log } = journalLog(t, to);
    to.errno = ENOENT;
    for (let i = 0; i < MAX_KEPT + 5; i++) log.info(`line ${i}`);
    to.errno = 0;
    await until(() => to.entries.length > MAX_KEPT);
    t.equal(to.entries[0]?.MESSAGE, 'line 5', 'the oldest are lost');
    t.match(to.entries.at(-1), { SKOS_EVENT: 'log.suppressed', SKOS_SUPPRESSED: '5' });
  });

  t.test('is used only when standard error is the journal, or a socket is named', async (t) => {
    t.equal(findJournalSocket({}), null);
    t.equal(findJournalSocket({ JOURNAL_STREAM: '1:2' }), null, 'inherited, but our stderr is something else');
    t.equal(findJournalSocket({ JOURNAL_STREAM: 'garbage' }), null);
    t.equal(findJournalSocket({ SKOS_JOURNAL_SOCKET: '/x' }), '/x');
    t.equal(findJournalSocket({ SKOS_JOURNAL_SOCKET: '' }), null);
  });
});

t.test('standard error', async (t) => {
  t.test('JSON has level, time, name, node, message and fields', async (t) => {
    const { log, stderr } = journalLog(t, journal(), { journalSocket: null });
    log.error('no', { event: 'store.failed', error: new SkosError('SKOS_STORE_WRITE', 'EIO') });
    const line: unknown = JSON.parse(stderr()[0] ?? '');
    t.match(line, {
      level: 'error',
      name: 'skos-agent',
      node: 'nova',
      msg: 'no',
      event: 'store.failed',
      code: 'SKOS_STORE_WRITE',
      error: 'EIO',
    });
    t.match(line, { time: /^\d{4}-\d\d-\d\dT.*Z$/ });
  });

  t.test('a pretty line is readable', async (t) => {
    const entry = {
      level: 'warn',
      message: 'CPU is hot',
      fields: { rule: 'cpu', label: 'a b' },
      atMs: atNoon,
    } as const;
    t.equal(prettyLine(entry), '12:01:02 WARN  CPU is hot rule=cpu label="a b"');
    t.equal(prettyLine(entry, true), '12:01:02 \u001b[33mWARN \u001b[0m CPU is hot rule=cpu label="a b"');
  });

  t.test('pretty has no colours where standard error is no terminal', async (t) => {
    const { log, stderr } = journalLog(t, journal(), { journalSocket: null, format: 'pretty' });
    log.info('plain');
    t.match(stderr()[0], /^\d\d:\d\d:\d\d INFO {2}plain$/);
  });

  t.test('control characters of labels and messages do not reach the terminal', async (t) => {
    const fields = { label: '\u001b]0;owned\u0007', topic: 'a\nb' };
    const line = prettyLine({ level: 'info', message: 'x\u001b[2J\ny\u009bz', fields, atMs: atNoon });
    t.notMatch(line, /\p{Cc}/u);
  });

  t.test(
    'a pipe that nobody reads neither blocks nor throws nor grows; the loss is said when it is read',
    async (t) => {
      const fifo = join(t.testdir({}), 'fifo');
      execFileSync('mkfifo', [fifo]);
      const fd = openSync(fifo, 'r+');
      const writer = lineWriter(fd);
      t.teardown(() => {
        writer.close();
        closeSync(fd);
      });
      const line = `${'x'.repeat(1_023)}\n`;
      const lines = MAX_QUEUED_BYTES / 1_024 + 200;
      for (let i = 0; i < lines; i++) writer.write(line);
      const reader = readInChild(fifo);
      t.teardown(() => reader.kill());
      await until(() => reader.text().includes('log lines are lost'));
      t.match(reader.text().trimEnd().split('\n').at(-1), /^\d+ log lines are lost/);
      const whole = reader
        .text()
        .split('\n')
        .filter((got: string) => got.length === 1_023).length;
      const lost = Number(/(\d+) log lines are lost/.exec(reader.text())?.[1]);
      t.equal(whole + lost, lines, 'every line arrived whole or is counted');
    },
  );

  t.test('a reader that is gone (EPIPE) does not throw', async (t) => {
    const fifo = join(t.testdir({}), 'fifo');
    execFileSync('mkfifo', [fifo]);
    const both = openSync(fifo, 'r+');
    const writer = lineWriter(both);
    t.teardown(() => writer.close());
    closeSync(both);
    t.doesNotThrow(() => writer.write('nobody\n'));
  });
});

t.test('bounds', async (t) => {
  const clockedLog = (t: Test, to: Journal): { log: AdjustableLog; clock: { nowMs: number } } => {
    const clock = { nowMs: 0 };
    const { log } = journalLog(t, to, {
      level: 'trace',
      clock: { monotonicMs: () => clock.nowMs, wallMs: () => clock.nowMs },
    });
    return { log, clock };
  };

  t.test('the same kind of event is held back beyond its bound and counted, others pass', async (t) => {
    const to = journal();
    const { log, clock } = clockedLog(t, to);
    for (let i = 0; i < MAX_PER_WINDOW + 7; i++) log.warn('gone', { event: 'sensor.gone', channel: 'a' });
    t.equal(to.entries.length, MAX_PER_WINDOW);
    log.warn('gone', { event: 'sensor.gone', channel: 'b' });
    log.warn('back', { event: 'sensor.back', channel: 'a' });
    log.fatal('dying', { event: 'sensor.gone', channel: 'a' });
    t.equal(to.entries.length, MAX_PER_WINDOW + 3);
    clock.nowMs += WINDOW_MS;
    log.info('next');
    t.match(to.entries.at(-2), {
      SKOS_EVENT: 'log.suppressed',
      SKOS_SUPPRESSED: '7',
      SKOS_OF: 'sensor.gone',
      SKOS_CHANNEL: 'a',
    });
    log.warn('gone', { event: 'sensor.gone', channel: 'a' });
    t.equal(to.entries.at(-1)?.MESSAGE, 'gone', 'a new window begins');
  });

  t.test('detail has one wide bound of its own', async (t) => {
    const to = journal();
    const { log } = clockedLog(t, to);
    for (let i = 0; i < 1_000; i++) log.debug('tick', { event: 'tick' });
    t.equal(to.entries.length, 1_000);
    for (let i = 0; i < 10_000; i++) log.trace(`tick ${i}`);
    t.equal(to.entries.length, 6_000);
    log.info('still heard');
    t.equal(to.entries.length, 6_001);
  });

  t.test('a flood of different names is bounded together', async (t) => {
    const bounds = new LogBounds();
    let passed = 0;
    for (let i = 0; i < 100_000; i++) {
      const entry = { level: 'info', message: `garbage ${i}`, fields: {}, atMs: 0 } as const;
      if (bounds.admit(entry, 0, () => undefined)) passed++;
    }
    t.ok(passed <= MAX_KINDS + MAX_PER_WINDOW, `${passed} passed`);
  });
});

t.test('catalog', async (t) => {
  t.test('systemd/skos.catalog is what the table says', async (t) => {
    t.equal(readFileSync('systemd/skos.catalog', 'utf8'), catalog(), 'run node scripts/catalog.mjs');
  });

  t.test('ids are 128 random bits and unique', async (t) => {
    const ids = Object.values(JOURNAL_EVENTS).map(({ id }) => id);
    for (const id of ids) t.match(id, /^[0-9a-f]{32}$/);
    t.equal(new Set(ids).size, ids.length);
  });

  t.test('explains nothing that no source says', async (t) => {
    const files = readdirSync('src', { recursive: true, encoding: 'utf8' });
    const others = files.filter((file) => file.endsWith('.ts') && !file.endsWith('journal-events.ts'));
    const sources = others.map((file) => readFileSync(join('src', file), 'utf8')).join('\n');
    // `action.${state}` and `mesh.peer_${state}` are put together where they are said.
    const said = (event: string) => /^(action\.|mesh\.peer_)/.test(event) || sources.includes(`'${event}'`);
    t.strictSame(
      Object.keys(JOURNAL_EVENTS).filter((event) => !said(event)),
      [],
    );
  });

  t.test('explains every kind of event that the sources name', async (t) => {
    const named = new Set(ACTION_STATES.map((state) => `action.${state}`));
    for (const file of readdirSync('src', { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const source = readFileSync(join('src', file), 'utf8');
      for (const [, event] of source.matchAll(/\bevent: '([a-z]+\.[a-z_]+)'/g)) named.add(event ?? '');
    }
    const unexplained = [...named].filter((event) => messageId(event) === undefined);
    t.strictSame(unexplained, [], 'add them to src/app/journal-events.ts, then run node scripts/catalog.mjs');
  });

  t.test('an event that is not in the table has no id, whatever its name', async (t) => {
    t.equal(messageId('nonsense'), undefined);
    t.equal(messageId('constructor'), undefined);
  });

  t.test('journalctl takes the catalog', { skip: hasJournalctl() ? false : 'journalctl is not here' }, async (t) => {
    const root = t.testdir({});
    mkdirSync(join(root, 'usr/lib/systemd/catalog'), { recursive: true });
    mkdirSync(join(root, 'var/lib/systemd/catalog'), { recursive: true });
    writeFileSync(join(root, 'usr/lib/systemd/catalog/skos.catalog'), catalog());
    execFileSync('journalctl', [`--root=${root}`, '--update-catalog']);
    const listed = execFileSync('journalctl', [`--root=${root}`, '--list-catalog'], { encoding: 'utf8' });
    for (const { id } of Object.values(JOURNAL_EVENTS)) t.match(listed, id);
  });
});

function hasJournalctl(): boolean {
  try {
    execFileSync('journalctl', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function readInChild(file: string) {
  const child = spawn('cat', [file], { stdio: ['ignore', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  return { text: () => Buffer.concat(chunks).toString('utf8'), kill: () => child.kill() };
}
