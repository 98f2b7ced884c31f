/**
 * The slow inventory of `skos inventory`: what the machine is made of, by systeminformation.
 *
 * For a oneshot command only. The library starts dozens of shells and stays in memory, so that it is loaded on demand
 * and never by the agent. Each part is asked by itself: one that fails or hangs is said so, and the others are shown.
 */

import { withDeadline } from '../core/deadline.js';
import { reason } from '../core/errors.js';

/** The slowest part (memory layout by dmidecode, disks by lsblk and smartctl) takes about a second. */
const PART_DEADLINE_MS = 15_000;

export const INVENTORY_PARTS = [
  'system',
  'bios',
  'board',
  'cpu',
  'memory',
  'disks',
  'graphics',
  'network',
  'os',
] as const;
export type InventoryPart = (typeof INVENTORY_PARTS)[number];

export interface Inventory {
  /** As systeminformation gives it. */
  readonly parts: Readonly<Partial<Record<InventoryPart, unknown>>>;
  readonly failed: readonly { readonly part: InventoryPart; readonly why: string }[];
}

export async function readInventory({ deadlineMs = PART_DEADLINE_MS } = {}): Promise<Inventory> {
  const { default: si } = await import('systeminformation');
  const readers: Readonly<Record<InventoryPart, () => Promise<unknown>>> = {
    system: () => si.system(),
    bios: () => si.bios(),
    board: () => si.baseboard(),
    cpu: () => si.cpu(),
    memory: () => si.memLayout(),
    disks: () => si.diskLayout(),
    graphics: () => si.graphics(),
    network: () => si.networkInterfaces(),
    os: () => si.osInfo(),
  };
  const parts: Partial<Record<InventoryPart, unknown>> = {};
  const failed: { part: InventoryPart; why: string }[] = [];
  // One after the other: they compete for the same few tools, and a oneshot command may take its time.
  for (const part of INVENTORY_PARTS) {
    try {
      parts[part] = await withDeadline(readers[part](), deadlineMs);
    } catch (error) {
      failed.push({ part, why: reason(error) });
    }
  }
  return { parts, failed };
}
