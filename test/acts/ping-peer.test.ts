import t from 'tap';
import type { CommandResult } from '../../src/acts/command.js';
import { pingPeer, placesOf } from '../../src/acts/ping-peer.js';
import { parseDump } from '../../src/sensors/wireguard-dump.js';
import { configOf } from '../fixtures/antibodies.js';
import { dumpText, publicKey } from '../fixtures/wireguard.js';

const config = configOf({
  mesh: {
    peers: {
      lyra: { url: 'mqtts://user@10.0.0.2:8883', ca: '/a', cert: '/b', key: '/c' },
      six: { url: 'mqtt://[::1]:1883' },
    },
  },
  wireguard: {
    interfaces: { wg0: { peers: { lyra: { key: publicKey(1), address: '10.78.0.2' }, six: { key: publicKey(2) } } } },
  },
});
const dump = parseDump(
  dumpText({
    wall: 1,
    uptime: 1,
    peers: [
      { key: publicKey(1), handshake: 0, endpoint: '192.0.2.7:51820' },
      { key: publicKey(2), handshake: 0, endpoint: '[2001:db8::7]:51820' },
    ],
  }),
);

/** As iputils and busybox print it. */
const ANSWERED: CommandResult = {
  status: 0,
  stdout:
    '3 packets transmitted, 3 received, 0% packet loss, time 2003ms\nrtt min/avg/max/mdev = 0.1/0.25/0.4/0.1 ms\n',
  stderr: '',
};
const SILENT: CommandResult = {
  status: 1,
  stdout: '3 packets transmitted, 0 packets received, 100% packet loss\n',
  stderr: '',
};

const ask = (answers: Record<string, CommandResult>, peer = 'lyra') =>
  pingPeer.run({
    args: [peer],
    env: { SKOS_WIREGUARD_DIR: '/nonexistent' },
    config: async () => config,
    run: async (_command, args) => answers[args.at(-1) ?? ''] ?? { status: null, stdout: '', stderr: 'no ping here' },
    clock: { monotonicMs: () => 0, wallMs: () => 0 },
  });

t.test('knows every address of a peer, once, and takes none for an option', async (t) => {
  t.same(placesOf('lyra', config, dump), [
    { what: 'mesh', host: '10.0.0.2' },
    { what: 'tunnel', host: '10.78.0.2' },
    { what: 'endpoint', host: '192.0.2.7' },
  ]);
  t.same(placesOf('six', config, dump), [
    { what: 'mesh', host: '::1' },
    { what: 'endpoint', host: '2001:db8::7' },
  ]);
  t.same(placesOf('nobody', config, dump), []);
  const odd = configOf({ mesh: { peers: { lyra: { url: 'mqtt://-f:1883' } } } });
  t.same(placesOf('lyra', odd, undefined), []);
});

t.test('reports at which address an answer came, and that none came as an answer', async (t) => {
  t.match(await ask({ '10.0.0.2': SILENT, '10.78.0.2': ANSWERED }), {
    ok: true,
    summary: 'lyra answers at tunnel (1 of 2 addresses)',
    items: ['10.0.0.2 (mesh): 0 of 3 answers', '10.78.0.2 (tunnel): 3 of 3 answers, 0.25 ms'],
  });
  t.match(await ask({ '10.0.0.2': SILENT, '10.78.0.2': SILENT }), { ok: true, summary: /^lyra does not answer/ });
});

t.test('takes an address that there is no way to for one that does not answer', async (t) => {
  const noWay: CommandResult = { status: 2, stdout: '', stderr: 'ping: connect: Network is unreachable\n' };
  t.match(await ask({ '10.0.0.2': noWay, '10.78.0.2': noWay }), {
    ok: true,
    summary: 'lyra does not answer (0 of 2 addresses)',
    items: [/0 of 3 answers/, /0 of 3 answers/],
  });
});

t.test('fails where nobody could be asked, and for a peer that nobody knows', async (t) => {
  t.match(await ask({}), { ok: false, items: [/not asked: no ping here/, /not asked/] });
  await t.rejects(ask({}, 'nobody'), { code: 'SKOS_ACT_ARGUMENT' });
  t.equal(pingPeer.reportName(['lyra']), 'ping_peer.lyra');
  t.throws(() => pingPeer.reportName(['../../etc']), { code: 'SKOS_ACT_ARGUMENT' });
});
