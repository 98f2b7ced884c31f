/** Hardware events through the whole agent: a double of /dev/kmsg tells them, alerts, journal and record say what they mean. */
import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { AuditEntry } from '../../src/core/ports.js';
import { type HeatedNode, heatedNode, type NodeOptions } from '../fixtures/node.js';

t.jobs = 3;

function kmsgOf(node: HeatedNode): string {
  return join(node.machine.dev, 'kmsg');
}

function nodeWithLog(t: Test, options: NodeOptions = {}): Promise<HeatedNode> {
  return heatedNode(t, { machine: (machine) => writeFileSync(join(machine.dev, 'kmsg'), ''), ...options });
}

let sequence = 0;

function kernelSays(node: HeatedNode, ...lines: string[]): void {
  for (const line of lines) appendFileSync(kmsgOf(node), `4,${++sequence},1000000,-;${line}\n`);
}

async function standing(node: HeatedNode): Promise<Record<string, { severity: string | null; message: string }>> {
  const found = await node.alerts();
  return Object.fromEntries(found.map((alert) => [alert.channel.split('/').at(-1), alert]));
}

t.test('XIDs of the kernel’s log become alerts, journal entries and audit entries', async (t) => {
  const node = await nodeWithLog(t, { journal: true });
  kernelSays(
    node,
    'NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python, GPU has fallen off the bus.',
    'NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.',
    "NVRM: Xid (PCI:0000:86:00): 64, pid='<unknown>', name=<unknown>, Row Remapper: Failed to remap row.",
    'NVRM: Xid (PCI:0000:86:00): 95, pid=77, name=python, Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No',
    'NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)',
  );
  await node.until('all alerts', async () => Object.keys(await standing(node)).length === 4);
  const found = await standing(node);
  t.match(found['xid-79'], { severity: 'critical', message: /driver: Node Reboot Required/ });
  t.match(found['xid-64'], { severity: 'critical', message: /remapping failure; to do: drain the GPU and reset/ });
  t.match(found['xid-95'], { severity: 'critical' });
  t.match(found['xid-154'], { severity: 'critical' });
  const entries = () => node.journal().filter(({ SKOS_EVENT }) => SKOS_EVENT === 'hardware.event');
  await node.until('their journal entries', () => entries().length === 5);
  t.ok(entries().every(({ MESSAGE_ID }) => /^[0-9a-f]{32}$/.test(String(MESSAGE_ID))));
  t.match(
    entries().find(({ MESSAGE }) => /XID 79/.test(String(MESSAGE))),
    { PRIORITY: '3', SKOS_RULE: 'gpu-xid' },
  );
  await node.until('their audit entries', async () => (await hardwareEntries(node)).length === 5);
  t.match(
    (await hardwareEntries(node)).find(({ what }) => what.name === 'xid-95'),
    { what: { origin: 'kmsg', detail: { pid: '77', process: 'python' } } },
  );
});

async function hardwareEntries(node: HeatedNode): Promise<AuditEntry[]> {
  return (await node.audit()).filter(({ kind }) => kind === 'hardware.event');
}

/** On a CPU, all threads together: the first number of /proc/PID/task/TID/schedstat, nanoseconds. */
function cpuMs(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const ns = tasks.map((task) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]));
  return Math.round(ns.reduce((sum, each) => sum + each, 0) / 1e6);
}

t.test('a burst of 5,000 lines is one alert and one record', async (t) => {
  const node = await nodeWithLog(t);
  const lines = Array.from({ length: 5_000 }, (_, i) => {
    return `4,${++sequence},1000000,-;NVRM: Xid (PCI:0000:3b:00): 31, pid=${i}, name=python, Ch 00000012\n`;
  });
  const before = cpuMs(node.pid);
  appendFileSync(kmsgOf(node), lines.join(''));
  await node.until('the alert', async () => (await node.alerts())[0]?.value === 5_000);
  t.comment(
    `the agent used ${cpuMs(node.pid) - before} ms of CPU, its ordinary work and the questions of this test included`,
  );
  await node.until('the record', async () => (await hardwareEntries(node)).length > 0);
  t.equal((await hardwareEntries(node)).length, 1);
  t.equal((await node.alerts()).length, 1);
});

t.test('alerts outlive the agent, and what happened in between is told when it is back', async (t) => {
  const node = await nodeWithLog(t);
  kernelSays(node, 'NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=a, GPU has fallen off the bus.');
  await node.until('the alert', async () => 'xid-79' in (await standing(node)));
  t.equal(await node.stop(), 0);
  kernelSays(node, 'NVRM: Xid (PCI:0000:86:00): 95, pid=77, name=python, Uncontained: LTC TAG (0x2,0x0).');
  await node.start();
  await node.until('both', async () => Object.keys(await standing(node)).length === 2);
  t.ok('xid-79' in (await standing(node)));
});

t.test('an operator dismisses them by the name of their rule', async (t) => {
  const node = await nodeWithLog(t);
  kernelSays(node, 'NVRM: Xid (PCI:0000:3b:00): 31, pid=1, name=a, Ch 00000012');
  await node.until('the alert', async () => 'xid-31' in (await standing(node)));
  t.equal((await node.cli('release', 'gpu-xid')).code, 0);
  t.strictSame(await standing(node), {});
});

t.test('a machine whose kernel log cannot be read says so, and is protected', async (t) => {
  const node = await heatedNode(t);
  const { notFound } = await node.status();
  t.ok(
    notFound.some((line) => /^kernel log: .*kmsg: no such file/.test(line)),
    notFound.join('\n'),
  );
});
