/**
 * ping_peer: asks every address that is known of a peer whether it answers, with ICMP echoes of ping(8). It changes nothing; its
 * report says from which address an answer came: the tunnel's, the endpoint's, that of the mesh.
 *
 * Its unit is the only thing of SKOS Edge beside skos-net that sends packets, and only to addresses that root has configured, or that
 * WireGuard itself speaks to.
 */
import type { Config } from '../config/schema.js';
import { SkosError } from '../core/errors.js';
import { readDump, type WireguardDump } from '../sensors/wireguard-dump.js';
import type { Act, ActContext, Outcome } from './act.js';
import type { CommandResult, RunCommand } from './command.js';

/** Three, because one may be lost on a path that works. */
const ECHOES = 3;
const ECHO_WAIT_SECONDS = 2;
const TIMEOUT_MS = 15_000;

interface Place {
  readonly what: 'mesh' | 'tunnel' | 'endpoint';
  readonly host: string;
}

interface Answer extends Place {
  readonly received: number;
  /** Of the round trips; null without an answer, or where ping does not say. */
  readonly averageMs: number | null;
  readonly why: string;
}

export const pingPeer: Act = {
  reportName: ([peer = '']) => `ping_peer.${named(peer)}`,

  async run({ args: [peer = ''], config, run, env }: ActContext): Promise<Outcome> {
    const places = placesOf(peer, await config(), await readDump(env));
    if (places.length === 0) throw new SkosError('SKOS_ACT_ARGUMENT', `no address of ${peer} is known`);
    const answers = await Promise.all(places.map((place) => ping(place, run)));
    const heard = answers.filter(({ received }) => received > 0);
    const said = heard.length === 0 ? 'does not answer' : `answers at ${heard.map(({ what }) => what).join(' and ')}`;
    return {
      // That nobody answers is what was asked, and no failure of asking.
      ok: answers.some(({ why }) => why === ''),
      summary: `${peer} ${said} (${heard.length} of ${answers.length} addresses)`,
      items: answers.map(line),
      details: { answers },
    };
  },
};

function named(peer: string): string {
  if (/^[a-z0-9][a-z0-9_-]{0,62}$/.test(peer)) return peer;
  throw new SkosError('SKOS_ACT_ARGUMENT', `"${peer}" is no name of a peer`);
}

/** Each address once, by the first thing that it is. */
export function placesOf(peer: string, { mesh, wireguard }: Config, dump: WireguardDump | undefined): Place[] {
  const places: Place[] = [];
  const add = (what: Place['what'], host: string | undefined) => {
    if (host !== undefined && !places.some((known) => known.host === host)) places.push({ what, host });
  };
  const node = Object.hasOwn(mesh.peers, peer) ? mesh.peers[peer] : undefined;
  if (node !== undefined) add('mesh', hostOf(node.url.replace(/^mqtts?:\/\/(.*@)?/, '')));
  for (const [name, { peers }] of Object.entries(wireguard.interfaces)) {
    const tunnel = Object.hasOwn(peers, peer) ? peers[peer] : undefined;
    if (tunnel === undefined) continue;
    add('tunnel', tunnel.address);
    add(
      'endpoint',
      hostOf(dump?.peers.find(({ device, key }) => device === name && key === tunnel.key)?.endpoint ?? ''),
    );
  }
  return places;
}

/** "[2001:db8::1]:51820" and "192.0.2.1:51820"; undefined where there is none. */
function hostOf(address: string): string | undefined {
  const [, bracketed, plain] = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:[\]]+))(?::\d+)?$/.exec(address) ?? [];
  const host = bracketed ?? plain;
  // What begins with a hyphen would be an option of ping.
  return host === undefined || host.startsWith('-') ? undefined : host;
}

async function ping(place: Place, run: RunCommand): Promise<Answer> {
  const args = ['-n', '-q', '-c', String(ECHOES), '-W', String(ECHO_WAIT_SECONDS), place.host];
  return { ...place, ...answerOf(await run('ping', args, { timeoutMs: TIMEOUT_MS })) };
}

/** ping exits with 0 and 1 when it has asked; 2 is trouble of its own, or that the kernel knows no way there, which is an answer. */
function answerOf({ status, stdout, stderr }: CommandResult): Pick<Answer, 'received' | 'averageMs' | 'why'> {
  if (status === 2 && /unreachable|no route to host/i.test(stderr)) return { received: 0, averageMs: null, why: '' };
  const [, received] = /\b(\d+) (?:packets )?received/.exec(stdout) ?? [];
  if ((status !== 0 && status !== 1) || received === undefined) {
    return { received: 0, averageMs: null, why: stderr.trim().slice(0, 200) || `ping ended with ${status}` };
  }
  const [, average] = /= [\d.]+\/([\d.]+)\//.exec(stdout) ?? [];
  return { received: Number(received), averageMs: average === undefined ? null : Number(average), why: '' };
}

function line({ what, host, received, averageMs, why }: Answer): string {
  if (why !== '') return `${host} (${what}): not asked: ${why}`;
  const time = averageMs === null ? '' : `, ${averageMs} ms`;
  return `${host} (${what}): ${received} of ${ECHOES} answers${time}`;
}
