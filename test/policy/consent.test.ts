/** How the operator's words weigh against policy. */
import t from 'tap';
import type { Verb } from '../../src/core/action-names.js';
import { type Consent, consent, riskOf, type Words } from '../../src/policy/consent.js';

const SILENT: Words = { isBarred: false, isHeld: false, isApproved: false, isActing: false };
const EVERY = [false, true].flatMap((isBarred) =>
  [false, true].flatMap((isHeld) =>
    [false, true].flatMap((isApproved) =>
      [false, true].map((isActing): Words => ({ isBarred, isHeld, isApproved, isActing })),
    ),
  ),
);

t.test('without a word the permission stands', async (t) => {
  for (const permission of ['act', 'propose', 'observe'] as const)
    t.equal(consent(permission, 'throttle', SILENT), permission);
});

t.test('nothing makes an observed action act', async (t) => {
  for (const words of EVERY) t.equal(consent('observe', 'throttle', words), 'observe');
});

t.test('a proposed action acts when it is approved, and only then', async (t) => {
  for (const words of EVERY) {
    const expected: Consent = !words.isApproved ? 'propose' : words.isBarred ? 'barred' : 'act';
    t.equal(consent('propose', 'throttle', words), expected, JSON.stringify(words));
  }
});

t.test('a hold begins nothing new, leaves what acts, and silences no notice', async (t) => {
  const held = { ...SILENT, isHeld: true };
  t.equal(consent('act', 'throttle', held), 'held');
  t.equal(consent('act', 'throttle', { ...held, isActing: true }), 'act', 'a cap that stands is kept');
  t.equal(consent('act', 'throttle', { ...held, isApproved: true }), 'act', 'who approves during a hold means it');
  t.equal(consent('act', 'alert_human', held), 'act');
});

t.test('a bar beats everything that would act', async (t) => {
  for (const words of EVERY.filter(({ isBarred }) => isBarred)) {
    t.equal(consent('act', 'throttle', words), 'barred');
    t.equal(consent('act', 'alert_human', words), 'barred');
  }
});

t.test('the risk is that of the class', async (t) => {
  const risks: [Verb, string][] = [
    ['alert_human', 'low'],
    ['throttle', 'low'],
    ['restart_unit', 'medium'],
    ['cleanup_temp', 'high'],
    ['hook', 'high'],
  ];
  for (const [verb, risk] of risks) t.equal(riskOf(verb), risk, verb);
});
