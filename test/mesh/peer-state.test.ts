import fc from 'fast-check';
import t from 'tap';
import { PeerState } from '../../src/mesh/peer-state.js';

const at = (ms: number) => ({ nowMs: ms, wallMs: 1_000_000 + ms });
const peer = (timeoutMs = 30_000) => new PeerState({ node: 'lyra', timeoutMs, ...at(0) });
const live = { why: '', retained: false };
const retained = { why: 'stopped', retained: true };

t.test('is unknown until it speaks, and offline when it never does', async (t) => {
  const state = peer();
  t.match(state.view, { node: 'lyra', state: 'unknown', why: 'not heard yet', sinceAtMs: 1_000_000 });
  state.linkDown('refused', at(1_000));
  t.equal(state.tick(at(30_000)), false);
  t.equal(state.tick(at(30_001)), true);
  t.match(state.view, { state: 'offline', why: 'no heartbeat for 30 s (refused)', sinceAtMs: 1_030_001 });
});

t.test('a retained status proves an ending, never life', async (t) => {
  const state = peer();
  t.equal(state.status('online', retained, at(1)), false);
  t.equal(state.view.state, 'unknown');
  t.equal(state.status('offline', retained, at(2)), true);
  t.match(state.view, { state: 'offline', why: 'stopped' });
  t.equal(state.status('online', retained, at(3)), false);
  t.equal(state.status('online', live, at(4)), true);
});

t.test('a lost link is unknown, not offline, until the timeout since its last word', async (t) => {
  const state = peer();
  state.status('online', live, at(10_000));
  t.equal(state.linkDown('reset', at(11_000)), true);
  t.match(state.view, { state: 'unknown', why: 'link lost: reset' });
  t.equal(state.tick(at(40_000)), false);
  t.equal(state.tick(at(40_001)), true);
  t.equal(state.view.state, 'offline');
});

t.test('any live word counts as a heartbeat, but brings nobody back from offline', async (t) => {
  const state = peer();
  state.status('online', live, at(0));
  state.heard(at(20_000));
  t.equal(state.tick(at(40_000)), false);
  state.lastWill(at(40_001));
  state.heard(at(40_002));
  t.equal(state.view.state, 'offline');
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
        if (what === 'live' || (what === 'heard' && state.view.state !== 'offline')) lastWord = now;
        if (['offline', 'will'].includes(what) && state.view.state !== 'offline') return false;
        if (state.online && now - lastWord > 30_000) return false;
      }
      return true;
    }),
  );
});
