/**
 * The tables of README.md that say what the source says already. Writes them between their markers; test/readme.test.ts
 * asserts that they are current. Run after `npm run build:ts`: node build/ts/scripts/readme-tables.js
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { EXIT_MEANINGS } from '../src/cli/exit-codes.js';
import { configShape } from '../src/config/schema.js';
import { TABLE_CELSIUS } from '../src/config/thermal-bounds.js';
import { ERRORS } from '../src/core/errors.js';
import { SEVERITIES } from '../src/core/vocabulary.js';

const README = 'README.md';

const TABLES: Readonly<Record<string, () => string[]>> = {
  policies() {
    const { thermal, storage } = configShape.check({}, [], []);
    const actions = (names: readonly string[]) => names.map(code).join(', ');
    const rows = SEVERITIES.map((severity) => [
      severity,
      `> ${TABLE_CELSIUS[severity]} °C`,
      actions(thermal.actions[severity]),
      `> ${storage.thresholds[severity]} %`,
      actions(storage.actions[severity]),
    ]);
    return table(['severity', 'temperature', 'actions', 'file system used', 'actions'], rows);
  },
  'exit codes': () =>
    table(
      ['code', 'meaning'],
      Object.entries(EXIT_MEANINGS).map(([number, meaning]) => [number, meaning]),
    ),
  'error codes': () =>
    table(
      ['code', 'meaning'],
      Object.entries(ERRORS).map(([name, { meaning }]) => [code(name), meaning]),
    ),
};

/** The text with every table made anew; throws where a marker has no table, or a table no marker. */
export function withTables(text: string): string {
  const placed = new Set<string>();
  const output = text.replaceAll(/(<!-- table: (.+) -->\n)[\s\S]*?(<!-- end -->)/g, (_, head, name, tail) => {
    const rows = TABLES[name]?.();
    if (rows === undefined) throw new Error(`${README}: there is no table "${name}"`);
    placed.add(name);
    return `${head}${rows.join('\n')}\n${tail}`;
  });
  const missing = Object.keys(TABLES).filter((name) => !placed.has(name));
  if (missing.length > 0) throw new Error(`${README}: no marker for ${missing.join(', ')}`);
  return output;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
}

function code(text: string): string {
  return `\`${text}\``;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(README, withTables(readFileSync(README, 'utf8')));
}
