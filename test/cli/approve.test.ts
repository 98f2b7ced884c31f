/** `skos approve`, `hold` and `orders`: what they show, ask and refuse. */
import t from 'tap';
import { EXIT } from '../../src/cli/exit-codes.js';
import type { ActionRecord } from '../../src/core/ports.js';
import type { ProposalView } from '../../src/core/protocol.js';
import { NOW_MS, node, status } from '../fixtures/cli.js';

const ID = 'nova:thermal:throttle_50:1704067200';

const action: ActionRecord = {
  actionId: ID,
  action: 'throttle_50',
  rule: 'thermal-cpu',
  alert: 'thermal-cpu-x',
  channel: 'hwmon/coretemp-0/temp1',
  severity: 'critical',
  state: 'proposed',
  reason: 'not automatic here',
  effects: [],
  startedAtMs: NOW_MS - 5_000,
  endedAtMs: null,
};

const view: ProposalView = {
  action,
  risk: 'low',
  effects: [{ target: 'cpufreq/policy0', capPpm: 500_000, current: '2800000' }],
  jobs: [],
  listing: null,
  unavailable: null,
  token: 'c0ffee',
  forSeconds: 300,
};

function decided(given: ProposalView = view) {
  const approved: unknown[] = [];
  const handlers = {
    status: () => status(),
    'approve.show': () => given,
    approve: (params: unknown) => {
      approved.push({ ...(params as object) });
      return {};
    },
  };
  return { approved, handlers };
}

t.test('shows risk, targets and values first, and approves when the name is typed', async (t) => {
  const { approved, handlers } = decided();
  const each = await node(t, handlers);
  const done = await each.skos(['approve', ID], { ask: async () => ' nova ' });
  t.equal(done.code, EXIT.ok, done.err);
  t.match(done.out, /risk: low[\s\S]*cpufreq\/policy0 +now 2800000 +to 50 % [\s\S]*5 min/);
  t.strictSame(approved, [{ actionId: ID, token: 'c0ffee' }]);
});

t.test('shows what would be run, and of what it would touch no more than fits a screen', async (t) => {
  const items = Array.from({ length: 100 }, (_, i) => `/scratch/\u001b[31m${i}`);
  const listing = { atMs: NOW_MS - 60_000, summary: 'would delete 500 files', items, total: 500 };
  const { handlers } = decided({ ...view, effects: [], jobs: ['act/cleanup_temp'], listing });
  const each = await node(t, handlers);
  const done = await each.skos(['approve', ID], { ask: async () => 'nova' });
  t.match(done.out, /cannot be taken back:\n +act\/cleanup_temp\n +As of .*would delete 500 files/);
  t.match(done.out, /and 480 more/);
  t.notOk(done.out.includes('\u001b[31m'));
});

t.test('approves nothing without the name, from a terminal or a script', async (t) => {
  const { approved, handlers } = decided();
  const each = await node(t, handlers);
  for (const [argv, io] of [
    [['approve', ID], { ask: async () => 'yes' }],
    [['approve', ID], {}],
    [['approve', ID, '--confirm', 'lyra'], {}],
  ] as const) {
    const refused = await each.skos(argv, io);
    t.match(refused.err, /SKOS_CLI_NAME/);
    t.not(refused.code, EXIT.ok);
  }
  t.strictSame(approved, []);
  t.equal((await each.skos(['approve', ID, '--confirm', 'nova'])).code, EXIT.ok);
  t.equal(approved.length, 1);
});

t.test('does not ask about what cannot be done', async (t) => {
  const { approved, handlers } = decided({ ...view, risk: 'high', effects: [], unavailable: 'no target\u001b[2J' });
  const each = await node(t, handlers);
  const asked: string[] = [];
  const done = await each.skos(['approve', ID], {
    ask: async (question) => {
      asked.push(question);
      return 'nova';
    },
  });
  t.equal(done.code, EXIT.failed);
  t.match(done.out, /risk: high[\s\S]*Cannot be done: no target\?\[2J/);
  t.strictSame([asked, approved], [[], []]);
});

t.test('lists what is proposed, and nothing else', async (t) => {
  const others: ActionRecord[] = [
    { ...action, actionId: 'a:active', state: 'active' },
    { ...action, actionId: 'a:over', endedAtMs: NOW_MS },
  ];
  const each = await node(t, { preview: () => ({ node: 'nova', actions: [...others, action], targets: [] }) });
  const { out } = await each.skos(['approve']);
  t.match(out, ID);
  t.notMatch(out, /a:active|a:over/);
});

t.test('hold asks for the name only when caps are to go', async (t) => {
  const held: unknown[] = [];
  const each = await node(t, {
    status: () => status(),
    hold: (params) => {
      held.push({ ...params });
      return { untilAtMs: NOW_MS + 7_200_000, released: params.includingCaps === true ? ['x'] : [] };
    },
    'hold.end': () => ({ ended: false }),
  });
  t.match(await each.skos(['hold', '--for', '2h']), { code: EXIT.ok, out: /On hold until/ });
  t.match(await each.skos(['hold', '--including-caps']), { code: /[^0]/, err: /SKOS_CLI_NAME/ });
  t.match(await each.skos(['hold', '--including-caps', '--confirm', 'nova']), {
    code: EXIT.ok,
    out: /Released 1 action/,
  });
  t.strictSame(held, [
    { forSeconds: 7_200, includingCaps: false },
    { forSeconds: 3_600, includingCaps: true },
  ]);
  t.match(await each.skos(['hold', '--end']), { code: EXIT.ok, out: /There was no hold/ });
  for (const argv of [
    ['hold', '--end', '--for', '1h'],
    ['hold', '--for', '0'],
    ['hold', '--for', '2 weeks'],
  ])
    t.equal((await each.skos(argv)).code, EXIT.usage, argv.join(' '));
});

t.test('status says that the node is on hold', async (t) => {
  const each = await node(t, { status: () => status({ hold: { untilAtMs: NOW_MS + 60_000, who: 'root' } }) });
  t.match((await each.skos(['status'])).out, /on hold +until .* by root/);
});

t.test('orders shows what each saw last, and never a number that was not read', async (t) => {
  const order = {
    order: 'thermal:hwmon/coretemp-0/temp1',
    rule: 'thermal-cpu',
    channel: 'hwmon/coretemp-0/temp1',
    raised: true,
    value: 96.5,
    unit: 'celsius',
    quality: 'ok' as const,
  };
  const gone = {
    ...order,
    order: 'old:gone',
    rule: '',
    channel: '',
    raised: false,
    value: null,
    unit: '',
    quality: 'hung' as const,
  };
  const each = await node(t, { orders: () => ({ connected: true, why: '', orders: [order, gone] }) });
  const { out } = await each.skos(['orders']);
  t.match(out, /temp1 +thermal-cpu +96.5 °C +holds its cap\nold:gone +hung +calm\n2 standing orders, 1 raised/);
  const none = await node(t, { orders: () => ({ connected: false, why: 'nothing answers', orders: [] }) });
  t.match((await none.skos(['orders'])).out, /No actuator is connected \(nothing answers\)/);
});
