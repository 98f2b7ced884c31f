/**
 * Bounds what comes in on one MQTT connection, before any parser buffers it: the size of a packet (which its fixed
 * header states), bytes and packets per second. It follows the framing of MQTT 3.1.1 section 2.2 and reads no further.
 */
import type { Socket } from 'node:net';
import type { Clock } from '../core/clock.js';
import { TokenBucket } from '../core/token-bucket.js';

export interface InboundLimits {
  readonly maxPacketBytes: number;
  readonly bytesPerSecond: number;
  readonly burstBytes: number;
  readonly packetsPerSecond: number;
  readonly burstPackets: number;
}

const CONTINUES = 0x80;
/** Answers to what we send, so that they come as fast as we send; the bytes per second bound those that do not. */
const PUBACK = 4;
/** MQTT 3.1.1 section 2.2.3: the remaining length has at most four bytes. */
const MAX_LENGTH_BYTES = 4;

export class PacketGuard {
  readonly #clock: Clock;
  #limits: InboundLimits;
  #bytes: TokenBucket;
  #packets: TokenBucket;
  /** -1: the next byte begins a packet. Otherwise bytes of the remaining length seen so far. */
  #lengthBytes = -1;
  #length = 0;
  /** Bytes of the packet's body that are still to come. */
  #toSkip = 0;

  constructor(limits: InboundLimits, clock: Clock) {
    this.#clock = clock;
    this.#limits = limits;
    this.#bytes = new TokenBucket({ clock, perSecond: limits.bytesPerSecond, burst: limits.burstBytes });
    this.#packets = new TokenBucket({ clock, perSecond: limits.packetsPerSecond, burst: limits.burstPackets });
  }

  /** Other limits from here on: who the client is, is known only when it has said so. */
  use(limits: InboundLimits): void {
    const clock = this.#clock;
    this.#limits = limits;
    this.#bytes = new TokenBucket({ clock, perSecond: limits.bytesPerSecond, burst: limits.burstBytes });
    this.#packets = new TokenBucket({ clock, perSecond: limits.packetsPerSecond, burst: limits.burstPackets });
  }

  /** Takes bytes as they come; returns why the connection must end, or undefined. */
  offence(chunk: Buffer): string | undefined {
    if (!this.#bytes.take(chunk.length)) return `more than ${this.#limits.bytesPerSecond} bytes per second`;
    let at = 0;
    while (at < chunk.length) {
      if (this.#toSkip > 0) {
        const skipped = Math.min(this.#toSkip, chunk.length - at);
        this.#toSkip -= skipped;
        at += skipped;
        continue;
      }
      const why = this.#header(chunk[at++] ?? 0);
      if (why !== undefined) return why;
    }
    return undefined;
  }

  #header(byte: number): string | undefined {
    if (this.#lengthBytes === -1) {
      this.#lengthBytes = 0;
      this.#length = 0;
      return byte >> 4 === PUBACK || this.#packets.take(1)
        ? undefined
        : `more than ${this.#limits.packetsPerSecond} packets per second`;
    }
    this.#length += (byte & ~CONTINUES) * 128 ** this.#lengthBytes++;
    if (this.#length > this.#limits.maxPacketBytes) return `a packet larger than ${this.#limits.maxPacketBytes} bytes`;
    if ((byte & CONTINUES) === 0) {
      this.#toSkip = this.#length;
      this.#lengthBytes = -1;
      return undefined;
    }
    return this.#lengthBytes === MAX_LENGTH_BYTES ? 'a malformed packet length' : undefined;
  }
}

/**
 * Puts a guard before all readers of a socket. `push` is where Node hands over what it has read, for plain and for TLS
 * sockets, flowing or not; a wrapping stream would cost every message in the other direction a copy.
 */
export function guardSocket(socket: Socket, guard: PacketGuard, onOffence: (why: string) => void): void {
  const push = socket.push.bind(socket);
  socket.push = (chunk: Buffer | null, encoding?: BufferEncoding): boolean => {
    const why = chunk === null ? undefined : guard.offence(chunk);
    if (why === undefined) return push(chunk, encoding);
    onOffence(why);
    socket.destroy();
    return false;
  };
}
