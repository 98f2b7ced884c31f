/**
 * `skos inventory`: what the machine is made of. A oneshot, because the library behind it starts dozens of shells and stays
 * large in memory: neither belongs into the agent.
 */
import { type Inventory, readInventory } from '../sensors/inventory.js';
import type { Command, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, quantityText } from './format.js';
import { tableLines } from './table.js';

/** What the summary shows of each part, where it is there; --json shows all, serial numbers included. */
const SHOWN = new Set(
  (
    'manufacturer model vendor version brand physicalCores cores processors speedMax size type clockSpeed formFactor name ' +
    'device interfaceType vram busAddress iface speed virtual distro release kernel arch'
  ).split(' '),
);
/** Parts that come as lists inside an object. */
const LISTS: Readonly<Record<string, string>> = { graphics: 'controllers' };

export const inventory: Command = {
  name: 'inventory',
  summary: 'what the machine is made of (slow; starts other tools)',
  usage: ['inventory [--json]'],
  options: { json: { type: 'boolean' } },
  optionHelp: { json: 'one JSON object with everything, serial numbers included' },
  examples: [['skos inventory --json > inventory.json', 'For the record of a fleet.']],

  async run({ values }, { io }) {
    const answer = await readInventory();
    io.out(values.json === true ? JSON.stringify(answer, null, 2) : inventoryText(answer, io));
    return EXIT.ok;
  },
};

function inventoryText({ parts, failed }: Inventory, io: Pick<Io, 'columns'>): string {
  const rows = Object.entries(parts).flatMap(([part, content]) =>
    members(part, content).map((each, i) => [{ text: i === 0 ? part : '' }, { text: factText(each) }]),
  );
  for (const { part, why } of failed) rows.push([{ text: part }, { text: `not known: ${clean(why)}` }]);
  return tableLines({ columns: [{}, { shrinkTo: 40 }], rows, width: io.columns }).join('\n');
}

function members(part: string, content: unknown): readonly unknown[] {
  const key = LISTS[part];
  const inner =
    key !== undefined && typeof content === 'object' && content !== null ? Reflect.get(content, key) : content;
  return Array.isArray(inner) ? inner : [inner];
}

function factText(fact: unknown): string {
  if (typeof fact !== 'object' || fact === null) return clean(String(fact));
  const texts = Object.entries(fact)
    .filter(([key, value]) => SHOWN.has(key) && isKnown(value))
    .map(([key, value]) => memberText(key, value));
  return texts.length === 0 ? 'nothing is known' : clean(texts.join(', '));
}

/** The library writes "", 0 and −1 for what it does not know. */
function isKnown(value: unknown): boolean {
  return value !== '' && value !== null && value !== false && !(typeof value === 'number' && value <= 0);
}

function memberText(key: string, value: unknown): string {
  if (value === true) return key;
  return key === 'size' && typeof value === 'number' ? quantityText(value, 'bytes') : `${key} ${String(value)}`;
}
