/**
 * Hardware watcher: what an event of the hardware means for the node, under which rule it is alerted, how serious it is, and
 * what to do next. It binds no rule to a channel, because an event has no bounds and no ladder; it proposes no action.
 */
import type { AntibodyType, BuiltInRule, Severity } from '../core/vocabulary.js';
import { countOf, type Occurrence } from '../policy/occurrence.js';
import { type DriverVerdict, judgeXid, type XidOverride } from '../policy/xid.js';
import type { Antibody } from './antibody.js';

const HARDWARE_WATCHER_TYPE: AntibodyType = 'hardware_watcher';

/** The part of the alert that says what it is about. */
export interface Assessment {
  readonly rule: BuiltInRule;
  readonly type: string;
  readonly sensor: string;
  /** null: recorded, no alert. */
  readonly severity: Severity | null;
  readonly message: string;
}

export interface AssessmentContext {
  /** Name of the occurrence that explains this one. */
  readonly leader: string | undefined;
  /** What the driver asks for on this device. */
  readonly verdict: DriverVerdict | undefined;
  /** Section `xid` of the configuration. */
  readonly xid: Readonly<Record<string, XidOverride>>;
}

type Area = Pick<Assessment, 'rule' | 'type' | 'sensor'>;
interface Judged {
  readonly area: Area;
  readonly finding: Finding;
}
type Finding = Pick<Assessment, 'severity'> & { readonly meaning: string; readonly action: string };

const XID: Area = { rule: 'gpu-xid', type: 'gpu', sensor: 'gpu' };
const DRIVER: Area = { rule: 'gpu-driver', type: 'gpu', sensor: 'gpu' };
const MACHINE_CHECK: Area = { rule: 'machine-check', type: 'hardware', sensor: 'cpu' };
const MEMORY_CHECK: Area = { rule: 'machine-check', type: 'hardware', sensor: 'memory' };
const PCIE: Area = { rule: 'pcie', type: 'hardware', sensor: 'pcie' };
const OOM: Area = { rule: 'oom', type: 'memory', sensor: 'memory' };
const DISK: Area = { rule: 'storage-error', type: 'storage', sensor: 'disk' };
const KERNEL: Area = { rule: 'kernel', type: 'kernel', sensor: 'kernel' };

/** What is told but asks for nothing. */
const quiet = (meaning: string): Finding => ({ severity: null, meaning, action: 'nothing' });
const warning = (meaning: string, action: string): Finding => ({ severity: 'warning', meaning, action });
const critical = (meaning: string, action: string): Finding => ({ severity: 'critical', meaning, action });

const REPLACE_MEMORY = 'drain the node and replace the module';
const LOOK_AT_LINK = 'if it goes on: check the seat of the card, the riser and the link speed';
const LOOK_AT_DISK = 'see smartctl and nvme smart-log, and have a copy of the data';
const CHECK_FS = 'stop what writes to it, copy the data, check the file system';

/** By name of the occurrence, where that has a variant, else by kind. XIDs and SXids are judged by their code. */
const FINDINGS = new Map<string, Judged>(
  Object.entries({
    gpu_lost: { area: DRIVER, finding: critical('the GPU has fallen off the bus', 'drain the node and restart it') },
    driver_load: { area: DRIVER, finding: quiet('the NVIDIA driver was loaded') },
    driver_unload: { area: DRIVER, finding: quiet('the NVIDIA driver was unloaded') },
    driver_failed: {
      area: DRIVER,
      finding: critical(
        'the driver cannot initialise the GPU',
        'load the driver again; then reset the GPU or restart the node',
      ),
    },
    non_fatal_poison: {
      area: DRIVER,
      finding: warning('a memory error was contained', 'restart the application that used the GPU'),
    },
    fatal_poison: {
      area: DRIVER,
      finding: critical('a memory error was not contained', 'drain the GPU and reset it'),
    },
    gpu_unavailable: {
      area: DRIVER,
      finding: critical('the driver has taken the GPU out of service', 'drain the GPU and reset it'),
    },
    amd_ring: {
      area: DRIVER,
      finding: warning('a ring of the GPU did not answer', 'restart the application that used it'),
    },
    'amd_reset-begin': {
      area: DRIVER,
      finding: warning('the driver resets the GPU', 'restart the applications that used it'),
    },
    'amd_reset-succeeded': { area: DRIVER, finding: quiet('the driver has reset the GPU') },
    'amd_reset-failed': {
      area: DRIVER,
      finding: critical('the reset of the GPU failed', 'drain the node and restart it'),
    },
    amd_vram_lost: {
      area: DRIVER,
      finding: warning('a reset has wiped the memory of the GPU', 'restart every application that used it'),
    },
    'amd_ras-corrected': {
      area: DRIVER,
      finding: warning('corrected hardware errors', 'watch whether they become more'),
    },
    'amd_ras-deferred': {
      area: DRIVER,
      finding: warning(
        'a hardware error that is harmless until its data are used',
        'drain the GPU and reset it when you can',
      ),
    },
    'amd_ras-uncorrected': {
      area: DRIVER,
      finding: critical('uncorrected hardware errors', 'drain the GPU and reset it'),
    },
    'mce-logged': {
      area: MACHINE_CHECK,
      finding: warning('machine checks were logged', 'see rasdaemon or mcelog for what they say'),
    },
    'mce-corrected': {
      area: MACHINE_CHECK,
      finding: warning('a corrected machine check', 'watch whether they become more'),
    },
    'mce-deferred': {
      area: MACHINE_CHECK,
      finding: warning('a deferred machine check', 'watch whether they become more'),
    },
    'mce-uncorrected': {
      area: MACHINE_CHECK,
      finding: critical(
        'an uncorrected machine check',
        'drain the node; see rasdaemon or mcelog for the part at fault',
      ),
    },
    'mce-fatal': {
      area: MACHINE_CHECK,
      finding: critical('a fatal machine check', 'drain the node; see rasdaemon or mcelog for the part at fault'),
    },
    'edac-corrected': {
      area: MEMORY_CHECK,
      finding: warning('corrected memory errors', `if they go on: ${REPLACE_MEMORY}`),
    },
    'edac-uncorrected': { area: MEMORY_CHECK, finding: critical('uncorrected memory errors', REPLACE_MEMORY) },
    'aer-corrected': { area: PCIE, finding: warning('corrected PCIe errors', LOOK_AT_LINK) },
    'aer-nonfatal': { area: PCIE, finding: warning('uncorrected PCIe errors (non-fatal)', LOOK_AT_LINK) },
    'aer-fatal': {
      area: PCIE,
      finding: critical('uncorrected PCIe errors (fatal)', 'drain the node; check the card and its slot'),
    },
    'aer-unrecovered': {
      area: PCIE,
      finding: critical('a device did not recover from a PCIe error', 'drain the node and restart it'),
    },
    'oom-node': {
      area: OOM,
      finding: warning('the node ran out of memory', 'see what uses it; give the workloads limits'),
    },
    'oom-cgroup': {
      area: OOM,
      finding: warning('a cgroup ran out of memory', 'raise its limit or shrink the workload'),
    },
    'nvme-timeout': { area: DISK, finding: warning('an NVMe command timed out', LOOK_AT_DISK) },
    'nvme-down': { area: DISK, finding: critical('an NVMe controller went down', LOOK_AT_DISK) },
    'nvme-not_ready': { area: DISK, finding: critical('an NVMe controller does not come up', LOOK_AT_DISK) },
    'nvme-removed': { area: DISK, finding: critical('an NVMe device was given up by the kernel', LOOK_AT_DISK) },
    block: { area: DISK, finding: critical('disk I/O errors', LOOK_AT_DISK) },
    'file_system-error': { area: DISK, finding: critical('file-system errors', CHECK_FS) },
    'file_system-corrupt': { area: DISK, finding: critical('a corrupt file system', CHECK_FS) },
    'file_system-read_only': { area: DISK, finding: critical('a file system became read-only', CHECK_FS) },
    'file_system-shutdown': { area: DISK, finding: critical('a file system was shut down', CHECK_FS) },
    'cpu_throttle-core': {
      area: { ...KERNEL, sensor: 'cpu' },
      finding: warning('CPU cores throttle themselves because of heat', 'check fans and air flow'),
    },
    'cpu_throttle-package': {
      area: { ...KERNEL, sensor: 'cpu' },
      finding: warning('a CPU throttles itself because of heat', 'check fans and air flow'),
    },
    hung_task: {
      area: KERNEL,
      finding: warning('a task hangs in the kernel', 'see journalctl -k for what it waits for'),
    },
    'lockup-soft': {
      area: KERNEL,
      finding: critical('a CPU does not get out of the kernel', 'see journalctl -k; restart the node'),
    },
    'lockup-hard': { area: KERNEL, finding: critical('a CPU is locked up', 'restart the node') },
    'lockup-rcu': { area: KERNEL, finding: warning('a CPU stalls the kernel’s housekeeping', 'see journalctl -k') },
    watchdog: {
      area: KERNEL,
      finding: warning('a watchdog was let go without being stopped', 'see who feeds it: it may reset the node'),
    },
  }),
);

/** What comes with another event and says no more than it. */
const EXPLAINED = new Set(['gpu_lost', 'amd_vram_lost']);

/** undefined: of no kind that means anything to us; it is recorded as it is. */
export function assess(occurrence: Occurrence, context: AssessmentContext): Assessment | undefined {
  const judged = judge(occurrence, context);
  if (judged === undefined) return undefined;
  const { area, finding } = judged;
  const isExplained = context.leader !== undefined && EXPLAINED.has(occurrence.name);
  const severity = isExplained ? null : finding.severity;
  return { ...area, severity, message: words(occurrence, judged, context.leader) };
}

function judge(
  { kind, name, code, detail }: Occurrence,
  { leader, verdict, xid }: AssessmentContext,
): Judged | undefined {
  if (name.startsWith('xid-')) {
    const number = code ?? Number(name.slice('xid-'.length));
    const override = xid[String(number)];
    const judged = judgeXid({
      code: number,
      lineSeverity: detail.severity,
      led: leader !== undefined,
      verdict,
      override,
    });
    return { area: XID, finding: judged };
  }
  if (kind === 'sxid') return { area: XID, finding: judgeSwitch(detail) };
  return FINDINGS.get(name) ?? (kind === 'block' ? FINDINGS.get(kind) : undefined);
}

/** NVIDIA's Fabric Manager user guide: a fatal SXid ends what runs over the switch and needs a reset of GPUs and switches. */
function judgeSwitch({ severity, message }: Readonly<Record<string, string>>): Finding {
  const meaning = message === undefined ? 'NVSwitch error' : `NVSwitch error: ${message}`;
  return severity === 'fatal'
    ? critical(meaning, 'drain the node and reset its GPUs and NVSwitches; see the log of Fabric Manager')
    : warning(meaning, 'nothing at once; see the log of Fabric Manager if it goes on');
}

/** "GPU 0000:3b:00.0: XID 79: GPU has fallen off the bus; to do: drain the node and restart it (process python, pid 12)". */
function words(
  occurrence: Occurrence,
  { area, finding: { meaning, action } }: Judged,
  leader: string | undefined,
): string {
  const count = countOf(occurrence);
  const said = [`${subjectText(occurrence, area)}: ${codeText(occurrence)}${meaning}`];
  if (count > 1) said.push(`, ${count} times`);
  if (leader !== undefined) said.push(`, with ${leader.replace('xid-', 'XID ')}`);
  said.push(action === 'nothing' ? '' : `; to do: ${action}`, detailText(occurrence));
  if (occurrence.afterOwn !== null) said.push(`; it follows our own ${occurrence.afterOwn}`);
  return said.join('');
}

function subjectText({ kind, subject, address }: Occurrence, { sensor }: Area): string {
  if (kind === 'sxid') return `NVSwitch ${subject}`;
  if (address !== '') return sensor === 'gpu' ? `GPU ${address}` : `PCI device ${address}`;
  return subject === 'node' ? 'node' : subject;
}

function codeText({ name, kind, code, detail }: Occurrence): string {
  if (kind === 'sxid') return `SXid ${code}: `;
  if (!name.startsWith('xid-')) return '';
  const subcode = detail.subcode === undefined ? '' : `.${detail.subcode}`;
  return `XID ${name.slice('xid-'.length)}${subcode}: `;
}

const SHOWN = [
  'process',
  'pid',
  'link',
  'unit',
  'ring',
  'block',
  'errors',
  'place',
  'cpu',
  'bank',
  'type',
  'error',
  'status',
  'version',
];

function detailText({ detail }: Occurrence): string {
  const found = SHOWN.filter((name) => detail[name] !== undefined).map((name) => `${name} ${detail[name]}`);
  return found.length === 0 ? '' : ` (${found.join(', ')})`;
}

/** For the heartbeat: the watcher lives, though it holds no rule. */
export const hardwareWatcher: Antibody = {
  name: 'hardware-watcher',
  type: HARDWARE_WATCHER_TYPE,
  rulesFor: () => [],
  describe: ({ channel }) => channel.label,
  metadata: () => ({ kinds: FINDINGS.size }),
};
