/**
 * `skos inventory`: what the machine is made of, by systeminformation. A oneshot, because that library starts dozens of shell
 * commands and stays large in memory: neither belongs into the agent.
 */
import type { Command, Io } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, quantityText } from './format.js';
import { tableLines } from './table.js';

/** A tool that it starts may hang on a broken disk; what has answered by then is shown. */
const DEADLINE_MS = 20_000;

export const inventory: Command = {
  name: 'inventory',
  summary: 'what the machine is made of (slow; starts other tools)',
  usage: ['inventory [--json]'],
  options: { json: { type: 'boolean' } },
  optionHelp: { json: 'one JSON object' },
  examples: [['skos inventory --json > inventory.json', 'For the record of a fleet.']],

  async run({ values }, { io }) {
    const facts = await collect();
    io.out(values.json === true ? JSON.stringify(facts, null, 2) : inventoryText(facts, io));
    return EXIT.ok;
  },
};

type Fact = Readonly<Record<string, unknown>>;
interface Inventory {
  readonly system: Fact;
  readonly cpu: Fact;
  readonly memory: Fact;
  readonly operatingSystem: Fact;
  readonly graphics: readonly Fact[];
  readonly disks: readonly Fact[];
  readonly network: readonly Fact[];
  /** Parts that did not answer in time. */
  readonly unanswered: readonly string[];
}

async function collect(): Promise<Inventory> {
  // Loaded here, so that no other command pays for it.
  const { cpu, diskLayout, graphics, mem, networkInterfaces, osInfo, system } = await import('systeminformation');
  const unanswered: string[] = [];
  const within = async <T, F>(name: string, question: Promise<T>, fallback: F): Promise<T | F> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), DEADLINE_MS);
    });
    const answer = await Promise.race([question.catch(() => undefined), late]);
    clearTimeout(timer);
    if (answer === undefined) unanswered.push(name);
    return answer ?? fallback;
  };
  const [systemFacts, cpuFacts, memory, os, cards, disks, network] = await Promise.all([
    within('system', system(), {}),
    within('cpu', cpu(), {}),
    within('memory', mem(), {}),
    within('operatingSystem', osInfo(), {}),
    within('graphics', graphics(), { controllers: [] }),
    within('disks', diskLayout(), []),
    within('network', networkInterfaces(), []),
  ]);
  return {
    system: pick(systemFacts, ['manufacturer', 'model', 'version', 'virtual']),
    cpu: pick(cpuFacts, [
      'manufacturer',
      'brand',
      'physicalCores',
      'cores',
      'processors',
      'speedMax',
      'virtualization',
    ]),
    memory: pick(memory, ['total', 'swaptotal']),
    operatingSystem: pick(os, ['distro', 'release', 'kernel', 'arch']),
    graphics: cards.controllers.map((card) => pick(card, ['vendor', 'model', 'vram', 'busAddress'])),
    disks: disks.map((disk) => pick(disk, ['device', 'type', 'name', 'size', 'interfaceType'])),
    network: [network].flat().map((face) => pick(face, ['iface', 'type', 'speed', 'virtual'])),
    unanswered,
  };
}

/** Serial numbers and hardware addresses are left out: an inventory is something that people send around. */
function pick(from: object, keys: readonly string[]): Fact {
  return Object.fromEntries(
    Object.entries(from).filter(([key, value]) => keys.includes(key) && value !== '' && value !== null),
  );
}

function inventoryText(facts: Inventory, io: Pick<Io, 'columns'>): string {
  const rows = Object.entries(facts).flatMap(([part, fact]) =>
    [fact].flat().map((each, i) => [{ text: i === 0 ? part : '' }, { text: clean(factText(each)) }]),
  );
  return tableLines({ columns: [{}, { shrinkTo: 40 }], rows, width: io.columns }).join('\n');
}

function factText(fact: unknown): string {
  if (typeof fact !== 'object' || fact === null) return String(fact);
  return Object.entries(fact)
    .map(([key, value]) => {
      if (typeof value === 'boolean') return value ? key : '';
      const bytes = typeof value === 'number' && (key === 'total' || key === 'size' || key === 'swaptotal');
      return `${key} ${bytes ? quantityText(value, 'bytes') : String(value)}`;
    })
    .filter((text) => text !== '')
    .join(', ');
}
