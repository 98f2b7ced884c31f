/** The alert of a failing store: it must be told while nothing can be written. */
import t from 'tap';
import { StoreWatch } from '../../src/control/store-watch.js';
import type { Alert } from '../../src/core/ports.js';
import type { StoreHealth } from '../../src/store/health.js';
import { life } from '../fixtures/control.js';

const WELL: StoreHealth = { ok: true, why: 'open' };
const FULL: StoreHealth = { ok: false, why: 'ENOSPC', waiting: { records: 3, lost: 0 } };
const DAMAGED: StoreHealth = {
  ...WELL,
  setAside: { path: '/data/db.damaged-1', why: 'Corruption: x', salvage: 'it is being read', state: 'under way' },
};

function watched(now = life()) {
  let health = WELL;
  const watch = new StoreWatch({ health: () => health, alerts: now.alerts });
  const become = (next: StoreHealth) => {
    health = next;
    now.clock.nowMs += 1_000;
    watch.look();
    now.alerts.tend(now.clock.nowMs);
  };
  return { ...now, watch, become, active: () => now.outlet.of('active') as Alert[] };
}

t.test('a store that takes no writes is a critical alert with what waits, and ends when it takes them again', (t) => {
  const { become, active, alerts } = watched();
  become(WELL);
  t.strictSame(alerts.standing, []);
  become(FULL);
  t.match(alerts.standing, [
    { id: 'store-store-local-writes', rule: 'store', type: 'store', severity: 'critical', value: 3 },
  ]);
  t.match(alerts.standing[0]?.message, /ENOSPC; nothing is lost yet/);
  become({ ...FULL, waiting: { records: 900, lost: 40 } });
  t.match(alerts.standing[0], { value: 900, message: /40 that did not fit are lost/ });
  become(WELL);
  t.strictSame(alerts.standing, []);
  t.match(active().at(-1), { severity: null, message: 'the store takes writes again' });
  t.end();
});

t.test('a growing backlog is not told each second', (t) => {
  const { become, active } = watched();
  for (let n = 1; n <= 300; n++) become({ ...FULL, waiting: { records: n, lost: 0 } });
  t.ok(active().length < 12, `told ${active().length} times in 300 s`);
  t.end();
});

t.test('the alert of a dead disk is told although its entry never gets there', async (t) => {
  const now = life();
  now.store.disk = 'hangs';
  const { become, active } = watched(now);
  become(FULL);
  t.match(active(), [{ rule: 'store', severity: 'critical' }]);
  await new Promise((resolve) => setTimeout(resolve, 1_050));
  t.match(now.log.lines.at(-1), { level: 'error', fields: { event: 'alert.fire', audit: 'not on disk yet' } });
});

t.test('an agent without a database says for its whole run that nothing is kept', (t) => {
  const { become, alerts } = watched();
  for (let n = 0; n < 10; n++) become({ ok: false, why: 'in memory only', memoryOnly: true });
  t.match(alerts.standing, [{ rule: 'store', severity: 'critical', message: /nothing is kept on disk/ }]);
  t.end();
});

t.test('a database that was set aside stands until all of it is back', (t) => {
  const { become, alerts, active } = watched();
  become(DAMAGED);
  t.match(alerts.standing, [
    { id: 'store-store-local-database', message: /set aside as \/data\/db.damaged-1; it is being/ },
  ]);
  const setAside = { path: '/data/db.damaged-1', why: 'x', salvage: '7 records are back', state: 'whole' as const };
  become({ ...WELL, setAside });
  t.strictSame(alerts.standing, []);
  t.equal(active().at(-1)?.message, '7 records are back');
  t.end();
});

t.test('what an operator has dismissed comes back only after it was over', (t) => {
  const { become, alerts } = watched();
  become(FULL);
  t.equal(alerts.dismiss('store', 'root'), 1);
  become(FULL);
  become({ ...FULL, waiting: { records: 50, lost: 1 } });
  t.strictSame(alerts.standing, []);
  become(WELL);
  become(FULL);
  t.equal(alerts.standing.length, 1);
  t.end();
});

t.test('what an earlier agent left standing ends at the start of one whose store is well, and only then', (t) => {
  const former = watched();
  former.become(FULL);
  const next = watched(life());
  next.alerts.adopt(former.alerts.standing);
  next.become(FULL);
  next.watch.start();
  t.equal(next.alerts.standing.length, 1);
  next.become(WELL);
  t.strictSame(next.alerts.standing, []);
  next.watch.stop();
  t.end();
});
