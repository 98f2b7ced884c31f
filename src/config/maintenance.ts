/** Maintenance windows as they are written, made into moments and minutes. */
import type { WindowDay } from '../core/vocabulary.js';
import type { ConfigFile } from './schema.js';

export type MaintenanceWindow =
  | { readonly name: string; readonly fromAtMs: number; readonly toAtMs: number }
  | {
      readonly name: string;
      readonly day: WindowDay;
      /** Minutes after midnight, local time. */
      readonly startMinute: number;
      readonly minutes: number;
    };

/** Of a checked configuration. What is neither the one kind nor the other is left out: check.ts has refused it. */
export function maintenanceWindows(written: ConfigFile['maintenance']): MaintenanceWindow[] {
  return written.flatMap(({ name, from, to, day, time, minutes }): MaintenanceWindow[] => {
    if (from !== undefined && to !== undefined) {
      return [{ name, fromAtMs: Date.parse(from), toAtMs: Date.parse(to) }];
    }
    if (day === undefined || time === undefined || minutes === undefined) return [];
    const [hour = 0, minute = 0] = time.split(':').map(Number);
    return [{ name, day, startMinute: 60 * hour + minute, minutes }];
  });
}
