/** Connections to the native programs: each packet is one message. */
import { type ErrorCode, SkosError } from '../core/errors.js';
import type { PacketSocket } from '../core/ports.js';
import type { Addon } from '../sensors/addon.js';

/** With `absent` where nothing answers. A descriptor that comes with a packet is the receiver's; -1 is none. */
export function packetConnector(
  addon: Addon,
  absent: ErrorCode,
): (path: string, onPacket: (packet: string | null, fd: number) => void) => PacketSocket {
  return (path, onPacket) => {
    const socket = addon.createSeqPacket(onPacket);
    const error = socket.connect(path);
    if (error !== 0) throw new SkosError(absent, `nothing answers at ${path} (errno ${error})`);
    return { send: (packet) => socket.send(packet), close: () => socket.close() };
  };
}
