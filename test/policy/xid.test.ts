/** What each XID means and asks for, and whose word counts. */
import t from 'tap';
import {
  type DriverVerdict,
  judgeXid,
  verdictText,
  type XidJudgement,
  type XidOverride,
} from '../../src/policy/xid.js';
import { XID_TABLE } from '../../src/policy/xid-table.js';

function judge(
  code: number,
  given: { lineSeverity?: string; led?: boolean; verdict?: DriverVerdict; override?: XidOverride } = {},
): XidJudgement {
  const { lineSeverity, led = false, verdict, override } = given;
  return judgeXid({ code, lineSeverity, led, verdict, override });
}

const verdict = (code: number, words = ''): DriverVerdict => ({ code, words, atMs: 0 });

t.test('the severity follows from what the vendor says is to be done', async (t) => {
  const expected = {
    13: 'warning', // RESTART_APP
    31: 'warning',
    43: null, // IGNORE
    45: 'warning', // standing alone
    46: 'critical', // RESET_GPU
    48: 'critical',
    54: 'critical', // CHECK_MECHANICALS
    63: null,
    64: 'critical',
    74: 'critical',
    79: 'critical', // RESTART_BM
    92: null,
    94: 'warning',
    95: 'critical',
    119: 'critical',
    142: 'warning', // CONTACT_SUPPORT
    151: 'warning', // RESTART_VM
    162: null,
    163: 'warning',
    173: 'warning', // no action stated
  } as const;
  for (const [code, severity] of Object.entries(expected)) t.equal(judge(Number(code)).severity, severity, code);
});

t.test('knows every XID of the catalogue, each with a meaning and a next step', async (t) => {
  t.equal(new Set(XID_TABLE.map(([code]) => code)).size, XID_TABLE.length, 'no code twice');
  t.ok(XID_TABLE.length >= 173);
  for (const [code] of XID_TABLE) {
    const { meaning, action } = judge(code);
    t.ok(meaning.length > 3 && action.length > 3, String(code));
  }
});

t.test('an XID of a newer driver is a warning that says so', async (t) => {
  for (const code of [174, 999, 9999]) t.match(judge(code), { severity: 'warning', meaning: /not in the catalogue/ });
});

t.test('an XID that the catalogue calls unused says so', async (t) => {
  t.match(judge(1), { severity: 'warning', meaning: /unused/ });
});

t.test('NVLink 5 errors are as severe as their line', async (t) => {
  for (let code = 144; code <= 150; code++) {
    t.equal(judge(code, { lineSeverity: 'fatal' }).severity, 'critical');
    t.equal(judge(code, { lineSeverity: 'nonfatal' }).severity, 'warning');
    t.equal(judge(code).severity, 'warning');
  }
});

t.test('clean-up after another XID is no alert of its own', async (t) => {
  t.equal(judge(45, { led: true }).severity, null);
});

t.test('the driver’s verdict overrides the action where the driver follows up with one', async (t) => {
  t.match(judge(94, { verdict: verdict(1, 'GPU Reset Required') }), {
    severity: 'critical',
    action: /reset.*driver: GPU Reset Required/,
  });
  t.match(judge(79, { verdict: verdict(2, 'Node Reboot Required') }), { action: /restart it \(driver: Node Reboot/ });
  t.match(judge(64, { verdict: verdict(3) }), { severity: 'critical' }, 'a smaller request makes nothing less serious');
  t.same(judge(31, { verdict: verdict(1) }), judge(31), 'not of an application’s own fault');
});

t.test('the verdict "none" takes away only the alert about the verdict', async (t) => {
  t.equal(judge(154, { verdict: verdict(0, 'None') }).severity, null);
  t.same(judge(79, { verdict: verdict(0, 'None') }), judge(79));
});

t.test('a verdict that we do not know is serious and keeps the driver’s words', async (t) => {
  t.match(judge(154, { verdict: verdict(9, 'Swap Board') }), { severity: 'critical', action: /Swap Board/ });
  t.match(verdictText(verdict(9)), /driver asks/);
});

t.test('the operator’s word overrides all', async (t) => {
  const asked = verdict(2, 'Node Reboot Required');
  t.match(judge(79, { verdict: asked, override: { severity: 'none' } }), { severity: null });
  t.match(judge(79, { verdict: asked, override: { severity: 'emergency', action: 'call Ada' } }), {
    severity: 'emergency',
    action: 'call Ada',
  });
  t.match(judge(63, { override: { severity: 'warning' } }), { severity: 'warning' }, 'also to say more');
});
