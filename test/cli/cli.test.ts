import t from 'tap';
import { COMMANDS } from '../../src/cli/cli.js';
import { EXIT, EXIT_MEANINGS } from '../../src/cli/exit-codes.js';
import { SkosError } from '../../src/core/errors.js';
import { node, skos, status } from '../fixtures/cli.js';

const ANSI = String.fromCharCode(27);

t.test('the overview names every command and every exit code, in 80 columns', async (t) => {
  const { code, out } = await skos(['--help']);
  t.equal(code, EXIT.ok);
  for (const { name } of COMMANDS) t.match(out, new RegExp(`^  ${name} `, 'm'));
  for (const meaning of Object.values(EXIT_MEANINGS)) t.ok(out.includes(meaning), meaning);
  for (const line of out.split('\n')) t.ok(line.length <= 80, line);
});

t.test('every command has help with usage, each option and an example, in 80 columns', async (t) => {
  for (const { name, options, optionHelp, examples } of COMMANDS) {
    const { code, out } = await skos([name, '--help']);
    t.equal(code, EXIT.ok);
    t.match(out, /^Usage:$/m, name);
    t.ok(examples.length > 0, name);
    for (const option of Object.keys(options)) {
      t.ok(optionHelp[option], `${name} --${option} has a help text`);
      t.ok(out.includes(`--${option}`), `${name} --${option}`);
    }
    for (const line of out.split('\n')) t.ok(line.length <= 80, `${name}: ${line}`);
    t.equal((await skos(['help', name])).out, out);
  }
});

t.test('what is not understood ends with 2, and nothing is done', async (t) => {
  for (const [argv, says] of [
    [[], 'Usage'],
    [['statsu'], 'did you mean skos status?'],
    [['--verbose'], 'no command'],
    [['status', '--jsn'], 'did you mean --json?'],
    [['status', 'now'], 'one word too many'],
    [['audit'], 'expected one of verify, list, show, export, rotate-key'],
    [['audit', 'verfy'], 'did you mean verify?'],
    [['config'], 'needs a subcommand'],
    [['log', 'level', 'loud'], 'not a log level'],
    [['log', 'level', 'debgu'], 'did you mean debug?'],
    [['log', 'level', 'debug', '--for', 'ever'], 'not a duration'],
    [['release', '--for', '2d'], 'not a duration'],
    [['release', '--for', '25h'], 'at most 24h'],
    [['alerts', '--limit', '0'], 'whole number'],
    [['alerts', '--limit', '1e3'], 'whole number'],
    [['actions', '--limit'], 'argument missing'],
    [['hold', '--for', '-1'], '--for needs a value; one that begins with "-" is written --for=-1\nnext'],
    [['hold', '--end=1'], "Option '--end' does not take an argument"],
    [['audit', 'show'], 'skos audit show: expected the number of an entry'],
    [['audit', 'show', 'x'], 'skos audit show "x": expected'],
    [['sensors', '--once', '--watch'], 'exclude each other'],
    [['explain', 'SKOS_STORE_OPNE'], 'did you mean SKOS_STORE_OPEN?'],
    [['config', 'explain', 'thermal.keeep'], 'did you mean thermal.keep?'],
  ] as const) {
    const { code, err, out } = await skos(argv, { env: { SKOS_RUN_DIR: '/nonexistent' } });
    t.equal(code, EXIT.usage, argv.join(' '));
    t.match(err, says, argv.join(' '));
    t.equal(out, '');
    const [word = ''] = argv;
    const isCommand = COMMANDS.some(({ name }) => name === word);
    if (isCommand) t.match(err, `next: See \`skos ${word} --help\`.`);
    t.ok((err.match(/did you mean/g) ?? []).length <= 1);
  }
});

t.test('every failure has a code, a next step and its exit code', async (t) => {
  for (const [code, exit] of [
    ['SKOS_SOCKET_DENIED', EXIT.denied],
    ['SKOS_STORE_OPEN', EXIT.failed],
    ['SKOS_AUDIT_BROKEN', EXIT.auditBroken],
    ['SKOS_CONFIG_INVALID', EXIT.config],
  ] as const) {
    const each = await node(t, {
      status: () => {
        throw new SkosError(code, 'as the agent says');
      },
    });
    const outcome = await each.skos(['status']);
    t.equal(outcome.code, exit, code);
    t.match(outcome.err, new RegExp(`^skos: ${code}: as the agent says\nnext: .`));
    t.equal(outcome.out, '');
  }
});

t.test('no agent ends with 3', async (t) => {
  const each = await node(t);
  const { code, err } = await each.skos(['status']);
  t.equal(code, EXIT.noAgent);
  t.match(err, /SKOS_SOCKET_UNAVAILABLE.*\nnext: Start the agent/);
});

t.test('an agent that does not admit us ends with 5', async (t) => {
  const each = await node(t, { status: () => status() }, { role: null });
  t.equal((await each.skos(['status'])).code, EXIT.denied);
});

t.test('a broken configuration ends with 4, each fault on a line of its own', async (t) => {
  const each = await node(t);
  each.write('etc/skos.yaml', 'moed: auto\nlog: { level: loud }\n');
  const { code, err } = await each.skos(['config', 'check']);
  t.equal(code, EXIT.config);
  t.match(
    err,
    /^skos: SKOS_CONFIG_INVALID:\n {2}.*skos\.yaml:1:1: .*did you mean mode\?\n {2}.*skos\.yaml:2:15: .*\nnext: /,
  );
});

t.test('a broken configuration does not keep the operator from the running agent', async (t) => {
  const each = await node(t, { status: () => status() });
  each.write('etc/skos.yaml', 'moed: auto\n');
  const { code, out, err } = await each.skos(['status']);
  t.equal(code, EXIT.ok);
  t.match(out, /nova/);
  t.match(err, /configuration cannot be used/);
});

t.test('colours come only where they are wanted', async (t) => {
  const each = await node(t, { status: () => status({ alerts: 2 }) });
  t.ok((await each.skos(['status'], { color: true })).out.includes(ANSI));
  t.notOk((await each.skos(['status'])).out.includes(ANSI));
});

t.test('explains a code, also without its prefix and in lower case', async (t) => {
  for (const code of ['SKOS_ACTUATOR_ALLOW', 'ACTUATOR_ALLOW', 'actuator_allow']) {
    t.match((await skos(['explain', code])).out, /^SKOS_ACTUATOR_ALLOW\n {2}.*\n {2}Next: /);
  }
  const all = await skos(['explain']);
  for (const line of all.out.split('\n')) t.ok(line.length <= 80, line);
});

t.test('changes the log level for a while', async (t) => {
  const asked: unknown[] = [];
  const each = await node(t, {
    'log.level': (params) => {
      asked.push(params);
      return { level: params.level, untilAtMs: 0 };
    },
  });
  const { code, out } = await each.skos(['log', 'level', 'DEBUG', '--for', '10m']);
  t.equal(code, EXIT.ok);
  t.same(asked, [{ level: 'debug', forSeconds: 600 }]);
  t.match(out, 'until 1970-01-01 00:00:00Z');
});

t.test('releases everything, or one rule for a while', async (t) => {
  const asked: unknown[] = [];
  const each = await node(t, {
    release: (params) => {
      asked.push({ ...params });
      return { released: ['a:cpufreq/policy0'], barred: ['thermal-cpu'] };
    },
  });
  t.match(
    (await each.skos(['release'])).out,
    /Released 1 action\.\n {2}a:cpufreq\/policy0\nBarred from acting for 10m: thermal-cpu\./,
  );
  await each.skos(['release', 'thermal-cpu', '--for', '0']);
  t.match(asked, [{}, { rule: 'thermal-cpu', forSeconds: 0 }]);
});

/** What a verdict says beside whether the chain is whole. */
const CHAIN = { entries: 9, signatures: { keys: [], signedSeq: 0, unsigned: 9 }, knownHeads: 1, remarks: [] } as const;

t.test('a broken audit chain ends with 6, also as JSON', async (t) => {
  const verdict = { ok: false, firstBadSeq: 4, why: 'hash differs', ...CHAIN } as const;
  const each = await node(t, { status: () => status(), 'audit.verify': () => verdict });
  const text = await each.skos(['audit', 'verify']);
  t.equal(text.code, EXIT.auditBroken);
  t.match(text.err, /SKOS_AUDIT_BROKEN: first bad entry 4/);
  const json = await each.skos(['audit', 'verify', '--json']);
  t.equal(json.code, EXIT.auditBroken);
  t.match(JSON.parse(json.out), verdict);
});

t.test('a whole audit chain ends with 0 and shows its head', async (t) => {
  const head = { seq: 9, hash: 'ef'.repeat(32) };
  const each = await node(t, { status: () => status(), 'audit.verify': () => ({ ok: true, head, ...CHAIN }) });
  const { code, out } = await each.skos(['audit', 'verify']);
  t.equal(code, EXIT.ok);
  t.match(out, head.hash);
});

t.test('lists the last audit entries, or those from a number on', async (t) => {
  const asked: unknown[] = [];
  const each = await node(t, {
    status: () => status(),
    'audit.list': (params) => {
      asked.push({ ...params });
      return [
        {
          seq: 3,
          atMs: 0,
          kind: 'arm',
          who: 'root',
          what: { mode: 'auto', text: 'x'.repeat(100) },
          previous: '',
          hash: '',
        },
      ];
    },
  });
  const { out } = await each.skos(['audit', 'list', '--limit', '5']);
  t.ok(out.length <= 80, out);
  t.match(out, / arm +root +auto, text xxx/, 'only what leads goes without its name');
  await each.skos(['audit', 'list', '--from', '3']);
  t.match(asked, [
    { fromSeq: 8, limit: 5 },
    { fromSeq: 3, limit: 20 },
  ]);
});
