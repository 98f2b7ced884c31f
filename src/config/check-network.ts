/** What the schema cannot see of the network: who may connect where, peers of one name, routes that lead nowhere. */
import type { Path } from '../core/shape.js';
import { suggest } from '../core/suggest.js';
import type { Config, PeerConfig } from './schema.js';

/** A full mesh: every node dials every other, which serves up to 16 nodes. */
const MAX_PEERS = 15;
const MAX_PORT = 65_535;

type Report = (path: Path, message: string) => void;

export function checkListeners({ mqtt, http, mesh }: Config, report: Report): void {
  const seen = new Map<string, string>();
  for (const [section, listen] of Object.entries({ mqtt: mqtt.listen, http: http.listen, mesh: mesh.listen })) {
    if (listen === null) continue;
    checkPort(portOf(listen), (message) => report([section, 'listen'], message));
    const owner = seen.get(listen);
    if (owner !== undefined)
      report([section, 'listen'], `"${listen}" is taken by ${owner}.listen; expected another port`);
    seen.set(listen, section);
  }
  if (!isLoopback(hostOf(mqtt.listen))) {
    report(
      ['mqtt', 'listen'],
      `"${mqtt.listen}" is not a loopback address; expected 127.0.0.1, [::1] or localhost (peers connect to mesh.listen)`,
    );
  }
}

function checkPort(port: number, report: (message: string) => void): void {
  if (port < 1 || port > MAX_PORT) report(`port ${port} is not from 1 to ${MAX_PORT}`);
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}

function isLoopback(host: string): boolean {
  if (host === 'localhost' || host === '[::1]' || host === '::1') return true;
  const octets = host.split('.');
  return (
    octets.length === 4 &&
    octets[0] === '127' &&
    octets.every((octet) => /^\d{1,3}$/.test(octet) && Number(octet) < 256)
  );
}

export function checkMesh({ mesh, node }: Config, report: Report): void {
  if (mesh.listen !== null && mesh.tls === null) {
    report(['mesh', 'listen'], 'needs mesh.tls; expected ca, cert and key there (peers are admitted by certificate)');
  }
  const names = Object.keys(mesh.peers);
  if (names.length > MAX_PEERS) report(['mesh', 'peers'], `has ${names.length} entries; expected at most ${MAX_PEERS}`);
  for (const [name, peer] of Object.entries(mesh.peers)) {
    if (name === node) report(['mesh', 'peers', name], `"${name}" is this node itself; expected other nodes only`);
    checkPeer(peer, ['mesh', 'peers', name], report);
  }
}

function checkPeer(peer: PeerConfig, path: Path, report: Report): void {
  const [, scheme, , address = ''] = /^(mqtts?):\/\/(.*@)?(.*)$/.exec(peer.url) ?? [];
  const [, host = '', port] = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(address) ?? [];
  const reportUrl = (message: string) => report([...path, 'url'], message);
  if (host === '') reportUrl(`"${peer.url}" names no host; expected mqtts://host:port`);
  if (port !== undefined) {
    if (/^\d+$/.test(port)) checkPort(Number(port), reportUrl);
    else reportUrl(`"${port}" is not a port; expected mqtts://host:port`);
  }
  if (scheme === 'mqtt' && !isLoopback(host))
    reportUrl('sends in the clear; expected mqtts:// (mqtt:// on loopback only)');
  if (scheme !== 'mqtts') return;
  const missing = (['ca', 'cert', 'key'] as const).filter((key) => peer[key] === undefined);
  if (missing.length > 0) report(path, `lacks ${missing.join(', ')}; expected ca, cert and key with mqtts://`);
}

// ---- Tunnels and routes --------------------------------------------------------------------------------------------

export function checkWireguard({ wireguard }: Config, report: Report): void {
  const owners = new Map<string, string>();
  for (const [name, { template, keys, peers }] of Object.entries(wireguard.interfaces)) {
    const path = ['wireguard', 'interfaces', name];
    if (template === undefined && keys !== undefined) report([...path, 'keys'], 'are of no use without template');
    for (const peer of Object.keys(peers)) {
      const owner = owners.get(peer);
      // `ping_peer` and `routes` name a peer, and must mean one.
      if (owner !== undefined)
        report([...path, 'peers', peer], `"${peer}" is a peer of ${owner} already; expected another name`);
      else owners.set(peer, name);
    }
  }
}

export function checkRoutes(config: Config, report: Report): void {
  const known = peerNames(config);
  for (const [name, { peers, via, dev, destination }] of Object.entries(config.routes)) {
    const path = ['routes', name];
    if (via === undefined && dev === undefined) report(path, 'leads nowhere; expected via, dev or both');
    if (via !== undefined && destination !== 'default' && isV6(via) !== isV6(destination))
      report([...path, 'via'], `"${via}" and "${destination}" are of two families; expected one`);
    if (peers.length === 0) report([...path, 'peers'], 'is empty; expected the peers whose loss calls for it');
    peers.forEach((peer, i) => {
      if (known.includes(peer)) return;
      const close = suggest(peer, known);
      const hint =
        close === undefined ? 'expected a key of mesh.peers or of the peers of a tunnel' : `did you mean ${close}?`;
      report([...path, 'peers', i], `there is no peer "${peer}"; ${hint}`);
    });
  }
}

/** Peers of the mesh and of tunnels; one node may be both. */
function peerNames({ mesh, wireguard }: Config): string[] {
  const tunnels = Object.values(wireguard.interfaces).flatMap(({ peers }) => Object.keys(peers));
  return [...new Set([...Object.keys(mesh.peers), ...tunnels])];
}

function isV6(address: string): boolean {
  return address.includes(':');
}
