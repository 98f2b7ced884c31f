/**
 * One look at what skos-gpu serves, for a program that is no agent: connects, hears which GPUs there are and how they describe
 * themselves, and leaves. It asks for nothing, so that the agent beside it is not disturbed.
 */
import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel } from '../core/channel.js';
import type { PacketSocket, Region } from '../core/ports.js';
import { type GpuMessage, gpuDescription, gpuMessage } from './gpu-message.js';

/** A node's largest is 16. */
const MAX_GPUS = 64;
const POLL_MS = 10;

export interface GpuLookOptions {
  readonly path: string;
  /** Opening a driver takes seconds where nothing keeps it loaded. */
  readonly deadlineMs: number;
  /** Throws when nobody answers. */
  readonly connect: (path: string, onPacket: (packet: string | null, fd: number) => void) => PacketSocket;
  /** Takes `fd` over. */
  readonly openRegion: (fd: number) => Region;
}

/** What was heard so far. */
interface Heard {
  readonly opening: Set<string>;
  readonly found: Map<string, readonly Channel[]>;
  isListed: boolean;
  isOver: boolean;
}

/** The channels of the GPUs that are served, or are within the deadline; none where nobody answers. */
export async function lookAtGpus(options: GpuLookOptions): Promise<Channel[]> {
  const heard: Heard = { opening: new Set(), found: new Map(), isListed: false, isOver: false };
  let socket: PacketSocket;
  try {
    socket = options.connect(options.path, (packet, fd) => hear(heard, { packet, fd }, options));
  } catch {
    return [];
  }
  try {
    if (socket.send('1 hello 1') !== 0) return [];
    for (let waitedMs = 0; waitedMs < options.deadlineMs && !heard.isOver; waitedMs += POLL_MS) {
      if (heard.isListed && heard.opening.size === 0) break;
      await sleep(POLL_MS);
    }
  } finally {
    heard.isOver = true;
    socket.close();
  }
  return [...heard.found.values()].flat();
}

function hear(
  heard: Heard,
  { packet, fd }: { packet: string | null; fd: number },
  { openRegion }: Pick<GpuLookOptions, 'openRegion'>,
): void {
  if (packet === null) heard.isOver = true;
  const message = packet === null || heard.isOver ? undefined : understood(packet);
  if (message?.type === 'listed') heard.isListed = true;
  if (message?.type === 'device') {
    const { address, state } = message;
    if (state === 'opening') heard.opening.add(address);
    else heard.opening.delete(address);
    const hasRoom = heard.found.size < MAX_GPUS || heard.found.has(address);
    if (fd >= 0 && hasRoom) {
      describe(heard, { address, fd }, openRegion);
      return;
    }
  }
  if (fd >= 0) closeSync(fd);
}

/** What is not understood says nothing, as where nobody answers. */
function understood(packet: string): GpuMessage | undefined {
  try {
    return gpuMessage(packet);
  } catch {
    return undefined;
  }
}

function describe(
  heard: Heard,
  { address, fd }: { address: string; fd: number },
  openRegion: GpuLookOptions['openRegion'],
): void {
  try {
    const region = openRegion(fd);
    try {
      heard.found.set(address, gpuDescription(region.description, address).channels);
    } finally {
      region.close();
    }
  } catch {
    heard.found.delete(address); // No region, or not one of ours.
  }
}
