/** Addresses as the config writes them: "127.0.0.1:1883", "[::1]:1883", "mqtts://host:8883". */
import { isIP } from 'node:net';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Of "host:port"; the shape was checked with the config. */
export function hostPort(address: string): HostPort {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

/** Loopback for certain: a name other than localhost may resolve to anything. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost' || host === '::1') return true;
  return isIP(host) === 4 && host.startsWith('127.');
}

export interface BrokerUrl extends HostPort {
  readonly tls: boolean;
}

/** Of "mqtt://host:port" or "mqtts://host:port"; the standard ports where none is written. */
export function brokerUrl(url: string): BrokerUrl {
  const { protocol, hostname, port } = new URL(url);
  const tls = protocol === 'mqtts:';
  return { tls, host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? (tls ? 8883 : 1883) : Number(port) };
}

/** mqtt:// on loopback: no certificate, for tests and for several agents on one machine. */
export function isPlainLoopback(url: string): boolean {
  const { tls, host } = brokerUrl(url);
  return !tls && isLoopback(host);
}
