/** The contract from both sides: what the CLI compiles is what the real skos-actuator takes. Needs the native build. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { type Node, node, withCpufreq } from '../fixtures/cli.js';
import { until } from '../fixtures/socket.js';

const actuator = join(checkout(), 'build/native/skos-actuator');

function checkout(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!readdirSync(directory).includes('biome.json')) directory = dirname(directory);
  return directory;
}

const RULES = `
  - { name: board, class: board, raise: 70.5, standing: true, actions: [throttle_99] }
  - { name: any, channel: "**", raise: 40, clear: 39.999, standing: true, actions: [throttle_1], for: { samples: 1000 } }`;

/** A machine with two sensors, frequency and power limits, and a cgroup. */
function machine(each: Node, yaml: string): void {
  withCpufreq(each);
  for (const [i, name] of ['coretemp', 'nct6798'].entries()) {
    each.write(`sys/class/hwmon/hwmon${i}/name`, `${name}\n`);
    each.write(`sys/class/hwmon/hwmon${i}/temp1_input`, '41000\n');
    each.write(`sys/class/hwmon/hwmon${i}/temp1_fault`, '0\n');
  }
  each.write('sys/class/powercap/intel-rapl:0/name', 'package-0\n');
  each.write('sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw', '65000000\n');
  each.write('cgroup/cgroup.controllers', 'cpu memory\n');
  each.write('cgroup/a/cpu.max', 'max 100000\n');
  each.write('etc/skos.yaml', yaml);
}

t.test('skos-actuator takes every list that is compiled', async (t) => {
  t.ok(existsSync(actuator), 'the native parts are built');
  for (const yaml of [
    'node: nova\n',
    'node: nova\nmode: auto\n',
    'node: nova\nmode: auto\nsampling: { rate_hz: 0.1 }\nthermal: { hysteresis: 0.1, thresholds: { warning: 1, critical: 2, emergency: 3.25 } }\n',
    `node: nova\nmode: auto\nsampling: { rate_hz: 1000 }\ntargets: { ${'d'.repeat(56)}: { cgroup: /a } }\nrules:${RULES}\n`,
  ]) {
    const each = await node(t);
    machine(each, yaml);
    const compiled = await each.skos(['config', 'compile', '--controller', String(process.getuid?.() ?? 0)]);
    t.equal(compiled.code, 0, compiled.err);
    await accepts(t, each);
  }
});

/** It listens only when it has taken its list, and leaves with 3 otherwise. */
async function accepts(t: Pick<Tap, 'equal' | 'teardown'>, { directory }: Node): Promise<void> {
  const at = (path: string) => join(directory, path);
  mkdirSync(at('state'));
  const args = ['--allow', at('run/actuator.allow'), '--socket', at('run/a.sock'), '--state', at('state')];
  const child = spawn(actuator, [...args, '--sysfs', at('sys'), '--cgroup', at('cgroup')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (chunk) => {
    said += String(chunk);
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  t.teardown(() => child.kill('SIGKILL'));
  await until(`it takes the list: ${said}`, () => existsSync(at('run/a.sock')) || child.exitCode !== null);
  child.kill('SIGTERM');
  t.equal(await ended, 0, said);
}
type Tap = typeof t;
