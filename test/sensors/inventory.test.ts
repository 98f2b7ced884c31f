/** The slow inventory: every part is there or says why not; nothing of it is loaded before it is asked. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { INVENTORY_PARTS, readInventory } from '../../src/sensors/inventory.js';

t.test('reads every part of this machine, or says why not', async (t) => {
  const { parts, failed } = await readInventory();
  const answered = [...Object.keys(parts), ...failed.map(({ part }) => part)];
  t.same(answered.sort(), [...INVENTORY_PARTS].sort());
  t.match(parts.os, { platform: 'linux' });
  t.match(parts.cpu, { cores: Number });
});

t.test('gives up a part that does not answer in time, and goes on with the next', async (t) => {
  const { failed } = await readInventory({ deadlineMs: 0 });
  t.match(failed[0], { part: 'system', why: /0 ms/ });
});

t.test('loads systeminformation only when it is asked', async (t) => {
  const module = fileURLToPath(new URL('../../src/sensors/inventory.js', import.meta.url));
  const script = `await import(${JSON.stringify(module)});
    const { createRequire } = await import('node:module');
    const { cache } = createRequire(${JSON.stringify(module)});
    process.stdout.write(String(Object.keys(cache).some((file) => file.includes('systeminformation'))));`;
  t.equal(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }), 'false');
});
