/** What each kind of event means, over the lines that the native tests know. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { type Assessment, assess, hardwareWatcher } from '../../src/antibodies/hardware-watcher.js';
import type { HardwareEvent } from '../../src/core/ports.js';
import { ANTIBODY_TYPES, BUILT_IN_RULES } from '../../src/core/vocabulary.js';
import { NO_OCCURRENCES, observe } from '../../src/policy/occurrence.js';
import { GPU, hardwareEvent, xid } from '../fixtures/hardware-events.js';

function assessed(event: HardwareEvent): Assessment | undefined {
  const { occurrence } = observe(NO_OCCURRENCES, event, []);
  return assess(occurrence, { leader: undefined, verdict: undefined, xid: {} });
}

/** Rows "kind address=… code=… name=value … | line" of the native vectors, as events. */
function vectors(): HardwareEvent[] {
  const rows = readFileSync('native/test/kernel_lines.txt', 'utf8').split('\n');
  return rows
    .filter((row) => row !== '' && !row.startsWith('#') && !row.startsWith('-'))
    .map((row) => {
      const [head = '', text = ''] = row.split(' | ');
      const [kind = '', ...words] = head.trim().split(' ');
      const pairs = words.map((word) => word.split('=') as [string, string]);
      const { address = '', code, ...detail } = Object.fromEntries(pairs.filter(([, value]) => value !== ''));
      return hardwareEvent({ kind, address, code: code === undefined ? null : Number(code), detail, text });
    });
}

t.test('every kind of line that the kernel’s log is searched for has a meaning, a rule and a next step', async (t) => {
  const events = vectors();
  t.ok(events.length > 80);
  for (const event of events) {
    const found = assessed(event);
    t.ok(found !== undefined, event.text);
    if (found === undefined) continue;
    t.ok(BUILT_IN_RULES.includes(found.rule));
    t.ok(found.severity === null || /; to do: /.test(found.message), found.message);
    t.notMatch(found.message, /undefined|null|NaN/);
  }
});

t.test('says which device, what it means, what to do and the details that help', async (t) => {
  t.equal(
    assessed(xid(31, { count: 3, detail: { pid: '7', process: 'a.out' } }))?.message,
    `GPU ${GPU}: XID 31: GPU memory page fault, 3 times; to do: restart the application that used the GPU (process a.out, pid 7)`,
  );
  const nvlink = xid(149, { detail: { severity: 'fatal', link: '12', unit: 'NETIR_LINK_EVT', subcode: '38' } });
  t.match(assessed(nvlink), { severity: 'critical', message: /XID 149\.38: .*link 12, unit NETIR_LINK_EVT/ });
  const disk = hardwareEvent({ kind: 'nvme', address: '', code: null, detail: { device: 'nvme0', state: 'down' } });
  t.match(assessed(disk), { rule: 'storage-error', type: 'storage', severity: 'critical', message: /^nvme0: / });
  const port = hardwareEvent({ kind: 'aer', code: null, address: '0000:00:01.0', detail: { severity: 'fatal' } });
  t.match(assessed(port), { rule: 'pcie', severity: 'critical', message: /^PCI device 0000:00:01\.0: / });
});

t.test('a switch’s fatal error is critical, another one is not', async (t) => {
  const sxid = (severity: string) => hardwareEvent({ kind: 'sxid', code: 12028, detail: { severity } });
  t.match(assessed(sxid('fatal')), { rule: 'gpu-xid', severity: 'critical', message: /^NVSwitch .* SXid 12028/ });
  t.match(assessed(sxid('nonfatal')), { severity: 'warning' });
});

t.test('loading and unloading of a driver, and a reset that succeeded, are told and no alert', async (t) => {
  for (const kind of ['driver_load', 'driver_unload'])
    t.equal(assessed(hardwareEvent({ kind, code: null }))?.severity, null);
  const reset = hardwareEvent({ kind: 'amd_reset', code: null, detail: { state: 'succeeded' } });
  t.equal(assessed(reset)?.severity, null);
});

t.test('has nothing to say of a kind that it does not know', async (t) => {
  t.equal(assessed(hardwareEvent({ kind: 'unheard_of', code: null })), undefined);
  t.equal(assessed(hardwareEvent({ kind: 'aer', code: null, detail: { severity: 'odd' } })), undefined);
  t.equal(assessed(hardwareEvent({ kind: 'constructor', code: null })), undefined, 'not even what every object has');
});

t.test('lives as an antibody without rules', async (t) => {
  t.ok(ANTIBODY_TYPES.includes(hardwareWatcher.type));
  t.equal(hardwareWatcher.name.replace('-', '_'), hardwareWatcher.type);
});
