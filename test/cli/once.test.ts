/** `skos sensors --once` on made machines, through the real addon. Needs the native build. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import type { ChannelJson } from '../../src/core/channel.js';
import { type Node, node } from '../fixtures/cli.js';

async function once(each: Node, ...argv: string[]): Promise<{ code: number; channels: ChannelJson[]; err: string }> {
  const { code, out, err } = await each.skos(['sensors', '--once', '--json', ...argv]);
  return { code, channels: JSON.parse(out), err };
}

function chip(each: Node, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries({ name: 'nct6798\n', ...files }))
    each.write(`sys/class/hwmon/hwmon0/${name}`, text);
}

t.test('reads once without an agent, and says of each channel what is the matter', async (t) => {
  const each = await node(t);
  chip(each, {
    temp1_input: '54321\n',
    temp2_input: '-44000\n',
    temp3_input: 'garbage\n',
    temp4_input: '30000\n',
    temp4_fault: '1\n',
    fan1_input: '1200\n',
  });
  const { code, channels } = await once(each, 'hwmon/**');
  t.equal(code, 0);
  const readings = Object.fromEntries(channels.map(({ name, value, quality }) => [name, [value, quality]]));
  t.match(readings, { temp1: [54.321, 'ok'], temp2: [-44, 'ok'], temp4: [null, 'fault'], fan1: [1200, 'ok'] });
  for (const { value, quality } of channels) t.equal(value === null, quality !== 'ok', 'only ok carries a value');
});

t.test('measures rates, which need two readings, within a second', async (t) => {
  const each = await node(t);
  const began = performance.now();
  const { channels } = await each
    .skos(['sensors', 'cpu/total/*', '--once', '--json'], { env: { SKOS_PROC_ROOT: '/proc' } })
    .then(({ out }) => ({ channels: JSON.parse(out) as ChannelJson[] }));
  t.match(channels, [{ id: 'cpu/total/usage', quality: 'ok', unit: 'ratio' }]);
  t.ok(performance.now() - began < 2000);
});

t.test('reads what no file of its own tells: whether a file system is read-only', async (t) => {
  const each = await node(t);
  const { out } = await each.skos(['sensors', 'file_system/*/read_only', '--once', '--json'], {
    env: { SKOS_PROC_ROOT: '/proc' },
  });
  const channels = JSON.parse(out) as ChannelJson[];
  t.ok(channels.length > 0);
  for (const { quality, value } of channels) t.match({ quality, value }, { quality: 'ok', value: Number });
});

t.test('a FIFO in the place of a sensor holds up nothing', async (t) => {
  const each = await node(t);
  chip(each, { temp1_input: '54000\n' });
  execFileSync('mkfifo', [join(each.directory, 'sys/class/hwmon/hwmon0/temp2_input')]);
  const began = performance.now();
  const { channels } = await once(each, 'hwmon/**');
  t.match(
    channels.find(({ name }) => name === 'temp1'),
    { value: 54, quality: 'ok' },
  );
  t.notOk(channels.some(({ name, value }) => name === 'temp2' && value !== null));
  t.ok(performance.now() - began < 3000);
});

t.test('an empty machine has no channels, says what was not found, and is no failure', async (t) => {
  const each = await node(t);
  const { code, out, err } = await each.skos(['sensors', '--once', 'hwmon/**']);
  t.equal(code, 0);
  t.equal(out, 'No channels.');
  t.match(err, /hwmon/);
});

t.test('leaves out what only the actuator may read, and says so', async (t) => {
  const each = await node(t);
  chip(each, { temp1_input: '54321\n' });
  for (const [name, text] of Object.entries({ name: 'package-0', energy_uj: '5', max_energy_range_uj: '1000' }))
    each.write(`sys/class/powercap/intel-rapl:0/${name}`, `${text}\n`);
  const { code, channels, err } = await once(each);
  t.equal(code, 0);
  t.notOk(channels.some(({ id }) => id.startsWith('rapl/')));
  t.match(err + (await each.skos(['sensors', '--once'])).err, /RAPL: read by skos-actuator/);
});
