import t from 'tap';
import { buildEffects } from '../../src/actuators/effects.js';
import { meshHealer } from '../../src/antibodies/mesh-healer.js';
import { jobsOf, unitRunsOf } from '../../src/config/jobs.js';
import { parseAction } from '../../src/core/action-names.js';
import type { Channel } from '../../src/core/channel.js';
import { makeChannel } from '../../src/sensors/make-channel.js';
import { meshChannels } from '../../src/sensors/mesh.js';
import { configOf, cpuTemperature, finding, only, Skipped } from '../fixtures/antibodies.js';
import { LadderDriver } from '../fixtures/rules.js';
import { publicKey } from '../fixtures/wireguard.js';

const written = {
  wireguard: { interfaces: { wg0: { peers: { lyra: { key: publicKey(1) } }, template: '/etc/skos/wg0' }, wg1: {} } },
  mesh: { peers: { lyra: { url: 'mqtt://127.0.0.1:1' }, nova2: { url: 'mqtt://127.0.0.1:2' } } },
};
const route = { peers: ['lyra'], destination: '10.0.0.0/24', via: '10.1.0.2', metric: 50 };

function handshakes(device: string, peer?: string, limits: Channel['limits'] = { max: 180_000 }): Channel {
  return makeChannel({
    source: 'wireguard',
    device,
    name: peer === undefined ? 'handshake_age' : `${peer}_handshake_age`,
    label: 'handshake age',
    quantity: 'durationMs',
    class: 'network',
    limits,
    probe: { kind: 'pushed', feed: 'wireguard' },
    rateHz: 0.2,
    domain: 'wireguard',
    path: device,
  });
}

function rules(channels: Channel[], config: Record<string, unknown> = written) {
  return meshHealer.rulesFor({ config: configOf(config), channels, report: new Skipped() });
}

const silence = (config = written) =>
  only(meshChannels(configOf(config)).filter(({ id }) => id === 'mesh/lyra/silence'));

t.test('a tunnel is restarted when it is down, and its configuration made anew when that was not enough', async (t) => {
  const rule = only(rules([handshakes('wg0')]));
  t.match(rule, { name: 'wireguard', agentType: 'mesh_healer', type: 'mesh', sensor: 'tunnel', standing: false });
  t.same(rule.rungs, [
    { severity: 'warning', raise: 180_000, clear: 144_000, actions: ['restart_wireguard'] },
    { severity: 'critical', raise: 300_000, clear: 144_000, actions: ['regenerate_wireguard_config'] },
  ]);
  t.ok(rule.gapMs >= 15_000);
});

t.test('a peer that is lost is pinged, then routed around, whether of a tunnel or of the mesh', async (t) => {
  t.match(only(rules([handshakes('wg0', 'lyra')])), {
    name: 'mesh-peer',
    rungs: [
      { raise: 180_000, actions: ['ping_peer'] },
      { raise: 300_000, actions: ['failover_route'] },
    ],
  });
  t.match(only(rules([silence()])), {
    name: 'mesh-peer',
    rungs: [
      { raise: 30_000, clear: 24_000, actions: ['ping_peer'] },
      { raise: 60_000, actions: ['failover_route'] },
    ],
  });
});

t.test('watches nothing that need not be fresh, and only warns of a peer that does not hear us', async (t) => {
  const received = { ...handshakes('wg0', 'lyra'), name: 'lyra_received', quantity: 'sizeBytes' } as const;
  t.same(rules([handshakes('wg0', 'idle', {}), received, cpuTemperature()]), []);
  const oneWay = meshChannels(configOf(written)).filter(({ name }) => name === 'one_way');
  t.same(
    rules(oneWay).map(({ name, rungs }) => [name, rungs.map(({ actions }) => actions)]),
    Array(2).fill(['mesh-one-way', [[]]]),
  );
});

t.test('a list of actions of any length becomes steps', async (t) => {
  const steps = (tunnel_down: string[]) =>
    only(rules([handshakes('wg0')], { ...written, mesh: { actions: { tunnel_down } } })).rungs.map(
      ({ severity, actions }) => [severity, ...actions],
    );
  t.same(steps([]), [['warning'], ['critical']]);
  t.same(steps(['alert_human']), [['warning', 'alert_human'], ['critical']]);
  t.same(steps(['ping_peer', 'restart_wireguard', 'alert_human', 'failover_route']), [
    ['warning', 'ping_peer'],
    ['critical', 'restart_wireguard'],
    ['emergency', 'alert_human', 'failover_route'],
  ]);
});

t.test('a route stays its time though the peer is heard again, which may be by this very route', async (t) => {
  t.equal(only(rules([silence()])).keepMs, 10_000);
  t.equal(only(rules([silence()], { ...written, routes: { spare: route } })).keepMs, 600_000);
  const other = { ...route, peers: ['nova2'] };
  t.equal(only(rules([silence()], { ...written, routes: { spare: other } })).keepMs, 10_000);
});

t.test('missing readings neither raise nor release: a dead skos-net is no dead peer', async (t) => {
  const driver = new LadderDriver(only(rules([silence()])));
  driver.without('no_data', 600);
  t.equal(driver.severity, null);
  for (const value of [31_000, 33_000]) {
    driver.nowMs += 2_000;
    driver.sample({ value, quality: 'ok' });
  }
  t.equal(driver.severity, 'warning');
  driver.without('no_data', 600);
  t.equal(driver.severity, 'warning');
});

t.test('says who is meant and since when', async (t) => {
  const said = (channel: Channel, values: number[]) =>
    meshHealer.describe(finding(only(rules([channel])), channel, values));
  t.equal(said(handshakes('wg0'), [181_000, 186_000]), 'Handshake age 186 s of tunnel wg0 exceeds warning threshold');
  t.equal(
    said(handshakes('wg0', 'lyra'), [301_000, 306_000]),
    'Handshake age 306 s of peer lyra in tunnel wg0 exceeds critical threshold',
  );
  t.equal(said(silence(), [31_000, 33_000]), 'Silence 33 s of peer lyra exceeds warning threshold');
});

t.test('each action finds its jobs and routes in the allow-list, or says why it has none', async (t) => {
  const config = configOf({ ...written, routes: { spare: route, other: { ...route, peers: ['nova2'] } } });
  const jobs = new Set(jobsOf(config).map(({ id }) => id));
  const targets = unitRunsOf(config).map(({ id }) => ({ target: id, state: 'idle', former: '-', current: '-' }));
  const built = (name: string, channel: Channel, listed = true) => {
    const action = parseAction(name);
    if (typeof action === 'string') throw new Error(action);
    const allowed = listed ? { jobs, targets } : { jobs: new Set<string>(), targets: [] };
    return buildEffects({ action, channel, config, ...allowed });
  };
  const job = (...ids: string[]) => ({ effects: [], jobs: ids.map((id) => ({ job: id })) });
  t.same(built('restart_wireguard', handshakes('wg0')), job('act/restart_wireguard.wg0'));
  t.same(built('restart_wireguard', handshakes('wg1')), job('act/restart_wireguard.wg1'));
  t.same(built('restart_wireguard', silence()), job('act/restart_wireguard.wg0'), 'the tunnel that leads to the peer');
  t.same(built('regenerate_wireguard_config', handshakes('wg0')), job('act/regenerate_wireguard_config.wg0'));
  t.match(built('regenerate_wireguard_config', handshakes('wg1')), { unavailable: /act\/regenerate/ }, 'no template');
  t.match(built('restart_wireguard', cpuTemperature()), { unavailable: /no interface/ });
  t.same(built('ping_peer', silence()), job('act/ping_peer.lyra'));
  t.same(built('ping_peer', handshakes('wg0')), job('act/ping_peer.lyra'));
  t.match(built('ping_peer', handshakes('wg0', 'peer_0202020202020202')), { unavailable: /no ping/ });
  t.match(built('ping_peer', cpuTemperature()), { unavailable: /no peer/ });
  const spare = { effects: [{ target: 'route/spare', capPpm: 0 }] };
  for (const channel of [silence(), handshakes('wg0'), handshakes('wg0', 'lyra')])
    t.same(built('failover_route', channel), spare, channel.id);
  t.match(built('failover_route', handshakes('wg1')), { unavailable: /no route/ });
  for (const name of ['restart_wireguard', 'ping_peer', 'failover_route'])
    t.match(built(name, handshakes('wg0'), false), { unavailable: /./ }, name);
});
