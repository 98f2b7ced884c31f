/** Progress: one line on a terminal, some lines elsewhere, nothing for programs. */
import t from 'tap';
import { Progress, progressText } from '../../src/cli/progress.js';

function screen({ terminal = true, quiet = false, columns = 80 } = {}) {
  const written: string[] = [];
  const lines: string[] = [];
  let nowMs = 0;
  const io = {
    err: (text: string) => void lines.push(text),
    columns,
    ...(terminal ? { overwrite: (text: string) => void written.push(text) } : {}),
  };
  const progress = new Progress({ io, quiet, monotonicMs: () => nowMs });
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { progress, written, lines, pass };
}

t.test('says how much, how fast and how long still', async (t) => {
  const text = progressText({
    what: 'verifying',
    fraction: 0.25,
    bytes: 3 * 2 ** 20,
    bytesPerSecond: 2 ** 20,
    elapsedMs: 3_000,
  });
  t.equal(text, 'verifying [#####               ]  25 %, 3.0 MiB, 1.0 MiB/s, 9 s left');
  const unknown = { what: 'reading', fraction: null, bytes: 10, bytesPerSecond: null, elapsedMs: 9e9 };
  t.equal(progressText(unknown), 'reading, 10 B');
  t.match(progressText({ ...unknown, fraction: 1.7 }), /100 %.*0 s left/, 'an estimate that was too low');
});

t.test('writes one line over itself on a terminal, not wider than that, and takes it away', async (t) => {
  const { progress, written, lines, pass } = screen({ columns: 30 });
  for (let i = 0; i <= 100; i++) {
    progress.show({ what: 'reading', fraction: i / 100, bytes: i * 1e6 });
    pass(20);
  }
  t.ok(written.length > 10 && written.length <= 21, `${written.length} times in two seconds`);
  t.ok(written.every((text) => text.startsWith('\r\x1b[2K') && !text.includes('\n') && text.length <= 5 + 29));
  progress.clear();
  progress.clear();
  t.equal(written.filter((text) => text === '\r\x1b[2K').length, 1);
  t.strictSame(lines, []);
});

t.test('writes a line every five seconds where there is no terminal, and none for a short time', async (t) => {
  const { progress, lines, pass } = screen({ terminal: false });
  for (let i = 0; i < 120; i++) {
    progress.show({ what: 'reading', fraction: null, bytes: i * 1e6 });
    pass(100);
  }
  progress.show({ what: 'writing', fraction: 0, bytes: 0 });
  progress.clear();
  t.equal(lines.length, 2);
  t.match(lines, [/^reading, 4\d\.\d MiB, 9\.5 MiB\/s$/, /^reading/]);
});

t.test('forgets a fast beginning: the pace is that of the last seconds', async (t) => {
  const { progress, written, pass } = screen();
  for (let i = 0; i < 100; i++) {
    progress.show({ what: 'reading', fraction: null, bytes: Math.min(i, 20) * 2 ** 20 });
    pass(200);
  }
  t.match(written.at(-1), /0 B\/s/, 'a stall shows');
});

t.test('says nothing to programs', async (t) => {
  const { progress, written, lines, pass } = screen({ quiet: true });
  for (let i = 0; i < 10; i++) {
    progress.show({ what: 'reading', fraction: i / 10, bytes: i });
    pass(6_000);
  }
  progress.clear();
  t.strictSame([...written, ...lines], []);
});
