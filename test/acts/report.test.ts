import { statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { reportText, writeReport } from '../../src/acts/report.js';
import { MAX_REPORT_BYTES, readReport } from '../../src/control/job-reports.js';

const parts = { name: 'ping_peer.lyra', startedAtMs: 1_000, endedAtMs: 2_000, ok: true, summary: 'it answers' };

t.test('the agent reads what an act has written', async (t) => {
  const directory = t.testdir({});
  await writeReport({ ...parts, items: ['a', 'b'], details: { n: 1 } }, { SKOS_ACT_DIR: directory });
  t.match(await readReport(directory, { job: 'act/ping_peer.lyra', sinceAtMs: 1_500 }), {
    ok: true,
    summary: 'it answers',
    items: ['a', 'b'],
    total: 2,
    details: { n: 1 },
  });
  t.equal(statSync(join(directory, 'ping_peer.lyra.json')).mode & 0o777, 0o640);
});

t.test('a report is never larger than its reader takes, and says how much there was', async (t) => {
  const items = Array.from({ length: 5_000 }, (_, i) => `${i}${'\u0001'.repeat(2_000)}`);
  const huge = { ...parts, summary: 'x'.repeat(5_000), items, details: { all: 'y'.repeat(200_000) } };
  const text = reportText(huge);
  t.ok(Buffer.byteLength(text) <= MAX_REPORT_BYTES);
  t.match(JSON.parse(text), { total: 5_000, details: {} });
  const { digest } = JSON.parse(text) as { digest: string };
  t.not(digest, (JSON.parse(reportText({ ...huge, items: items.slice(1) })) as { digest: string }).digest);
  const some = JSON.parse(reportText({ ...parts, items: items.map((item) => item.slice(0, 5)) })) as {
    items: unknown[];
  };
  t.equal(some.items.length, 100);
});
