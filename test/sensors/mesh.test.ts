import t from 'tap';
import { systemClock } from '../../src/core/clock.js';
import type { PeerView } from '../../src/core/protocol.js';
import { meshChannels, meshFeed } from '../../src/sensors/mesh.js';
import { configOf } from '../fixtures/antibodies.js';

const peers = { lyra: { url: 'mqtt://127.0.0.1:1' }, athena: { url: 'mqtt://127.0.0.1:2' } };
const view = (node: string, silentMs: number | null, deafMs: number | null): PeerView => ({
  node,
  state: 'unknown',
  sinceAtMs: 0,
  why: '',
  silentMs,
  deafMs,
});

t.test('a peer has a channel for its silence and one for its deafness, unless a site has a broker', async (t) => {
  t.same(
    meshChannels(configOf({ mesh: { peers } })).map(({ id }) => id),
    ['mesh/lyra/silence', 'mesh/lyra/one_way', 'mesh/athena/silence', 'mesh/athena/one_way'],
  );
  t.same(meshChannels(configOf({ mesh: { peers }, mqtt: { url: 'mqtt://site:1883' } })), []);
});

t.test('tells what skos-net heard, and nothing of peers while skos-net is not there', async (t) => {
  let views: readonly PeerView[] | undefined = [view('lyra', 12_345.6, 0)];
  const channels = meshChannels(configOf({ mesh: { peers } }));
  const feed = () => meshFeed({ channels, peers: () => views, clock: systemClock });
  const read = async () => {
    const each = feed();
    each.start();
    await new Promise((resolve) => setTimeout(resolve, 5));
    each.stop();
    return channels.map((_, i) => each.latest(i)).map(({ value, quality }) => value ?? quality);
  };
  t.same(await read(), [12_346, 0, 'no_data', 'no_data']);
  views = [view('lyra', null, null), view('athena', 50_000, null)];
  t.same(await read(), ['no_data', 'no_data', 50_000, 'no_data']);
  views = undefined;
  t.same(await read(), Array(4).fill('no_data'));
});
