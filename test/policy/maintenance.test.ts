import t from 'tap';
import { maintenanceWindows } from '../../src/config/maintenance.js';
import { openWindow } from '../../src/policy/maintenance.js';
import { configOf } from '../fixtures/antibodies.js';

// A zone whose clocks change; Node.js reads it again when it is set.
process.env.TZ = 'Europe/Berlin';

const MINUTE_MS = 60_000;
const open = (written: readonly Record<string, unknown>[], at: string) =>
  openWindow(maintenanceWindows(configOf({ maintenance: written }).maintenance), Date.parse(at))?.name;

t.test(
  'a single window is open from its begin until before its end, in the zone that it names or else the local one',
  async (t) => {
    const utc = [{ name: 'fans', from: '2026-03-01T22:00Z', to: '2026-03-01T23:00:00Z' }];
    t.equal(open(utc, '2026-03-01T21:59:59.999Z'), undefined);
    t.equal(open(utc, '2026-03-01T22:00Z'), 'fans');
    t.equal(open(utc, '2026-03-01T23:00Z'), undefined);
    t.equal(open([{ name: 'local', from: '2026-03-01T22:00', to: '2026-03-01T23:00' }], '2026-03-01T21:00Z'), 'local');
  },
);

t.test('a weekly window reaches over midnight into a day that it does not name', async (t) => {
  const sunday = [{ name: 'sunday', day: 'sun', time: '23:30', minutes: 120 }];
  t.equal(open(sunday, '2026-03-01T23:29+01:00'), undefined);
  t.equal(open(sunday, '2026-03-01T23:30+01:00'), 'sunday');
  t.equal(open(sunday, '2026-03-02T01:29+01:00'), 'sunday');
  t.equal(open(sunday, '2026-03-02T01:30+01:00'), undefined);
  t.equal(open(sunday, '2026-03-02T23:45+01:00'), undefined, 'a Monday');
  t.equal(open([{ name: 'all', day: 'daily', time: '00:00', minutes: 1440 }], '2026-07-05T12:00Z'), 'all');
});

t.test('lasts its minutes and begins at its time on the wall also in the nights when the clocks change', async (t) => {
  const night = [{ name: 'night', day: 'daily', time: '02:30', minutes: 60 }];
  t.equal(open(night, '2026-03-29T03:29+02:00'), undefined, '02:30 does not exist on that day');
  t.equal(open(night, '2026-03-29T03:30+02:00'), 'night');
  t.equal(open(night, '2026-03-29T04:30+02:00'), undefined);
  const long = [{ name: 'long', day: 'sat', time: '22:00', minutes: 600 }];
  t.equal(open(long, '2026-10-25T06:59+01:00'), 'long', 'ten hours, one of them twice on the wall');
  t.equal(open(long, '2026-10-25T07:00+01:00'), undefined);
});

t.test('of several that are open it names the one that closes last', async (t) => {
  const both = [
    { name: 'short', from: '2026-03-01T10:00Z', to: '2026-03-01T11:00Z' },
    { name: 'long', from: '2026-03-01T09:00Z', to: '2026-03-01T13:00Z' },
  ];
  const windows = maintenanceWindows(configOf({ maintenance: both }).maintenance);
  t.strictSame(openWindow(windows, Date.parse('2026-03-01T10:30Z')), {
    name: 'long',
    untilAtMs: Date.parse('2026-03-01T09:00Z') + 240 * MINUTE_MS,
  });
});
