/**
 * Blocks of a flight recording: chunks (chunk.ts) of many channels in one value, since a recording of some hundred channels
 * that is written every few seconds would otherwise be some hundred keys each time.
 *
 *   block   entries, one behind the other
 *   entry   u16 number of the channel in the recording, u32 milliseconds from the recording's beginning to the chunk's first
 *           sample, u16 length, chunk; big-endian
 */
import type { RecordedSamples } from '../core/ports.js';
import { encodeChunk } from './chunk.js';

const ENTRY_BYTES = 8;
const MAX_UINT32 = 2 ** 32 - 1;

export interface BlockEntry {
  readonly channel: number;
  readonly offsetMs: number;
  readonly chunk: Buffer;
}

export function blockEntry(channel: number, samples: RecordedSamples, fromAtMs: number): Buffer {
  const chunk = encodeChunk(samples);
  const head = Buffer.alloc(ENTRY_BYTES);
  head.writeUInt16BE(channel, 0);
  // A recording begins with its first sample; only a clock that was set while it began could say otherwise.
  head.writeUInt32BE(Math.min(MAX_UINT32, Math.max(0, Math.round(samples.startAtMs - fromAtMs))), 2);
  head.writeUInt16BE(chunk.length, 6);
  return Buffer.concat([head, chunk]);
}

/** Ends early where a block is damaged; chunks have check sums of their own. */
export function* blockEntries(block: Buffer): Generator<BlockEntry> {
  let at = 0;
  while (at + ENTRY_BYTES <= block.length) {
    const length = block.readUInt16BE(at + 6);
    const end = at + ENTRY_BYTES + length;
    if (end > block.length) return;
    const chunk = block.subarray(at + ENTRY_BYTES, end);
    yield { channel: block.readUInt16BE(at), offsetMs: block.readUInt32BE(at + 2), chunk };
    at = end;
  }
}
