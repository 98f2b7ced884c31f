/** WireGuard's tunnels as channels: what a dump proves, what it does not, and what no dump can make us say. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { Channel } from '../../src/core/channel.js';
import { systemClock } from '../../src/core/clock.js';
import { FileTree } from '../../src/sensors/tree.js';
import { isCounted, tunnelPeerOf, WireguardWatch } from '../../src/sensors/wireguard.js';
import { parseDump } from '../../src/sensors/wireguard-dump.js';
import { configOf } from '../fixtures/antibodies.js';

import { type DumpedPeer, dumpText, privateKey, publicKey } from '../fixtures/wireguard.js';

const LYRA = publicKey(1);
const ATHENA = publicKey(2);
const WALL = 1_795_000_000;
const UPTIME = 5_000;
const config = configOf({ wireguard: { interfaces: { wg0: { peers: { lyra: { key: LYRA } } } } } });

interface Look {
  /** Seconds since the first. */
  readonly at: number;
  /** Added to the wall clock. */
  readonly clockSet?: number;
  readonly peers?: readonly DumpedPeer[];
  readonly devices?: readonly string[];
}

/** The watch of wg0, looked at by hand: what each look says of a channel. */
class Watched {
  readonly watch: WireguardWatch;
  readonly directory: string;

  constructor(t: Test) {
    this.directory = t.testdir({});
    this.watch = new WireguardWatch({
      env: { SKOS_WIREGUARD_DIR: this.directory },
      proc: new FileTree(this.directory),
      clock: systemClock,
    });
  }

  dump({ at, clockSet = 0, peers = [], devices }: Look): void {
    const parts = { wall: WALL + at + clockSet, uptime: UPTIME + at, peers, ...(devices ? { devices } : {}) };
    this.write(dumpText(parts), at);
  }

  write(text: string, at: number): void {
    writeFileSync(join(this.directory, 'dump'), text);
    writeFileSync(join(this.directory, 'uptime'), `${UPTIME + at}.25 1.00\n`);
  }

  /** Name → value in seconds, or why there is none. */
  async read(channels: readonly Channel[], staleMs = 180_000): Promise<Record<string, number | string>> {
    const feed = this.watch.feed(channels, staleMs);
    feed.start();
    const said: Record<string, number | string> = {};
    for (let n = 0; n < 200 && Object.keys(said).length < channels.length; n++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      feed.drain((i, value, quality) => {
        const { name = '', quantity } = channels[i] ?? {};
        said[name] = quality === 'ok' ? (quantity === 'durationMs' ? value / 1000 : value) : quality;
      });
    }
    feed.stop();
    return said;
  }

  async look(channels: readonly Channel[], look: Look): Promise<Record<string, number | string>> {
    this.dump(look);
    return this.read(channels);
  }
}

const lyra = (handshake: number): DumpedPeer => ({ key: LYRA, handshake });

t.test(
  'watches only interfaces that the configuration names, and of their peers those that must be fresh',
  async (t) => {
    const each = new Watched(t);
    t.same(await each.watch.discover(configOf({})), { channels: [], skipped: [] });
    const peers = [
      { key: LYRA, handshake: 0 },
      { key: ATHENA, handshake: 0, keepalive: 25 },
      { key: publicKey(3), handshake: 0 },
      { key: publicKey(4), handshake: 0, keepalive: 60 },
      { device: 'wg9', key: publicKey(5), handshake: 0, keepalive: 25 },
    ];
    each.dump({ at: 0, devices: ['wg0', 'wg9'], peers });
    const { channels, skipped } = await each.watch.discover(config);
    t.same(skipped, []);
    t.same(
      channels.filter(isCounted).map(({ id }) => id),
      [
        'wireguard/wg0/handshake_age',
        'wireguard/wg0/lyra_handshake_age',
        'wireguard/wg0/peer_0202020202020202_handshake_age',
      ],
      'a keepalive that lets a handshake be as old as the bound proves nothing',
    );
    t.equal(channels.length, 1 + 4 * 3);
    t.same(
      channels.filter(isCounted).map((channel) => tunnelPeerOf(channel)),
      [undefined, 'lyra', 'peer_0202020202020202'],
    );
  },
);

t.test('says what it lacks: a dump, an interface, somebody who counts', async (t) => {
  const each = new Watched(t);
  const words = async (wireguard: unknown) =>
    (await each.watch.discover(configOf({ wireguard }))).skipped.map(({ what, why }) => `${what}: ${why}`);
  const bare = { interfaces: { wg0: {} } };
  t.match(await words(bare), [/^dump: .*skos-wireguard-dump\.timer/, /^wg0: nobody can tell/]);
  each.dump({ at: 0, devices: [] });
  t.match(await words(bare), [/^wg0: there is no such/, /^wg0: nobody can tell/]);
});

t.test('counts an age by the time since boot, whatever is done to the clock meanwhile', async (t) => {
  const each = new Watched(t);
  each.dump({ at: 0, peers: [lyra(WALL - 20)] });
  const { channels } = await each.watch.discover(config);
  t.match(await each.read(channels), { handshake_age: 20, lyra_handshake_age: 20, lyra_received: 148, lyra_sent: 92 });
  const old = [lyra(WALL - 20)];
  t.match(await each.look(channels, { at: 10, clockSet: 86_400, peers: old }), { lyra_handshake_age: 30 });
  t.match(await each.look(channels, { at: 20, clockSet: -86_400, peers: old }), { lyra_handshake_age: 40 });
  t.match(await each.look(channels, { at: 30, peers: [lyra(WALL + 29)] }), { lyra_handshake_age: 1 });
  t.match(await each.look(channels, { at: 30, peers: [lyra(WALL + 31)] }), { lyra_handshake_age: 0 }, 'made meanwhile');
});

t.test(
  'takes a handshake of the future for a fault, until the time that has passed proves the tunnel down',
  async (t) => {
    const each = new Watched(t);
    each.dump({ at: 0, peers: [lyra(WALL + 3_600)] });
    const { channels } = await each.watch.discover(config);
    t.match(await each.read(channels), { handshake_age: 'fault', lyra_handshake_age: 'fault' });
    const future = { peers: [lyra(WALL + 3_600)] };
    t.match(await each.look(channels, { at: 180, ...future }), { lyra_handshake_age: 'fault' });
    t.match(await each.look(channels, { at: 181, ...future }), { handshake_age: 181, lyra_handshake_age: 181 });
  },
);

t.test('an interface that was restarted, or is away, is no recovery', async (t) => {
  const each = new Watched(t);
  each.dump({ at: 0, peers: [lyra(WALL - 200)] });
  const { channels } = await each.watch.discover(config);
  t.match(await each.read(channels), { handshake_age: 200, lyra_handshake_age: 200 });
  t.match(await each.look(channels, { at: 10, peers: [lyra(0)] }), { handshake_age: 210, lyra_handshake_age: 210 });
  const away = await each.look(channels, { at: 20, devices: [] });
  t.match(away, { handshake_age: 220, lyra_handshake_age: 220, lyra_received: 'no_data' });
  t.match(await each.look(channels, { at: 30 }), { lyra_handshake_age: 230 }, 'the peer was taken out of the tunnel');
});

t.test('who never had a handshake is unknown, until it had the time to make one', async (t) => {
  const each = new Watched(t);
  each.dump({ at: 0, devices: [] });
  const { channels } = await each.watch.discover(config);
  t.match(await each.read(channels), { handshake_age: 'no_data', lyra_handshake_age: 'no_data' });
  t.match(await each.look(channels, { at: 180, peers: [lyra(0)] }), { lyra_handshake_age: 'no_data' });
  t.match(await each.look(channels, { at: 181, peers: [lyra(0)] }), { handshake_age: 181, lyra_handshake_age: 181 });
});

t.test('what was seen of a peer outlives a new discovery', async (t) => {
  const each = new Watched(t);
  each.dump({ at: 0, peers: [lyra(WALL - 200)] });
  const first = await each.watch.discover(config);
  await each.read(first.channels);
  each.dump({ at: 10, peers: [lyra(0)] });
  const second = await each.watch.discover(config);
  t.match(await each.read(second.channels), { lyra_handshake_age: 210 });
});

t.test('one fresh peer proves that the interface works; that none is fresh takes all of them', async (t) => {
  const each = new Watched(t);
  const both = configOf({
    wireguard: { interfaces: { wg0: { peers: { lyra: { key: LYRA }, athena: { key: ATHENA } } } } },
  });
  const athena = (handshake: number): DumpedPeer => ({ key: ATHENA, handshake });
  each.dump({ at: 0, peers: [lyra(WALL - 500), athena(WALL - 5)] });
  const { channels } = await each.watch.discover(both);
  t.match(await each.read(channels), { handshake_age: 5, lyra_handshake_age: 500 });
  t.match(await each.look(channels, { at: 300, peers: [lyra(WALL - 500), athena(WALL - 5)] }), { handshake_age: 305 });
  const unknown = new Watched(t);
  unknown.dump({ at: 0, peers: [lyra(WALL - 500), athena(0)] });
  t.match(await unknown.read((await unknown.watch.discover(both)).channels), { handshake_age: 'no_data' });
});

t.test('a peer that the configuration does not name may leave a tunnel that is up', async (t) => {
  const each = new Watched(t);
  const kept: DumpedPeer = { key: ATHENA, handshake: WALL - 200, keepalive: 25 };
  each.dump({ at: 0, peers: [kept] });
  const { channels } = await each.watch.discover(configOf({ wireguard: { interfaces: { wg0: {} } } }));
  const name = 'peer_0202020202020202_handshake_age';
  t.match(await each.read(channels), { [name]: 200, handshake_age: 200 });
  t.match(await each.look(channels, { at: 5, devices: [] }), { [name]: 205, handshake_age: 205 }, 'wg0 is down');
  t.match(await each.look(channels, { at: 10 }), { [name]: 'no_data' });
});

t.test(
  'a dump that nobody renews, of another boot, damaged, absent or no file at all says nothing of tunnels',
  async (t) => {
    const each = new Watched(t);
    each.dump({ at: 0, peers: [lyra(WALL - 1)] });
    const { channels } = await each.watch.discover(config);
    const text = dumpText({ wall: WALL, uptime: UPTIME, peers: [lyra(WALL - 1)] });
    const all = async (word: string, at: number, written: string) => {
      each.write(written, at);
      const told = Object.values(await each.read(channels));
      t.same(told, Array(4).fill(word), `${word}: ${written.slice(0, 30)}`);
    };
    await all('stale', 36, text);
    await all('stale', -60, text);
    await all('fault', 1, text.slice(0, -8));
    await all('fault', 1, '');
    await all('fault', 1, 'x'.repeat(600_000));
    const absent = new Watched(t);
    t.match(await absent.read(channels), { handshake_age: 'no_data' });
    const odd = new Watched(t);
    mkdirSync(join(odd.directory, 'dump'));
    t.match(await odd.read(channels), { handshake_age: 'fault' });
  },
);

t.test('takes a whole dump only, and nothing in it but what it states', async (t) => {
  const peers: DumpedPeer[] = [
    { ...lyra(WALL - 1), keepalive: 25, endpoint: '[2001:db8::1]:51820' },
    { key: ATHENA, handshake: 0 },
  ];
  const text = dumpText({ wall: WALL, uptime: UPTIME, peers });
  t.match(parseDump(text), {
    wallMs: WALL * 1000,
    devices: ['wg0'],
    peers: [
      { key: LYRA, handshakeAtMs: (WALL - 1) * 1000, keepaliveSeconds: 25, endpoint: '[2001:db8::1]:51820' },
      { key: ATHENA, handshakeAtMs: null, keepaliveSeconds: null, endpoint: '' },
    ],
  });
  // As wg prints it, with the keys that nobody may see: such a line is refused with the whole dump.
  const withSecret = text.replace('interface wg0', `interface wg0 ${privateKey()}`);
  t.equal(parseDump(withSecret), undefined);
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.constantFrom('cut', 'drop', 'double', 'space'), (at, how) => {
      const broken = {
        cut: text.slice(0, at),
        drop: text.slice(0, at) + text.slice(at + 1),
        double: `${text.slice(0, at)}\n${text.slice(at)}`,
        space: `${text.slice(0, at)} ${text.slice(at)}`,
      }[how];
      const parsed = parseDump(broken);
      // A digit less is another number; a line more or less is never a dump.
      return how === 'drop' ? parsed === undefined || parsed.peers.length === 2 : parsed === undefined;
    }),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 200 }), (garbage) => parseDump(garbage) === undefined),
    { numRuns: 100 },
  );
});

t.test(
  'the dump is made of what wg says of each fact, and a question without an answer leaves the former one',
  async (t) => {
    const directory = t.testdir({ bin: {}, out: { dump: 'former' } });
    const wg = (script: string) => writeFileSync(join(directory, 'bin/wg'), `#!/bin/sh\n${script}`, { mode: 0o755 });
    const env = { PATH: `${directory}/bin:${process.env.PATH}`, SKOS_WIREGUARD_DIR: join(directory, 'out') };
    const dump = () => spawnSync('scripts/wireguard-dump', { env, encoding: 'utf8' }).status;
    const facts = (last: string) => `case $3 in
    listen-port) printf 'wg0\\t51820\\nwg1\\t51821\\n' ;;
    latest-handshakes) printf 'wg0\\t${LYRA}\\t${WALL}\\nwg0\\t${ATHENA}\\t0\\n' ;;
    transfer) printf 'wg0\\t${LYRA}\\t148\\t9007199254740991\\n' ;;
    persistent-keepalive) printf 'wg0\\t${LYRA}\\toff\\nwg0\\t${ATHENA}\\t25\\n' ;;
    endpoints) ${last} ;;
    *) exit 9 ;;
  esac`;
    wg(facts('exit 1'));
    t.not(dump(), 0);
    t.equal(readFileSync(join(directory, 'out/dump'), 'utf8'), 'former');
    wg(facts(`printf 'wg0\\t${LYRA}\\t(none)\\nwg0\\t${ATHENA}\\t(none)\\n'`));
    t.equal(dump(), 0);
    t.same(readdirSync(join(directory, 'out')), ['dump'], 'nothing is left beside it');
    const parsed = parseDump(readFileSync(join(directory, 'out/dump'), 'utf8'));
    t.match(parsed, { devices: ['wg0', 'wg1'], peers: [{ key: LYRA, sentBytes: 9_007_199_254_740_991 }] });
    t.equal(parsed?.peers.length, 1, 'a peer that came between two questions is told the next time');
    wg('exit 0');
    t.equal(dump(), 0);
    t.match(parseDump(readFileSync(join(directory, 'out/dump'), 'utf8')), { devices: [], peers: [] });
  },
);
