import fc from 'fast-check';
import t from 'tap';
import { PeerState } from '../../src/mesh/peer-state.js';

const at = (ms: number) => ({ nowMs: ms, wallMs: 1_000_000 + ms });
const peer = (timeoutMs = 30_000) => new PeerState({ node: 'lyra', timeoutMs, ...at(0) });
const live = { why: '', retained: false };
const retained = { why: 'stopped', retained: true };

t.test('is unknown until it speaks, and offline when it never does', async (t) => {
  const state = peer();
  t.match(state.view(at(0)), { node: 'lyra', state: 'unknown', why: 'not heard yet', sinceAtMs: 1_000_000 });
  state.linkDown('refused', at(1_000));
  t.equal(state.tick(at(30_000)), false);
  t.equal(state.tick(at(30_001)), true);
  t.match(state.view(at(0)), { state: 'offline', why: 'no heartbeat for 30 s (refused)', sinceAtMs: 1_030_001 });
});

t.test('a retained status proves an ending, never life', async (t) => {
  const state = peer();
  t.equal(state.status('online', retained, at(1)), false);
  t.equal(state.view(at(0)).state, 'unknown');
  t.equal(state.status('offline', retained, at(2)), true);
  t.match(state.view(at(0)), { state: 'offline', why: 'stopped' });
  t.equal(state.status('online', retained, at(3)), false);
  t.equal(state.status('online', live, at(4)), true);
});

t.test('a lost link is unknown, not offline, until the timeout since its last word', async (t) => {
  const state = peer();
  state.status('online', live, at(10_000));
  t.equal(state.linkDown('reset', at(11_000)), true);
  t.match(state.view(at(0)), { state: 'unknown', why: 'link lost: reset' });
  t.equal(state.tick(at(40_000)), false);
  t.equal(state.tick(at(40_001)), true);
  t.equal(state.view(at(0)).state, 'offline');
});

t.test('any live word counts as a heartbeat, but brings nobody back from offline', async (t) => {
  const state = peer();
  state.status('online', live, at(0));
  state.heard(at(20_000));
  t.equal(state.tick(at(40_000)), false);
  state.lastWill(at(40_001));
  state.heard(at(40_002));
  t.equal(state.view(at(0)).state, 'offline');
});

t.test('never online without a live word within the timeout, whatever happens', async () => {
  const event = fc.constantFrom('live', 'retained', 'offline', 'will', 'up', 'down', 'heard', 'wait');
  fc.assert(
    fc.property(fc.array(fc.tuple(event, fc.nat(20_000))), (events) => {
      const state = peer();
      let now = 0;
      let lastWord = -Infinity;
      for (const [what, afterMs] of events) {
        now += afterMs;
        state.tick(at(now));
        if (what === 'live') state.status('online', live, at(now));
        if (what === 'retained') state.status('online', retained, at(now));
        if (what === 'offline') state.status('offline', live, at(now));
        if (what === 'will') state.lastWill(at(now));
        if (what === 'up') state.linkUp();
        if (what === 'down') state.linkDown('x', at(now));
        if (what === 'heard') state.heard(at(now));
        if (what === 'live' || (what === 'heard' && state.view(at(0)).state !== 'offline')) lastWord = now;
        if (['offline', 'will'].includes(what) && state.view(at(0)).state !== 'offline') return false;
        if (state.online && now - lastWord > 30_000) return false;
      }
      return true;
    }),
  );
});

t.test(
  'tells how long a peer is silent, and of one that has not spoken only when the time for it is over',
  async (t) => {
    const state = peer();
    t.equal(state.view(at(29_999)).silentMs, null, 'skos-net was started a moment ago: nothing is known');
    t.equal(state.view(at(30_001)).silentMs, 30_001);
    state.status('online', retained, at(31_000));
    t.equal(state.view(at(31_000)).silentMs, 31_000, 'old words are no word');
    state.status('online', live, at(40_000));
    state.heard(at(41_000));
    t.equal(state.view(at(43_000)).silentMs, 2_000);
    state.lastWill(at(44_000));
    state.heard(at(45_000));
    t.equal(state.view(at(50_000)).silentMs, 9_000);
  },
);

t.test('tells how long a peer that is heard does not hear this node, and nothing when it is not heard', async (t) => {
  const state = peer();
  state.status('online', live, at(0));
  t.equal(state.view(at(1)).deafMs, null, 'it has not said');
  state.hears('unknown', at(1_000));
  state.hears('offline', at(2_000));
  t.equal(state.view(at(6_000)).deafMs, 5_000);
  state.hears('online', at(7_000));
  t.equal(state.view(at(8_000)).deafMs, 0);
  state.hears('offline', at(9_000));
  state.linkDown('reset', at(10_000));
  t.equal(state.view(at(20_000)).deafMs, null);
  state.status('online', live, at(21_000));
  t.equal(state.view(at(21_000)).deafMs, null, 'what it said on the former link does not count');
  state.hears('offline', at(22_000));
  t.equal(state.view(at(23_000)).deafMs, 1_000);
  state.hears(undefined, at(24_000));
  t.equal(state.view(at(25_000)).deafMs, null);
});
