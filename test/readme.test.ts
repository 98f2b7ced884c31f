/** README.md says what is: its tables are those of the source, and what it names is there. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { withTables } from '../scripts/readme-tables.js';
import { COMMANDS } from '../src/cli/cli.js';
import { configShape } from '../src/config/schema.js';
import { plain } from '../src/config/tree.js';
import { parseYaml } from '../src/config/yaml-file.js';
import type { Issue } from '../src/core/shape.js';
import { TOPICS } from '../src/mesh/topics.js';

const root = checkout();
const readme = readFileSync(join(root, 'README.md'), 'utf8');

function checkout(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!readdirSync(directory).includes('biome.json')) directory = dirname(directory);
  return directory;
}

t.test('its tables are current', async (t) => {
  t.equal(readme, withTables(readme), 'else: node build/ts/scripts/readme-tables.js');
});

t.test('every script and file of ours that it names is there', async (t) => {
  const named = readme.match(/\b(scripts|native|src)\/[\w./-]*\w|(?<=\]\()[\w/]+(\.md)?(?=\))/g) ?? [];
  t.ok(named.length > 10);
  for (const file of new Set(named)) t.ok(existsSync(join(root, file)), file);
});

t.test('every anchor that it links is a heading', async (t) => {
  const headings = [...readme.matchAll(/^## (.+)$/gm)].map(([, text = '']) => text.toLowerCase().replaceAll(' ', '-'));
  for (const [, anchor = ''] of readme.matchAll(/\]\(#([^)]+)\)/g)) t.ok(headings.includes(anchor), anchor);
});

t.test('every command of skos that it names exists', async (t) => {
  const known = ['run', ...COMMANDS.map(({ name }) => name)];
  const named = [...readme.matchAll(/(?:`| {4}|\/)skos ([a-z]+)/g)].map(([, name = '']) => name);
  t.ok(named.length > 10);
  for (const name of new Set(named)) t.ok(known.includes(name), `skos ${name}`);
});

t.test('its example of a configuration is valid', async (t) => {
  const [, yaml = ''] = /```yaml\n([\s\S]*?)```/.exec(readme) ?? [];
  const parsed = parseYaml('README.md', yaml);
  const issues: Issue[] = [];
  if ('raw' in parsed) configShape.check(plain(parsed.raw), [], issues);
  else t.fail('is YAML', parsed);
  t.same(issues, []);
});

t.test('it names every topic', async (t) => {
  for (const { kind } of Object.values(TOPICS)) t.match(readme, `skos/${kind}/<node>`);
});

t.test('it names no version of this software', async (t) => {
  t.notMatch(readme.replaceAll(/\d+(\.\d+){3}/g, ''), /\b\d+\.\d+\.\d+\b/);
});
