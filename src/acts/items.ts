/** The beginning of a list that may be a million long: as many as a report may hold (report.ts), and how many there were. */
const MAX_ITEMS = 100;
/** Leaves room for the details within the 64 KiB of a report. */
const MAX_ITEMS_BYTES = 24 * 1024;
const MAX_ITEM_LENGTH = 1_024;

/** As many as a report may hold. */
export class Items {
  readonly list: string[] = [];
  total = 0;
  #bytes = 0;

  add(shown: string): void {
    this.total++;
    const item = shown.length > MAX_ITEM_LENGTH ? `${shown.slice(0, MAX_ITEM_LENGTH)}…` : shown;
    const bytes = Buffer.byteLength(JSON.stringify(item)) + 1;
    if (this.list.length >= MAX_ITEMS || this.#bytes + bytes > MAX_ITEMS_BYTES) return;
    this.#bytes += bytes;
    this.list.push(item);
  }
}
