/**
 * What an XID means and what is to be done: NVIDIA's catalogue (xid-table.ts), over it the driver's own verdict (XID 154, NVML
 * field 230), over that the operator's `xid` section. Pure.
 *
 * The severity follows from the vendor's immediate action, by one rule: nothing to do is no alert; what ends with an
 * application, a virtual machine or a question to support is a warning; what the GPU cannot be relied on after (reset,
 * restart, hands on the machine) is critical. NVLink 5 errors (144–150) are as severe as their own line says. An XID for
 * which the vendor states no action, or that its catalogue does not know, is a warning.
 */
import type { Severity } from '../core/vocabulary.js';
import { XID_TABLE } from './xid-table.js';

/** The operator's word on one XID, as the configuration has it. */
export interface XidOverride {
  readonly severity?: Severity | 'none' | undefined;
  readonly action?: string | undefined;
}

/** The recovery action that the driver asks for, of one GPU. */
export interface DriverVerdict {
  /** NVML_GPU_RECOVERY_ACTION_*. */
  readonly code: number;
  /** In the driver's own words, '' where only the code is known. */
  readonly words: string;
  readonly atMs: number;
}

export interface XidJudgement {
  /** null: no alert. */
  readonly severity: Severity | null;
  readonly meaning: string;
  /** The next step, for people. */
  readonly action: string;
}

interface Step {
  readonly severity: Severity | null;
  readonly action: string;
}

type Action = (typeof XID_TABLE)[number][3];

const RESET = 'drain the GPU and reset it (skos gpu detach, nvidia-smi --gpu-reset, skos gpu attach)';
const RESTART_NODE = 'drain the node and restart it';
const SUPPORT = 'run nvidia-bug-report.sh and ask NVIDIA support';

const STEPS: Readonly<Record<Action, Step>> = {
  IGNORE: { severity: null, action: 'nothing' },
  RESTART_APP: { severity: 'warning', action: 'restart the application that used the GPU' },
  RESTART_VM: { severity: 'warning', action: 'restart the virtual machine' },
  RESET_GPU: { severity: 'critical', action: RESET },
  RESTART_BM: { severity: 'critical', action: RESTART_NODE },
  CONTACT_SUPPORT: { severity: 'warning', action: SUPPORT },
  CHECK_MECHANICALS: { severity: 'critical', action: 'check the power cables and the seat of the GPU' },
  UPDATE_SWFW: { severity: 'warning', action: 'update the driver, the vGPU software or the firmware' },
  CHECK_UVM: { severity: 'warning', action: `look for another XID that explains it; standing alone: ${SUPPORT}` },
  WORKFLOW_XID_45: {
    severity: 'warning',
    action: 'look for the XID before it; standing alone: restart the application',
  },
  WORKFLOW_XID_48: { severity: 'critical', action: `${RESET}; with XID 94 restarting the application is enough` },
  WORKFLOW_NVLINK_ERR: {
    severity: 'critical',
    action: 'see nvidia-smi nvlink -e, check the seat of the GPU, and reset the GPUs of the link',
  },
  WORKFLOW_NVLINK5_ERR: { severity: 'warning', action: 'see nvidia-smi nvlink -e and the other end of the link' },
  // NVML tells that it changed, and not to what.
  XID_154: { severity: 'warning', action: 'see what the driver asks for: skos gpu, or nvidia-smi -q' },
  UNSTATED: { severity: 'warning', action: 'NVIDIA states no action; see its XID catalogue' },
};

/** What the catalogue says in its column of actions as prose, in our words. */
const STATED_AS_PROSE: ReadonlyMap<number, Step> = new Map([
  [162, { severity: null, action: 'nothing: power smoothing works again' }],
  [
    163,
    {
      severity: 'warning',
      action:
        'no reset is needed; for power smoothing to come back, end the heat, or reload the driver after a time-out',
    },
  ],
]);

const NVLINK5_FATAL: Step = { severity: 'critical', action: `${RESET}; see nvidia-smi nvlink -e and the other end` };

/** NVML_GPU_RECOVERY_ACTION_*, nvml.h. */
const RECOVERY_STEPS: readonly Step[] = [
  { severity: null, action: 'nothing' },
  { severity: 'critical', action: RESET },
  { severity: 'critical', action: RESTART_NODE },
  { severity: 'warning', action: 'drain the peer-to-peer traffic of the GPU' },
  { severity: 'critical', action: RESET },
  { severity: 'critical', action: 'recover the IMEX domain of the NVLink fabric' },
];
/** An action of a newer driver: serious, because the driver asks for something. */
const UNKNOWN_RECOVERY: Step = { severity: 'critical', action: 'do what the driver asks for' };

const BY_CODE = new Map<number, (typeof XID_TABLE)[number]>(XID_TABLE.map((row) => [row[0], row]));

const RECOVERY_XID = 154;

export function judgeXid(given: {
  readonly code: number;
  /** Of its line: "fatal" or "nonfatal", where it says so. */
  readonly lineSeverity: string | undefined;
  /** Another XID explains this one. */
  readonly led: boolean;
  readonly verdict: DriverVerdict | undefined;
  readonly override: XidOverride | undefined;
}): XidJudgement {
  const { code, verdict, override } = given;
  const row = BY_CODE.get(code);
  const catalogue = catalogueStep(given);
  const obeyed = code === RECOVERY_XID || (row?.[4] ?? false) ? verdict : undefined;
  const judged = obeyed === undefined ? catalogue : withVerdict(catalogue, obeyed, code === RECOVERY_XID);
  const severity = override?.severity === 'none' ? null : (override?.severity ?? judged.severity);
  return { severity, meaning: meaningOf(row), action: override?.action ?? judged.action };
}

/** What the driver asks for, for people. */
export function verdictText({ code, words }: DriverVerdict): string {
  const { action } = RECOVERY_STEPS[code] ?? UNKNOWN_RECOVERY;
  return words === '' ? action : `${action} (driver: ${words})`;
}

function catalogueStep({
  code,
  lineSeverity,
  led,
}: {
  code: number;
  lineSeverity: string | undefined;
  led: boolean;
}): Step {
  const row = BY_CODE.get(code);
  if (row === undefined) return STEPS.UNSTATED;
  const action = row[3];
  // "Not solo: ignore, follow the other XID" (WORKFLOW_XID_45).
  if (action === 'WORKFLOW_XID_45' && led) return STEPS.IGNORE;
  if (action === 'WORKFLOW_NVLINK5_ERR' && lineSeverity === 'fatal') return NVLINK5_FATAL;
  return STATED_AS_PROSE.get(code) ?? STEPS[action];
}

/** The driver knows this GPU, the catalogue all of them: its action counts. No verdict takes an alert away but that of 154. */
function withVerdict(catalogue: Step, verdict: DriverVerdict, isVerdictItself: boolean): Step {
  const { severity } = RECOVERY_STEPS[verdict.code] ?? UNKNOWN_RECOVERY;
  if (isVerdictItself) return { severity, action: verdictText(verdict) };
  if (severity === null) return catalogue;
  const isMore = severity === 'critical' || catalogue.severity === null;
  return { severity: isMore ? severity : catalogue.severity, action: verdictText(verdict) };
}

function meaningOf(row: (typeof XID_TABLE)[number] | undefined): string {
  if (row === undefined) return 'not in the catalogue that we know';
  return row[2] === '' ? `${row[1]}, which NVIDIA’s catalogue calls unused` : row[2];
}
