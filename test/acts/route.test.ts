/** Routes for a while, by the real `ip` in a network namespace: what is added, and that afterwards exactly what was is there. */
import { existsSync, readdirSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { RunCommand } from '../../src/acts/command.js';
import { route } from '../../src/acts/route.js';
import { configOf } from '../fixtures/antibodies.js';
import { NetworkNamespace, unavailable } from '../fixtures/network-namespace.js';
import { until } from '../fixtures/until.js';

const SPARE = { peers: ['lyra'], destination: '10.5.0.0/24', via: '10.2.0.9', dev: 'second', metric: 50 };

/** Two ways out, the first of which is used. */
async function place(t: Test, written: Record<string, unknown> = SPARE) {
  const net = await NetworkNamespace.make(t);
  // Without addresses of the kernel's own: their routes come later, and so does that of an address which is given.
  net.sh(`ip link add first type veth peer name a; ip link add second type veth peer name b
    for i in first second a b; do ip link set $i addrgenmode none; ip link set $i up; done
    ip addr add 10.1.0.1/24 dev first; ip addr add 10.2.0.1/24 dev second; ip -6 addr add 2001:db8:1::1/64 dev second nodad
    ip route add 10.5.0.0/24 via 10.1.0.9 dev first proto static metric 100 mtu 1400
    ip route add default via 10.1.0.9 dev first`);
  const directory = t.testdir({});
  let peers: Record<string, unknown> = { spare: written };
  const act = (args: string[], run: RunCommand = net.run) =>
    route.run({
      args,
      env: { SKOS_ROUTE_DIR: directory },
      config: async () => configOf({ mesh: { peers: { lyra: { url: 'mqtt://127.0.0.1:1' } } }, routes: peers }),
      run,
      clock: { monotonicMs: () => 0, wallMs: () => 0 },
    });
  const routes = () => net.sh('ip route show table all; ip -6 route show table all');
  await until(() => routes().includes('local 2001:db8:1::1 dev second'));
  const way = (to: string) => /dev (\S+)/.exec(net.ip(`route get ${to}`))?.[1];
  const configure = (routes: Record<string, unknown>) => {
    peers = routes;
  };
  return { net, directory, act, routes, way, configure };
}

t.test(
  'a route goes before the one whose place it takes, and leaves exactly what was',
  { skip: unavailable },
  async (t) => {
    const { act, routes, way, directory } = await place(t);
    const before = routes();
    t.equal(way('10.5.0.7'), 'first');
    t.match(await act(['add', 'spare']), { ok: true });
    t.equal(way('10.5.0.7'), 'second');
    t.match(await act(['add', 'spare']), { ok: true }, 'once more, as after a kill');
    t.equal(routes().match(/proto 119/g)?.length, 1);
    t.match(await act(['remove', 'spare']), { ok: true });
    t.equal(routes(), before);
    t.same(readdirSync(directory), []);
    t.match(await act(['remove', 'spare']), { ok: true, summary: /nothing to take away/ });
    t.equal(routes(), before);
  },
);

t.test('IPv6, default routes and tables of their own are routes, too', { skip: unavailable }, async (t) => {
  const kinds = [
    { destination: '2001:db8:5::/48', via: '2001:db8:1::9', metric: 50, peers: ['lyra'] },
    { destination: 'default', dev: 'second', metric: 7, table: 100, peers: ['lyra'] },
  ];
  const { act, routes, configure } = await place(t);
  const before = routes();
  for (const kind of kinds) {
    configure({ spare: kind });
    t.match(await act(['add', 'spare']), { ok: true }, kind.destination);
    t.not(routes(), before);
    t.match(await act(['remove', 'spare']), { ok: true }, kind.destination);
    t.equal(routes(), before, kind.destination);
  }
});

t.test('killed at any step, what was added is taken away, and nothing else', { skip: unavailable }, async (t) => {
  const { net, act, routes, directory } = await place(t);
  const before = routes();
  for (const moment of ['before', 'behind']) {
    const killed: RunCommand = async (command, args, options) => {
      if (!args.includes('add')) return net.run(command, args, options);
      if (moment === 'behind') await net.run(command, args, options);
      throw new Error('killed');
    };
    await t.rejects(act(['add', 'spare'], killed), { message: 'killed' });
    t.ok(existsSync(`${directory}/spare.json`), 'noted before it was done');
    t.match(await act(['remove', 'spare']), { ok: true }, moment);
    t.equal(routes(), before, moment);
  }
});

t.test('what somebody else did meanwhile is theirs', { skip: unavailable }, async (t) => {
  const { net, act, routes, configure } = await place(t);
  await act(['add', 'spare']);
  net.ip('route replace 10.5.0.0/24 via 10.2.0.8 dev second metric 50 proto static');
  const theirs = routes();
  t.match(await act(['remove', 'spare']), { ok: true, summary: /changed by somebody else/ });
  t.equal(routes(), theirs);
  net.ip('route del 10.5.0.0/24 metric 50');
  const before = routes();
  await act(['add', 'spare']);
  configure({});
  t.match(await act(['remove', 'spare']), { ok: true }, 'taken out of the configuration meanwhile');
  t.equal(routes(), before);
  configure({ spare: SPARE });
  await act(['add', 'spare']);
  net.ip('link del second');
  t.match(await act(['remove', 'spare']), { ok: true }, 'the interface is gone, and the route with it');
});

t.test(
  'refuses a route that would change nothing, that is there, or that the kernel does not take',
  { skip: unavailable },
  async (t) => {
    const { act, routes, configure, directory } = await place(t);
    const before = routes();
    const refused = async (change: Record<string, unknown>, message: RegExp) => {
      configure({ spare: { ...SPARE, ...change } });
      await t.rejects(act(['add', 'spare']), { code: 'SKOS_ACT_REFUSED', message });
    };
    await refused({ metric: 100 }, /another one with metric 100/);
    await refused({ metric: 200 }, /over 10\.1\.0\.9 has metric 100 and would still be taken/);
    configure({ spare: { ...SPARE, via: '10.9.9.9' } });
    t.match(await act(['add', 'spare']), { ok: false, summary: /was not added/ });
    configure({});
    await t.rejects(act(['add', 'spare']), { code: 'SKOS_ACT_ARGUMENT' });
    await t.rejects(act(['add', '../spare']), { code: 'SKOS_ACT_ARGUMENT' });
    await t.rejects(act(['change', 'spare']), { code: 'SKOS_ACT_ARGUMENT' });
    t.equal(routes(), before);
    t.same(readdirSync(directory), []);
  },
);
