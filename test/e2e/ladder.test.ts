/** The whole way of one danger: sensor → alert → cap → read-back → record, and back again. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ActionRecord } from '../../src/core/ports.js';
import { catalogSubjects, type JournalEntry } from '../fixtures/journal.js';
import { noMosquitto } from '../fixtures/net-program.js';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ } from '../fixtures/node.js';

t.jobs = 3;

const SEVERITIES = ['warning', 'critical', 'emergency'] as const;

function newest(actions: readonly ActionRecord[], action: string): ActionRecord | undefined {
  return actions.find((record) => record.action === action);
}

async function untilAction(node: HeatedNode, action: string, state: string): Promise<ActionRecord> {
  let found: ActionRecord | undefined;
  await node.until(`${action} ${state}`, async () => {
    found = newest(await node.actions(), action);
    return found?.state === state;
  });
  if (found === undefined) throw new Error('unreachable');
  return found;
}

t.test(
  'a rise through 75, 85 and 95 °C is told, capped, recorded and taken back rung by rung',
  { skip: noMosquitto },
  async (t) => {
    const node = await heatedNode(t, { net: true, journal: true });
    await node.until('skos-net listens', async () => (await node.status()).net.connected);
    const mqtt = node.subscribe('skos/#');
    await node.until('the subscriber sees the node', () => mqtt.last.get('skos/peer/nova')?.state === 'online');
    const told = () =>
      mqtt.lines.filter(({ topic }) => topic === 'skos/alert/nova').map(({ payload }) => JSON.parse(payload));
    const actives = () =>
      [...mqtt.last].filter(([topic, payload]) => topic.startsWith('skos/active/nova/') && payload !== null);

    const expectedKHz = { warning: KHZ.throttle10, critical: KHZ.throttle50, emergency: KHZ.throttle50 };
    for (const severity of SEVERITIES) {
      node.celsius(CELSIUS[severity]);
      await node.until(`${severity} over MQTT`, () => told().some((alert) => alert.severity === severity));
      await node.untilCappedAt(expectedKHz[severity]);
      await node.until('the retained alert is of it', () => actives()[0]?.[1]?.severity === severity);
    }
    t.equal(actives().length, 1, 'one alert stands');
    t.match(told()[0], {
      v: 1,
      agent_id: 'thermal-sentinel-nova',
      type: 'thermal',
      severity: 'warning',
      node: 'nova',
      message: 'CPU temperature 78.0°C exceeds warning threshold',
      details: { sensor: 'cpu', temperature: 78, threshold: 75 },
      state: 'firing',
    });

    const throttle10 = await untilAction(node, 'throttle_10', 'active');
    const throttle50 = await untilAction(node, 'throttle_50', 'active');
    t.match(throttle10.actionId, /^nova:thermal:throttle_10:\d{10}$/);
    for (const [record, written] of [
      [throttle10, KHZ.throttle10],
      [throttle50, KHZ.throttle50],
    ] as const) {
      t.same(
        record.effects.map(({ target, outcome, former, readBack }) => ({ target, outcome, former, readBack })),
        ['cpufreq/policy0', 'cpufreq/policy1'].map((target) => ({
          target,
          outcome: 'applied',
          former: String(FORMER_KHZ),
          readBack: String(written),
        })),
        'every policy, with former and read-back value',
      );
    }
    const actions = await node.actions();
    for (const action of ['redistribute', 'shutdown_non_essential', 'failover']) {
      const record = newest(actions, action);
      t.ok(record?.state === 'unavailable' || record?.state === 'proposed', `${action} is ${record?.state}`);
      t.same(record?.effects, [], `${action} moved nothing`);
    }
    t.equal(actions.length, 5, 'nothing else was done');

    node.celsius(CELSIUS.cool);
    await node.untilCappedAt(KHZ.throttle10);
    t.match((await node.alerts())[0], { severity: 'warning' }, 'down to the first rung before the last');
    await node.untilCappedAt(FORMER_KHZ);
    await node.until('no alert stands', async () => (await node.alerts()).length === 0);
    await node.until('the retained alert is emptied', () => actives().length === 0);
    // The stricter cap ends at the milder one that still stands, and that at the former value.
    for (const [action, left] of [
      ['throttle_50', KHZ.throttle10],
      ['throttle_10', FORMER_KHZ],
    ] as const) {
      const record = await untilAction(node, action, 'released');
      t.ok(record.endedAtMs !== null);
      t.same(
        record.effects.map(({ readAfter }) => readAfter),
        [String(left), String(left)],
      );
    }
    const late = node.subscribe('skos/active/#', 'skos/peer/#');
    await node.until('a late subscriber is served', () => late.last.has('skos/peer/nova'));
    t.notOk(
      [...late.last.keys()].some((topic) => topic.startsWith('skos/active/')),
      'and finds no alert',
    );

    await journalTells(t, node);
    await auditTells(t, node);
  },
);

t.test('mode observe writes nothing to sysfs, ever, and records what would have been done', async (t) => {
  const node = await heatedNode(t, { mode: 'observe' });
  const before = writable(node);
  for (const severity of SEVERITIES) {
    node.celsius(CELSIUS[severity]);
    await node.until(`${severity} stands`, async () => (await node.alerts())[0]?.severity === severity);
  }
  const actions = await node.actions();
  t.same(
    actions.map(({ action, state }) => [action, state]).sort(),
    ['failover', 'redistribute', 'shutdown_non_essential', 'throttle_10', 'throttle_50'].map((action) => [
      action,
      'observed',
    ]),
  );
  const { mode, armed, actuator } = await node.status();
  t.match({ mode, armed }, { mode: 'observe', armed: false });
  t.same([actuator.leases, actuator.orders], [[], []], 'no lease, and no standing order');
  // Hotter than any order's bound, for longer than any sampling period.
  await node.stays('untouched', () => writable(node) === before, 500);
  node.celsius(CELSIUS.cool);
  await node.until('the alert is over', async () => (await node.alerts()).length === 0);
  t.equal(writable(node), before);
});

/** Content and time of change of everything that an actuator could write. */
function writable(node: HeatedNode): string {
  const files = node.policies.map((policy) => `${policy}/scaling_max_freq`);
  return JSON.stringify(
    files.map((file) => [node.machine.get(file), statSync(join(node.machine.sysfs, file)).mtimeMs]),
  );
}

t.test('mode propose writes nothing and leaves it to the operator', async (t) => {
  const node = await heatedNode(t, { mode: 'propose' });
  const before = writable(node);
  node.celsius(CELSIUS.emergency);
  await untilAction(node, 'throttle_50', 'proposed');
  t.same([...new Set((await node.actions()).map(({ state }) => state))], ['proposed']);
  await node.stays('untouched', () => writable(node) === before, 300);
  node.celsius(CELSIUS.cool);
  await node.until('the proposals are over', async () =>
    (await node.actions()).every(({ endedAtMs }) => endedAtMs !== null),
  );
  t.equal(writable(node), before);
});

t.test('a limit that another program sets meanwhile is left alone, and said to be foreign', async (t) => {
  const node = await heatedNode(t);
  node.celsius(CELSIUS.warning);
  await node.untilCappedAt(KHZ.throttle10);
  const [first, second] = node.policies.map((policy) => `${policy}/scaling_max_freq`);
  node.machine.set(first ?? '', 1_000_000);
  node.celsius(CELSIUS.cool);
  const record = await untilAction(node, 'throttle_10', 'foreign_change');
  t.equal(node.machine.get(first ?? ''), '1000000');
  await node.until('the other policy is released', () => Number(node.machine.get(second ?? '')) === FORMER_KHZ);
  t.match(record.effects, [{ target: 'cpufreq/policy0', outcome: 'foreign_change' }, { outcome: 'released' }]);
  t.match(record.reason, /changed by another program/);
});

async function journalTells(t: Test, node: HeatedNode): Promise<void> {
  const entries = node.journal();
  const subjects = catalogSubjects();
  const alerts = entries.filter(({ SKOS_EVENT }) => SKOS_EVENT === 'alert.fire' || SKOS_EVENT === 'alert.escalate');
  t.match(
    alerts.map(({ SKOS_SEVERITY, PRIORITY, SKOS_RULE, SKOS_NODE, SYSLOG_IDENTIFIER }) => ({
      SKOS_SEVERITY,
      PRIORITY,
      SKOS_RULE,
      SKOS_NODE,
      SYSLOG_IDENTIFIER,
    })),
    [
      { SKOS_SEVERITY: 'warning', PRIORITY: '4' },
      { SKOS_SEVERITY: 'critical', PRIORITY: '3' },
      { SKOS_SEVERITY: 'emergency', PRIORITY: '2' },
    ].map((each) => ({ ...each, SKOS_RULE: 'thermal-cpu', SKOS_NODE: 'nova', SYSLOG_IDENTIFIER: 'skos-agent' })),
    'one entry for each severity',
  );
  for (const entry of alerts) {
    t.match(subjects.get(entry.MESSAGE_ID ?? ''), /@SKOS_RULE@ on @SKOS_CHANNEL@/, 'the catalog explains it');
    t.ok(entry.SKOS_CHANNEL, 'and the fields that it speaks of are there');
    t.ok(entry.SKOS_ALERT);
  }
  const clear = entries.filter(({ SKOS_EVENT }) => SKOS_EVENT === 'alert.clear');
  t.equal(clear.length, 1, 'one entry for the end');
  const active = entries.find(
    ({ SKOS_EVENT, SKOS_VERB }) => SKOS_EVENT === 'action.active' && SKOS_VERB === 'throttle_50',
  );
  t.match(active, {
    SKOS_OUTCOME: 'active',
    SKOS_ACTION: /^nova:thermal:throttle_50:\d+/,
    MESSAGE: /2800000 → 1400000/,
  });
  t.ok(subjects.has(active?.MESSAGE_ID ?? ''), 'the catalog explains the action');
  for (const event of ['agent.start', 'agent.ready', 'actuator.connected']) {
    t.ok(
      entries.some(({ SKOS_EVENT }) => SKOS_EVENT === event),
      event,
    );
  }
  const unexplained = entries.filter(
    ({ SKOS_EVENT, MESSAGE_ID }) => SKOS_EVENT !== undefined && !subjects.has(MESSAGE_ID ?? ''),
  );
  t.same(unexplained.map(told), [], 'no event without an explanation');
  const bad = entries.filter(({ PRIORITY, SKOS_EVENT }) => Number(PRIORITY) <= 3 && !SKOS_EVENT?.startsWith('alert.'));
  t.same(bad.map(told), [], 'no error of its own');
}

function told({ SKOS_EVENT, MESSAGE }: JournalEntry): string {
  return `${SKOS_EVENT}: ${MESSAGE}`;
}

async function auditTells(t: Test, node: HeatedNode): Promise<void> {
  t.match(await node.cli('audit', 'verify'), { code: 0, out: /The chain is whole/ });
  const entries = await node.audit();
  const kinds = entries.map(({ kind }) => kind);
  for (const kind of [
    'agent.start',
    'alert.fire',
    'alert.escalate',
    'action.active',
    'action.end',
    'alert.clear',
    'actuator.event',
  ]) {
    t.ok(kinds.includes(kind), kind);
  }
  const applied = entries.find(
    ({ kind, what }) => kind === 'action.active' && String(what.action).includes('throttle_50'),
  );
  t.match(applied, { hash: /^[0-9a-f]{64}$/, what: { effects: [{ former: '2800000', readBack: '1400000' }, {}] } });
  const { code, out } = await node.cli('audit', 'list', '--from', '1', '--limit', '1000');
  t.equal(code, 0);
  t.match(out, /action\.active/);
  t.match(out, /alert\.clear/);
}
