/**
 * What skos-wireguard-dump leaves for the agent, parsed: the state of WireGuard's peers, without any key but public ones.
 *
 *   skos-wireguard 1 WALL_SECONDS UPTIME_SECONDS
 *   interface wg0
 *   peer wg0 PUBLIC_KEY HANDSHAKE_SECONDS RECEIVED_BYTES SENT_BYTES KEEPALIVE_SECONDS|off ENDPOINT|(none)
 *   end LINES
 *
 * HANDSHAKE_SECONDS is wall time as the kernel stamped it, 0 when there was none. UPTIME_SECONDS is the first word of
 * /proc/uptime. LINES counts those between the first and the last, so that what was cut off is not taken for the whole. Whatever
 * is not exactly this is no dump.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../core/errors.js';

const DIRECTORY = '/run/skos-wireguard';
const FILE = 'dump';
/** Some thousand peers; the dump of a node with more is refused. */
const MAX_BYTES = 512 * 1024;
const HEAD = /^skos-wireguard 1 (\d{1,12}) (\d{1,12}(?:\.\d{1,3})?)$/;
const INTERFACE = /^interface ([A-Za-z0-9_=+.-]{1,15})$/;
const PEER =
  /^peer ([A-Za-z0-9_=+.-]{1,15}) ([A-Za-z0-9+/]{43}=) (\d{1,12}) (\d{1,16}) (\d{1,16}) (\d{1,5}|off) (\S{1,64})$/;

export interface WireguardPeer {
  readonly device: string;
  /** Public. */
  readonly key: string;
  /** Wall time; null when there was none. */
  readonly handshakeAtMs: number | null;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** null: off. */
  readonly keepaliveSeconds: number | null;
  /** "192.0.2.1:51820"; '' when none is known. */
  readonly endpoint: string;
}

export interface WireguardDump {
  readonly wallMs: number;
  /** Since boot, suspended time included. */
  readonly uptimeMs: number;
  readonly devices: readonly string[];
  readonly peers: readonly WireguardPeer[];
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The text of the dump; undefined when there is none. Rejects for what is no plain file, too large or unreadable. */
export async function readDumpText(env: Environment): Promise<string | undefined> {
  const path = join(env.SKOS_WIREGUARD_DIR || DIRECTORY, FILE);
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (handle === undefined) return undefined;
  try {
    const stats = await handle.stat();
    if (!stats.isFile() || stats.size > MAX_BYTES) throw new Error(`${path} is no dump`);
    return await handle.readFile('latin1');
  } finally {
    await handle.close();
  }
}

/** undefined where there is none that can be understood. */
export async function readDump(env: Environment): Promise<WireguardDump | undefined> {
  const text = await readDumpText(env).catch(() => undefined);
  return text === undefined ? undefined : parseDump(text);
}

/** undefined for anything that is not a whole dump. Never throws. */
export function parseDump(text: string): WireguardDump | undefined {
  if (text.length > MAX_BYTES) return undefined;
  const [first = '', ...lines] = text.split('\n');
  const [, wall, uptime] = HEAD.exec(first) ?? [];
  if (wall === undefined || uptime === undefined || lines.pop() !== '') return undefined;
  if (lines.pop() !== `end ${lines.length}`) return undefined;
  const devices: string[] = [];
  const peers: WireguardPeer[] = [];
  for (const line of lines) {
    const [, device] = INTERFACE.exec(line) ?? [];
    if (device !== undefined) {
      devices.push(device);
      continue;
    }
    const peer = peerOf(line);
    if (peer === undefined) return undefined;
    peers.push(peer);
  }
  return { wallMs: Number(wall) * 1000, uptimeMs: Number(uptime) * 1000, devices, peers };
}

function peerOf(line: string): WireguardPeer | undefined {
  const [, device, key, handshake, received, sent, keepalive, endpoint] = PEER.exec(line) ?? [];
  if (device === undefined || key === undefined || endpoint === undefined) return undefined;
  const receivedBytes = Number(received);
  const sentBytes = Number(sent);
  if (!Number.isSafeInteger(receivedBytes) || !Number.isSafeInteger(sentBytes)) return undefined;
  return {
    device,
    key,
    handshakeAtMs: Number(handshake) === 0 ? null : Number(handshake) * 1000,
    receivedBytes,
    sentBytes,
    keepaliveSeconds: keepalive === 'off' ? null : Number(keepalive),
    endpoint: endpoint === '(none)' ? '' : endpoint,
  };
}
