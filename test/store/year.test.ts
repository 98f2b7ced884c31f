/** Two simulated months, which are more than the bound of the size holds; scripts/bench/year does a whole year. */
import t from 'tap';
import { recordingLog } from '../fixtures/logs.js';
import { simulateYear } from '../fixtures/year.js';

const MIB = 1024 * 1024;
const DAYS = 60;
const CAP_BYTES = 0.75 * MIB;
/** LevelDB's log of 1 MiB, which becomes a table as a whole, and what came since the last look at the size. */
const SLACK_BYTES = 1.5 * MIB;
/** A quick query is as quick as the machine is idle; only beyond this is it compared. */
const QUICK_MS = 20;
const SAME_ORDER = 5;
const MAX_START_MS = 400;

t.test(`${DAYS} days stay small, quick to ask, quick to start, whole and true`, async (t) => {
  const log = recordingLog();
  const report = await simulateYear({ dataDir: t.testdir(), days: DAYS, parts: 3, scale: 1, maxBytes: CAP_BYTES, log });
  const { parts, greatestBytes } = report;
  const [first, last] = [parts[0], parts.at(-1)];
  if (first === undefined || last === undefined) throw new Error('there are no parts');
  t.comment(JSON.stringify({ ...report, differences: report.differences.slice(0, 5) }));
  t.equal(parts.length, 3);
  t.ok(greatestBytes <= CAP_BYTES + SLACK_BYTES, `${greatestBytes} bytes at most`);
  t.ok(report.reachDays < DAYS - 1, 'the bound was met: the oldest went');
  t.ok(report.reachDays > 3, `and ${report.reachDays} days are kept`);
  const isFlat = (before: number, after: number) => after <= SAME_ORDER * Math.max(QUICK_MS, before);
  t.ok(isFlat(first.dayQueryMs, last.dayQueryMs), `a day took ${first.dayQueryMs} ms, then ${last.dayQueryMs} ms`);
  t.ok(isFlat(first.weekQueryMs, last.weekQueryMs), `a week took ${first.weekQueryMs} ms, then ${last.weekQueryMs} ms`);
  for (const { day, startMs } of parts) t.ok(startMs <= MAX_START_MS, `started in ${startMs} ms on day ${day}`);
  t.equal(report.auditTrouble, '');
  t.ok(report.auditEntries >= DAYS * 8, `${report.auditEntries} entries of the audit chain`);
  t.ok(report.hoursCompared > 10);
  t.same(report.differences, [], 'what is kept is what was measured');
  t.equal(report.alerts, DAYS * 4);
  t.equal(report.actions, DAYS * 4);
  const trouble = log.lines.filter(({ level }) => level !== 'info');
  t.same(trouble, [], 'and nothing went wrong');
});
