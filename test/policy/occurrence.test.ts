/** Events become occurrences: bursts, two sources, relations, our own acts. Exact sequences, then what holds for any. */
import fc from 'fast-check';
import t from 'tap';
import type { HardwareEvent } from '../../src/core/ports.js';
import {
  BURST_WINDOW_MS,
  cancelledBy,
  countOf,
  leaderOf,
  MAX_OCCURRENCES,
  NO_OCCURRENCES,
  type Occurrence,
  type OccurrenceState,
  OWN_WINDOW_MS,
  type OwnAct,
  observe,
  RELATION_WINDOW_MS,
  withoutVerdict,
} from '../../src/policy/occurrence.js';
import { GPU, hardwareEvent, recovery, xid } from '../fixtures/hardware-events.js';
import { deepFreeze } from '../fixtures/rules.js';

const START_MS = 1_000_000;

function all(events: readonly HardwareEvent[], ownActs: readonly OwnAct[] = []) {
  let state: OccurrenceState = NO_OCCURRENCES;
  const fresh: Occurrence[] = [];
  for (const event of events) {
    const after = observe(state, event, ownActs);
    if (after.isNew) fresh.push(after.occurrence);
    state = after.state;
  }
  const of = (name: string) => [...state.occurrences.values()].find((each) => each.name === name);
  const leader = (name: string) => {
    const found = of(name);
    return found === undefined ? 'not there' : leaderOf(found, state);
  };
  return { state, fresh, of, leader };
}

t.test('a burst is one occurrence with a count', async (t) => {
  const events = Array.from({ length: 100 }, (_, i) => xid(31, { atMs: START_MS + i * 500 }));
  const { fresh, of } = all(events);
  t.equal(fresh.length, 1);
  t.equal(countOf(of('xid-31') as Occurrence), 100);
});

t.test('the same after a longer silence has happened again', async (t) => {
  const again = START_MS + BURST_WINDOW_MS + 1;
  t.equal(all([xid(31), xid(31, { atMs: again })]).fresh.length, 2);
  t.equal(all([xid(31), xid(31, { atMs: again - 1 })]).fresh.length, 1);
});

t.test('an event that the log and NVML both tell is one, whichever comes first', async (t) => {
  for (const order of [
    ['kmsg', 'nvml'],
    ['nvml', 'kmsg'],
  ] as const) {
    const [first, second] = order.map((origin, i) => xid(79, { origin, atMs: START_MS + i * 900 }));
    const { fresh, of } = all([first as HardwareEvent, second as HardwareEvent]);
    t.equal(fresh.length, 1);
    t.equal(countOf(of('xid-79') as Occurrence), 1);
  }
});

t.test('a word of NVML for an XID is that XID, and not counted beside it', async (t) => {
  const word = (kind: string) => hardwareEvent({ kind, origin: 'nvml', code: null, text: kind });
  for (const [kind, code] of Object.entries({
    double_bit_ecc: 48,
    dram_retirement: 63,
    dram_retirement_failure: 64,
    single_bit_ecc_storm: 92,
  })) {
    const { fresh, of } = all([word(kind), xid(code, { origin: 'nvml' }), xid(code)]);
    t.equal(fresh.length, 1, kind);
    t.equal(countOf(of(`xid-${code}`) as Occurrence), 1, kind);
  }
});

t.test('what differs by device, code or kind of failure is not the same', async (t) => {
  const { fresh } = all([
    xid(79),
    xid(79, { address: '0000:86:00.0' }),
    xid(80),
    hardwareEvent({ kind: 'aer', code: null, detail: { severity: 'corrected' } }),
    hardwareEvent({ kind: 'aer', code: null, detail: { severity: 'fatal' } }),
    hardwareEvent({ kind: 'block', code: null, address: '', detail: { device: 'sda', error: 'I/O' } }),
    hardwareEvent({ kind: 'block', code: null, address: '', detail: { device: 'sdb', error: 'I/O' } }),
  ]);
  t.equal(fresh.length, 7);
});

t.test('finds what an XID accompanies, in either order', async (t) => {
  for (const code of [63, 64, 94, 95, 171, 172]) {
    t.equal(all([xid(48), xid(code, { atMs: START_MS + 100 })]).leader(`xid-${code}`), 'xid-48');
    t.equal(all([xid(code), xid(48, { atMs: START_MS + 100 })]).leader(`xid-${code}`), 'xid-48');
    t.equal(all([xid(code)]).leader(`xid-${code}`), undefined);
  }
  t.equal(all([xid(48), xid(64, { atMs: START_MS + RELATION_WINDOW_MS + 1 })]).leader('xid-64'), undefined, 'too late');
  t.equal(all([xid(48, { address: '0000:86:00.0' }), xid(64)]).leader('xid-64'), undefined, 'another GPU');
});

t.test('clean-up follows any XID of its GPU, and the one that its line names', async (t) => {
  t.equal(all([xid(31), xid(45)]).leader('xid-45'), 'xid-31');
  t.equal(all([xid(45, { detail: { cause: '149' } })]).leader('xid-45'), 'xid-149');
  t.equal(all([xid(45)]).leader('xid-45'), undefined);
  t.equal(all([recovery(1, 'GPU Reset Required'), xid(45)]).leader('xid-45'), undefined, 'a verdict is no cause');
});

t.test('162 cancels 163, and a reset that succeeded what led to it', async (t) => {
  t.strictSame(cancelledBy({ name: 'xid-162' }), ['xid-163']);
  t.ok(cancelledBy({ name: 'amd_reset-succeeded' }).includes('amd_reset-failed'));
  t.strictSame(cancelledBy({ name: 'xid-163' }), []);
});

t.test('an event soon after our own act on that device is marked so', async (t) => {
  const acts: OwnAct[] = [{ kind: 'detach', address: GPU, atMs: START_MS }];
  const after = (event: HardwareEvent) => all([event], acts).fresh[0]?.afterOwn;
  t.equal(after(xid(79, { atMs: START_MS + 100 })), 'detach');
  t.equal(after(xid(79, { atMs: START_MS + OWN_WINDOW_MS + 1 })), null);
  t.equal(after(xid(79, { atMs: START_MS - 1 })), null, 'it came before');
  t.equal(after(xid(79, { address: '0000:86:00.0', atMs: START_MS + 100 })), null, 'another device');
});

t.test('keeps the driver’s latest verdict, from the log and from NVML, until the GPU is served again', async (t) => {
  const said = all([recovery(1, 'GPU Reset Required'), recovery(2, 'Node Reboot Required')]).state;
  t.match(said.verdicts.get(GPU), { code: 2, words: 'Node Reboot Required' });
  const nvml = hardwareEvent({ kind: 'recovery_action', origin: 'nvml', code: null, detail: { recovery_code: '1' } });
  const { fresh, state } = all([nvml, recovery(1, 'GPU Reset Required')]);
  t.equal(fresh.length, 1, 'one event, told twice');
  t.equal(withoutVerdict(state, GPU).verdicts.size, 0);
  t.equal(all([xid(154)]).state.verdicts.size, 0, 'without its words it is no verdict');
});

const anyEvent = fc
  .record({
    kind: fc.constantFrom('xid', 'double_bit_ecc', 'aer', 'oom', 'block', 'mce', 'unheard_of'),
    origin: fc.constantFrom('kmsg' as const, 'nvml' as const),
    address: fc.constantFrom('', GPU, '0000:86:00.0'),
    code: fc.constantFrom(null, 31, 45, 48, 63, 79, 154, 162, 163),
    detail: fc.dictionary(
      fc.constantFrom('severity', 'state', 'cause', 'recovery_code', 'device'),
      fc.string({ maxLength: 8 }),
    ),
    deltaMs: fc.oneof(fc.integer({ min: -5_000, max: 5_000 }), fc.integer({ min: 0, max: 10 * BURST_WINDOW_MS })),
    count: fc.integer({ min: 1, max: 5_000 }),
  })
  .map(({ deltaMs, ...event }) => ({ deltaMs, event: hardwareEvent(event) }));

t.test(
  'under any events: none is lost, none is invented, the state is bounded and never changed in place',
  async () => {
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 60 }), (given) => {
        let state = deepFreeze(NO_OCCURRENCES);
        let nowMs = START_MS;
        const told = { kmsg: 0, nvml: 0 };
        const kept = { kmsg: 0, nvml: 0 };
        for (const { deltaMs, event } of given) {
          nowMs += deltaMs;
          told[event.origin] += event.count;
          const before = new Map(state.occurrences);
          const after = observe(state, { ...event, atMs: nowMs }, []);
          const former = before.get(after.occurrence.key);
          // What a new occurrence replaces is over: its count is final.
          if (after.isNew && former !== undefined) {
            kept.kmsg += former.told.kmsg;
            kept.nvml += former.told.nvml + former.told.alias;
          }
          if (state.occurrences.size > MAX_OCCURRENCES) return false;
          if (JSON.stringify([...state.occurrences]) !== JSON.stringify([...before])) return false;
          if (countOf(after.occurrence) < 1) return false;
          leaderOf(after.occurrence, after.state);
          state = after.state;
        }
        for (const each of state.occurrences.values()) {
          kept.kmsg += each.told.kmsg;
          kept.nvml += each.told.nvml + each.told.alias;
          if (leaderOf(each, state) === each.name) return false;
        }
        return kept.kmsg === told.kmsg && kept.nvml === told.nvml;
      }),
      { numRuns: 300 },
    );
  },
);

t.test('stays within its bound under a flood of different events, and forgets the oldest', async (t) => {
  const events = Array.from({ length: 2 * MAX_OCCURRENCES }, (_, i) => xid(1000 + i, { atMs: START_MS + i }));
  const { state, of } = all(events);
  t.equal(state.occurrences.size, MAX_OCCURRENCES);
  t.equal(of('xid-1000'), undefined);
  t.ok(of(`xid-${1000 + 2 * MAX_OCCURRENCES - 1}`));
});
