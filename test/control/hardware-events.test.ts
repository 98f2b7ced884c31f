/** From an event to an alert and to its end: what stands, what explains what, what a restart and a reset change. */
import t from 'tap';
import {
  CRITICAL_ENDS_MS,
  FLAP_MS,
  HardwareEvents,
  MAX_NEW_PER_MINUTE,
  MAX_STANDING,
  WARNING_ENDS_MS,
} from '../../src/control/hardware-events.js';
import type { Reading } from '../../src/core/channel.js';
import type { Alert, HardwareEvent } from '../../src/core/ports.js';
import { configOf } from '../fixtures/antibodies.js';
import { type FakeClock, type FakeStore, type Life, life, turns } from '../fixtures/control.js';
import { GPU, hardwareEvent, recovery, xid } from '../fixtures/hardware-events.js';

interface Watched extends Life {
  readonly events: HardwareEvents;
  /** Tells it now. */
  tell(event: HardwareEvent): void;
  pass(durationMs: number): void;
  standing(): string[];
  alert(name: string): Alert | undefined;
  /** The driver of GPU says this from now on. */
  asks(action: number): void;
}

async function watched(
  given: { clock?: FakeClock; store?: FakeStore; bootId?: string; xid?: object; adopt?: readonly Alert[] } = {},
): Promise<Watched> {
  const { bootId = 'boot-1', adopt = [] } = given;
  const now = life({ ...given, config: configOf({ xid: given.xid ?? {} }) });
  now.alerts.adopt(adopt);
  const { config, alerts, record, store, clock, log } = now;
  let asked: Reading | undefined;
  const recoveryAction = (address: string) => (address === GPU ? asked : undefined);
  const events = new HardwareEvents({ config, alerts, record, store, bootId, recoveryAction, clock, log });
  await events.start();
  events.stop(); // The test moves time itself.
  return {
    ...now,
    events,
    tell: (event) => events.event({ ...event, atMs: clock.nowMs }),
    pass: (durationMs) => {
      clock.nowMs += durationMs;
      events.tend();
      alerts.tend(clock.nowMs);
    },
    standing: () => alerts.standing.map(({ channel }) => channel.split('/').at(-1) ?? ''),
    asks: (action) => {
      asked = { value: action, quality: 'ok', atMs: clock.nowMs };
    },
    alert: (name) => alerts.standing.find(({ channel }) => channel.endsWith(`/${name}`)),
  };
}

const kinds = (now: Watched): string[] => now.store.entries.map(({ kind }) => kind);

t.test('an XID becomes an alert with its meaning and the next step, an audit entry and a journal line', async (t) => {
  const now = await watched();
  now.tell(xid(79, { detail: { pid: '12', process: 'python' } }));
  await turns();
  t.match(now.alerts.standing, [
    {
      id: 'gpu-xid-kernel-0000~7e3a3b~7e3a00~7e2e0-xid-79',
      rule: 'gpu-xid',
      agentType: 'hardware_watcher',
      type: 'gpu',
      sensor: 'gpu',
      severity: 'critical',
      state: 'firing',
      verdict: 'ok',
      value: 1,
      threshold: null,
      channel: 'kernel/0000~3a3b~3a00~2e0/xid-79',
      message: /GPU 0000:3b:00\.0: XID 79: GPU has fallen off the bus; to do: .*restart.* \(process python, pid 12\)/,
    },
  ]);
  t.ok(kinds(now).includes('hardware.event') && kinds(now).includes('alert.fire'), kinds(now).join());
  t.match(
    now.log.lines.find(({ fields }) => fields.event === 'hardware.event'),
    { level: 'error' },
  );
});

t.test('a burst of thousands is one alert, one record and a few words', async (t) => {
  const now = await watched();
  for (let i = 0; i < 50; i++) {
    now.tell(xid(31, { count: 100 }));
    now.pass(50);
  }
  now.pass(6_000);
  await turns();
  t.equal(now.alert('xid-31')?.value, 5_000);
  t.match(now.alert('xid-31')?.message, /5000 times/);
  t.equal(kinds(now).filter((kind) => kind === 'hardware.event').length, 1);
  t.ok(now.outlet.of('alert').length <= 3, `${now.outlet.of('alert').length} announcements`);
});

t.test('what the vendor says to ignore is recorded, and no alert', async (t) => {
  const now = await watched();
  now.tell(xid(63));
  await turns();
  t.strictSame(now.standing(), []);
  t.match(now.store.entries, [{ kind: 'hardware.event', what: { severity: null } }]);
});

t.test('an event of a kind that we do not know is recorded as it is', async (t) => {
  const now = await watched();
  now.tell(hardwareEvent({ kind: 'unheard_of', origin: 'nvml', code: null, text: '' }));
  await turns();
  t.strictSame(now.standing(), []);
  t.match(now.store.entries, [{ kind: 'hardware.event', what: { kind: 'unheard_of', origin: 'nvml' } }]);
});

t.test('the driver’s verdict changes the next step of what stands already, and ends with "none"', async (t) => {
  const now = await watched();
  now.tell(xid(94));
  t.match(now.alert('xid-94'), { severity: 'warning', message: /restart the application/ });
  now.pass(100);
  now.tell(recovery(2, 'Node Reboot Required'));
  t.match(now.alert('xid-94'), { severity: 'critical', message: /driver: Node Reboot Required/ });
  t.match(now.alert('xid-154'), { severity: 'critical' });
  now.tell(recovery(0, 'None'));
  t.equal(now.alert('xid-154'), undefined);
});

t.test('the operator’s word on an XID counts', async (t) => {
  const now = await watched({ xid: { 79: { severity: 'emergency', action: 'call Ada' }, 31: { severity: 'none' } } });
  now.tell(xid(79));
  now.tell(xid(31));
  t.match(now.alerts.standing, [{ severity: 'emergency', message: /call Ada/ }]);
});

t.test('clean-up that came before the XID that explains it stops being an alert of its own', async (t) => {
  const now = await watched();
  now.tell(xid(45));
  t.match(now.alert('xid-45'), { severity: 'warning' });
  now.pass(10);
  now.tell(xid(79));
  t.strictSame(now.standing(), ['xid-79']);
});

t.test('a GPU that is lost is one alert, whoever says it', async (t) => {
  const lost = hardwareEvent({ kind: 'gpu_lost', code: null });
  for (const order of [
    [xid(79), lost],
    [lost, xid(79)],
  ]) {
    const now = await watched();
    for (const event of order) now.tell(event);
    t.strictSame(now.standing(), ['xid-79']);
  }
  const alone = await watched();
  alone.tell(lost);
  t.match(alone.alerts.standing, [{ rule: 'gpu-driver', severity: 'critical' }]);
});

t.test('163 is cancelled by 162', async (t) => {
  const now = await watched();
  now.tell(xid(163));
  t.strictSame(now.standing(), ['xid-163']);
  now.tell(xid(162, { address: '0000:86:00.0' }));
  t.strictSame(now.standing(), ['xid-163'], 'not by that of another GPU');
  now.tell(xid(162));
  t.strictSame(now.standing(), []);
});

t.test('a warning ends after 10 minutes without a repeat', async (t) => {
  const now = await watched();
  now.tell(xid(31));
  now.pass(WARNING_ENDS_MS - 1);
  now.tell(xid(31));
  now.pass(WARNING_ENDS_MS - 1);
  t.match(now.alert('xid-31'), { value: 2 });
  now.pass(1);
  t.strictSame(now.standing(), []);
});

t.test('silence is no recovery of a GPU that is not served', async (t) => {
  const now = await watched();
  now.tell(xid(79));
  now.pass(2 * CRITICAL_ENDS_MS);
  t.strictSame(now.standing(), ['xid-79'], 'nobody knows this GPU');
  now.events.gpuState(GPU, 'lost');
  now.pass(2 * CRITICAL_ENDS_MS);
  t.ok(now.alert('xid-79'));
});

t.test('a GPU that skos-gpu finds lost is an alert, also without a word of the kernel', async (t) => {
  const now = await watched();
  now.events.gpuState(GPU, 'serving');
  now.events.gpuState(GPU, 'lost', 'the device is gone from the bus');
  now.events.gpuState(GPU, 'lost', 'the device is gone from the bus');
  t.match(now.alerts.standing, [{ rule: 'gpu-driver', severity: 'critical', value: 1 }]);
  now.events.gpuState(GPU, 'opening');
  now.events.gpuState(GPU, 'serving');
  t.strictSame(now.standing(), []);
});

const away = (now: Watched, ...states: readonly Parameters<HardwareEvents['gpuState']>[1][]) => {
  for (const state of [...states, 'opening', 'serving'] as const) now.events.gpuState(GPU, state);
};

t.test(
  'a critical alert ends when its GPU is served again after it was away and the driver asks for nothing',
  async (t) => {
    const now = await watched();
    away(now);
    now.tell(xid(48));
    now.tell(recovery(1, 'GPU Reset Required'));
    now.tell(xid(31, { address: '0000:86:00.0' }));
    now.asks(0);
    now.pass(100);
    t.equal(
      now.standing().length,
      3,
      'that it is served all the time, and what the driver says meanwhile, ends nothing',
    );
    away(now, 'detached');
    now.pass(100);
    t.equal(now.standing().length, 3, 'nor does what the driver said before it was away');
    now.asks(1);
    now.pass(100);
    t.equal(now.standing().length, 3, 'nor that a reset is still due');
    now.asks(0);
    now.pass(100);
    t.strictSame(now.standing(), ['xid-31'], 'another GPU’s stays');
    now.tell(xid(94));
    t.match(now.alert('xid-94'), { severity: 'warning' }, 'the verdict is over, too');
  },
);

t.test(
  'detach and attach alone are no recovery, nor is a driver that lets go by itself, again and again',
  async (t) => {
    const now = await watched();
    for (const code of [48, 79, 95]) now.tell(xid(code));
    away(now, 'detached');
    now.pass(1_000);
    t.equal(now.standing().length, 3);
    for (let times = 0; times < 3; times++) {
      away(now, 'reset_required');
      now.pass(30_000);
    }
    away(now, 'hung');
    now.pass(CRITICAL_ENDS_MS / 2);
    t.equal(now.standing().length, 3);
    t.equal(now.alerts.dismiss('gpu-xid', 'root'), 3, 'an operator ends them');
  },
);

t.test('what says that a GPU does not answer ends when its driver has it again; what it broke stays', async (t) => {
  for (const state of ['lost', 'failed', 'gone'] as const) {
    const now = await watched();
    now.tell(xid(79));
    now.tell(xid(95));
    away(now, state, 'detached');
    t.strictSame(now.standing(), ['xid-95'], state);
  }
});

t.test('what happens after the return of a GPU is not over with what the driver says of the return', async (t) => {
  const now = await watched();
  now.tell(xid(48));
  away(now, 'detached');
  now.pass(1_000);
  now.tell(xid(95));
  now.asks(0);
  now.pass(1_000);
  t.strictSame(now.standing(), ['xid-95']);
});

t.test('a day of silence is no recovery while the driver asks for a reset', async (t) => {
  const now = await watched();
  away(now);
  now.tell(xid(48));
  now.asks(1);
  now.pass(2 * CRITICAL_ENDS_MS);
  t.ok(now.alert('xid-48'));
  now.asks(0);
  now.pass(1);
  t.strictSame(now.standing(), []);
});

t.test('one that flaps is a few records, and ends after a minute of calm', async (t) => {
  const now = await watched();
  for (let times = 0; times < 500; times++) {
    now.tell(xid(163));
    now.pass(50);
    now.tell(xid(162));
    now.pass(50);
  }
  t.strictSame(now.standing(), ['xid-163']);
  const told = kinds(now).length;
  t.ok(told < 30, `${told} records`);
  now.tell(xid(31)); // Something else of this GPU: no repeat.
  now.pass(FLAP_MS);
  t.equal(now.alert('xid-163'), undefined);
  t.match(now.store.alertPuts.at(-1), { severity: null, message: /cancelled by xid-162/ });
});

t.test('a burst whose lines differ in severity is as severe as its worst line, told once', async (t) => {
  const now = await watched();
  for (let times = 0; times < 200; times++) {
    now.tell(xid(144, { detail: { severity: times % 2 === 0 ? 'fatal' : 'nonfatal' } }));
  }
  t.match(now.alerts.standing, [{ severity: 'critical' }]);
  await turns();
  t.equal(kinds(now).filter((kind) => kind.startsWith('alert.')).length, 1);
});

t.test('an agent that starts takes no first opening of a GPU for its return', async (t) => {
  const now = await watched();
  now.tell(xid(64));
  now.events.gpuState(GPU, 'opening');
  now.events.gpuState(GPU, 'serving');
  t.strictSame(now.standing(), ['xid-64']);
  now.pass(CRITICAL_ENDS_MS);
  t.strictSame(now.standing(), [], 'served for a day without a repeat');
});

t.test('what is no GPU’s ends after a day without a repeat', async (t) => {
  const now = await watched();
  now.tell(
    hardwareEvent({
      kind: 'file_system',
      address: '',
      code: null,
      detail: { device: 'sda1', type: 'ext4', state: 'error' },
    }),
  );
  now.pass(CRITICAL_ENDS_MS - 1);
  t.strictSame(now.standing(), ['file_system-error']);
  now.pass(1);
  t.strictSame(now.standing(), []);
});

t.test('an event after our own act is marked so, in words and in the record', async (t) => {
  const now = await watched();
  now.events.ownAct('detach', GPU);
  now.pass(500);
  now.tell(xid(79));
  await turns();
  t.match(now.alert('xid-79')?.message, /follows our own detach/);
  t.match(now.store.entries[0], { what: { afterOwn: 'detach' } });
});

t.test('a restart of the agent takes alerts over; they go on and end as before', async (t) => {
  const first = await watched();
  first.tell(xid(31));
  first.tell(xid(79));
  const { clock, store } = first;
  clock.nowMs += 60_000;
  const second = await watched({ clock, store, adopt: first.alerts.standing });
  t.strictSame(second.standing().sort(), ['xid-31', 'xid-79']);
  second.alerts.tend(clock.nowMs);
  t.equal(second.standing().length, 2, 'the book closes none that has no rule');
  second.tell(xid(79));
  t.match(second.alert('xid-79'), { value: 2 });
  second.pass(WARNING_ENDS_MS - 60_000);
  t.strictSame(second.standing(), ['xid-79']);
  second.events.gpuState(GPU, 'lost');
  second.events.gpuState(GPU, 'serving');
  t.strictSame(second.standing(), []);
});

t.test('a new boot ends what the former one left', async (t) => {
  const first = await watched();
  first.tell(xid(79));
  const { clock, store } = first;
  const second = await watched({ clock, store, bootId: 'boot-2', adopt: first.alerts.standing });
  t.strictSame(second.standing(), []);
  t.match(store.alertPuts.at(-1), { severity: null, message: /started again/ });
});

t.test('what happens before the former alerts are taken over is neither overwritten nor ended', async (t) => {
  const first = await watched();
  first.tell(xid(79));
  const { clock, store } = first;
  const now = life({ clock, store, config: configOf({}) });
  const { config, alerts, record, log } = now;
  const events = new HardwareEvents({
    config,
    alerts,
    record,
    store,
    bootId: 'boot-2',
    recoveryAction: () => undefined,
    clock,
    log,
  });
  events.event(xid(79, { atMs: clock.nowMs, text: 'new', detail: { pid: '99' } }));
  alerts.adopt(first.alerts.standing);
  await events.start();
  events.stop();
  t.match(alerts.standing, [{ severity: 'critical', message: /pid 99/ }]);
});

t.test('an operator dismisses the alerts of a rule; the next event raises a fresh one', async (t) => {
  const now = await watched();
  now.tell(xid(79));
  now.tell(hardwareEvent({ kind: 'oom', address: '', code: null, detail: { scope: 'cgroup' } }));
  t.equal(now.alerts.dismiss('gpu-xid', 'root'), 1);
  t.strictSame(now.standing(), ['oom-cgroup']);
  now.pass(120_000);
  now.tell(xid(79));
  t.match(now.alert('xid-79'), { value: 1 });
});

t.test('keeps a bound on what stands: the oldest warning makes room, a critical one stays', async (t) => {
  const now = await watched();
  now.tell(xid(79));
  for (let i = 0; i < 2 * MAX_STANDING; i++) {
    now.pass(1_000);
    now.tell(
      hardwareEvent({
        kind: 'edac',
        address: '',
        code: null,
        detail: { severity: 'corrected', controller: String(i) },
      }),
    );
  }
  t.equal(now.alerts.standing.length, MAX_STANDING);
  t.ok(now.alert('xid-79'));
});

t.test(
  'a flood of different events is told up to a bound, the critical ones for longer, and the rest as a number',
  async (t) => {
    const now = await watched();
    const edac = (severity: string, controller: number) =>
      hardwareEvent({ kind: 'edac', address: '', code: null, detail: { severity, controller: String(controller) } });
    for (let i = 0; i < 10_000; i++) now.tell(edac('corrected', i));
    now.tell(edac('uncorrected', 1));
    await turns();
    t.ok(now.alert('edac-uncorrected'));
    for (let i = 0; i < 10_000; i++) now.tell(edac('uncorrected', i));
    await turns();
    t.ok(now.store.entries.length <= 6 * MAX_NEW_PER_MINUTE, `${now.store.entries.length} entries`);
    now.pass(60_000);
    const missed = now.log.lines.filter(({ fields }) => fields.event === 'hardware.missed');
    t.equal(missed.length, 1);
    t.match(missed[0]?.message, /different hardware events/);
    now.tell(xid(31));
    t.ok(now.alert('xid-31'), 'a minute later it is told again');
  },
);

t.test('a store that fails keeps no event from being told', async (t) => {
  const now = await watched();
  now.store.disk = 'fails';
  now.tell(xid(79));
  await turns();
  t.strictSame(now.standing(), ['xid-79']);
});

t.test('events out of order and from before the start are told', async (t) => {
  const now = await watched();
  now.events.event(xid(79, { atMs: now.clock.nowMs - 3_600_000 }));
  now.events.event(xid(64, { atMs: -5 }));
  now.events.event(xid(95, { atMs: now.clock.nowMs + 60_000 }));
  t.equal(now.standing().length, 3);
});
