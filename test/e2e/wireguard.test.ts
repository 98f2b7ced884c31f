/**
 * Two nodes in network namespaces and a real tunnel between them, by wg, wg-quick and wireguard-go: it is up, its configuration is
 * destroyed, it is found down, and regenerate_wireguard_config brings it back. What systemd does is done by wg-quick itself here.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { CommandResult } from '../../src/acts/command.js';
import { pingPeer } from '../../src/acts/ping-peer.js';
import { regenerateWireguard } from '../../src/acts/regenerate-wireguard-config.js';
import { meshHealer } from '../../src/antibodies/mesh-healer.js';
import type { Config } from '../../src/config/schema.js';
import { systemClock as clock } from '../../src/core/clock.js';
import { FileTree } from '../../src/sensors/tree.js';
import { WireguardWatch } from '../../src/sensors/wireguard.js';
import { configOf, Skipped } from '../fixtures/antibodies.js';
import { NetworkNamespace, unavailable } from '../fixtures/network-namespace.js';
import { LadderDriver } from '../fixtures/rules.js';

const TOOLS = ['wg', 'wg-quick', 'wireguard-go', 'ping'];
const missing = TOOLS.filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0);
const skip = unavailable || (missing.length > 0 && `not here: ${missing.join(', ')}`);
/** The sockets of wireguard-go are one directory for the whole machine. */
const DEVICES = { nova: `skn${process.pid}`, lyra: `skl${process.pid}` };

type Name = keyof typeof DEVICES;
const other = { nova: 'lyra', lyra: 'nova' } as const;
const outside = { nova: '10.77.0.1', lyra: '10.77.0.2' };
const inside = { nova: '10.78.0.1', lyra: '10.78.0.2' };

interface Node {
  readonly net: NetworkNamespace;
  readonly directory: string;
  readonly config: Config;
  readonly secrets: readonly string[];
  readonly file: string;
}

async function nodes(t: Test): Promise<Record<Name, Node>> {
  const keys = { nova: keyPair(), lyra: keyPair(), shared: keyPair().own };
  const nets = { nova: await NetworkNamespace.make(t), lyra: await NetworkNamespace.make(t) };
  nets.nova.ip(`link add eth0 type veth peer name eth0 netns ${nets.lyra.pid}`);
  const directory = t.testdir({ nova: {}, lyra: {} });
  const made = (name: Name): Node => {
    const net = nets[name];
    net.sh(`ip addr add ${outside[name]}/24 dev eth0; ip link set eth0 up`);
    const place = join(directory, name);
    const peer = other[name];
    const paths = {
      template: join(place, 'template'),
      keys: join(place, 'keys'),
      config: join(place, `${DEVICES[name]}.conf`),
    };
    writeFileSync(paths.keys, `own = ${keys[name].own}\nshared = ${keys.shared}\n`, { mode: 0o600 });
    writeFileSync(
      paths.template,
      `[Interface]\nPrivateKey = {{own}}\nListenPort = 51820\nAddress = ${inside[name]}/24\nTable = off\n[Peer]\n` +
        `PublicKey = ${keys[peer].public}\nPresharedKey = {{shared}}\nAllowedIPs = ${inside[peer]}/32\n` +
        `Endpoint = ${outside[peer]}:51820\nPersistentKeepalive = 1\n`,
      { mode: 0o644 },
    );
    const peers = { [peer]: { key: keys[peer].public, address: inside[peer] } };
    const config = configOf({ wireguard: { interfaces: { [DEVICES[name]]: { ...paths, peers } } } });
    t.teardown(() => spawnSync('rm', ['-f', `/var/run/wireguard/${DEVICES[name]}.sock`]));
    return { net, directory: place, config, secrets: [keys[name].own, keys.shared], file: paths.config };
  };
  return { nova: made('nova'), lyra: made('lyra') };
}

function keyPair() {
  const own = execFileSync('wg', ['genkey'], { encoding: 'utf8' });
  return { own: own.trim(), public: execFileSync('wg', ['pubkey'], { input: own, encoding: 'utf8' }).trim() };
}

/** `systemctl restart` is wg-quick here. */
function context(name: Name, { net, config, file, directory }: Node) {
  const quick = `WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go LOG_LEVEL=silent wg-quick`;
  const restart = `wg-quick down ${file} >/dev/null 2>&1; ${quick} up ${file}`;
  return {
    args: [DEVICES[name]],
    env: { SKOS_WIREGUARD_DIR: directory },
    config: async () => config,
    clock,
    run: (command: string, args: readonly string[], options: { timeoutMs: number }): Promise<CommandResult> =>
      command === 'systemctl' ? net.run('sh', ['-c', restart], options) : net.run(command, args, options),
  };
}

/** What the agent sees of the tunnel, `aheadSeconds` from now as far as the dump tells; and the dump. */
async function look({ net, directory, config }: Node, watch: WireguardWatch, aheadSeconds = 0) {
  net.sh(`SKOS_WIREGUARD_DIR=${directory} scripts/wireguard-dump`);
  const dump = join(directory, 'dump');
  const text = readFileSync(dump, 'utf8');
  const later = text.replace(/^(\S+ 1) (\d+) ([\d.]+)/, (_, head, wall, uptime) => {
    writeFileSync(join(directory, 'uptime'), `${Number(uptime) + aheadSeconds} 0\n`);
    return `${head} ${Number(wall) + aheadSeconds} ${(Number(uptime) + aheadSeconds).toFixed(2)}`;
  });
  writeFileSync(dump, later);
  const { channels } = await watch.discover(config);
  const feed = watch.feed(channels, 180_000);
  feed.start();
  while (feed.latest(0).atMs === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  feed.stop();
  return { text, channels, reading: feed.latest(0) };
}

t.test(
  'a tunnel that was destroyed is found down, and is up again when its configuration was made anew',
  { skip },
  async (t) => {
    const both = await nodes(t);
    const { nova } = both;
    for (const name of ['nova', 'lyra'] as const)
      t.match(await regenerateWireguard.run(context(name, both[name])), { ok: true }, `${name} comes up`);
    const watch = new WireguardWatch({
      env: { SKOS_WIREGUARD_DIR: nova.directory },
      proc: new FileTree(nova.directory),
      clock,
    });
    const fresh = async () => {
      for (let n = 0; n < 100; n++) {
        const seen = await look(nova, watch);
        if (seen.reading.quality === 'ok' && (seen.reading.value ?? Infinity) < 10_000) return seen;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      throw new Error('no handshake');
    };
    const up = await fresh();
    for (const secret of nova.secrets) t.notOk(up.text.includes(secret), 'no secret is in the dump');
    const asked = await pingPeer.run({ ...context('nova', nova), args: ['lyra'] });
    t.match(asked, { ok: true, summary: 'lyra answers at tunnel and endpoint (2 of 2 addresses)' });

    nova.net.ip(`link del ${DEVICES.nova}`);
    writeFileSync(nova.file, '[Interface]\nnonsense\n', { mode: 0o600 });
    const rule = meshHealer
      .rulesFor({ config: nova.config, channels: up.channels, report: new Skipped() })
      .find(({ name }) => name === 'wireguard');
    if (rule === undefined) throw new Error('nobody watches the tunnel');
    const ladder = new LadderDriver(rule);
    const step = async (aheadSeconds: number) => {
      const { reading } = await look(nova, watch, aheadSeconds);
      ladder.nowMs += 5_000;
      ladder.take({ ...reading, atMs: ladder.nowMs });
    };
    for (const ahead of [100, 185, 190]) await step(ahead);
    t.equal(ladder.severity, 'warning', 'the interface is away: nothing was shaken since');
    for (const ahead of [305, 310]) await step(ahead);
    t.equal(ladder.severity, 'critical');

    const outcome = await regenerateWireguard.run(context('nova', nova));
    t.match(outcome, { ok: true });
    for (const secret of nova.secrets) t.notOk(JSON.stringify(outcome).includes(secret), 'no secret is in the report');
    const healed = await fresh();
    for (let n = 0; n < 6; n++) {
      ladder.nowMs += 5_000;
      ladder.take({ ...healed.reading, atMs: ladder.nowMs });
    }
    t.equal(ladder.severity, null);

    // A template that no peer's network can be made of: the unit does not start, and the file that works is put back.
    const works = readFileSync(nova.file, 'utf8');
    const template = join(nova.directory, 'template');
    writeFileSync(template, readFileSync(template, 'utf8').replace(/AllowedIPs = \S+/, 'AllowedIPs = 10.78.0.300/32'));
    t.match(await regenerateWireguard.run(context('nova', nova)), { ok: false, summary: /put back and runs again/ });
    t.equal(readFileSync(nova.file, 'utf8'), works);
    await fresh();
    for (const name of ['nova', 'lyra'] as const) both[name].net.ip(`link del ${DEVICES[name]}`);
  },
);
