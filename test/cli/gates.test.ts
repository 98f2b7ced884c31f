/** `skos breaker`, `skos silence` and `skos memory`, with the real gates, silences and memory behind the socket. */
import t, { type Test } from 'tap';
import { gateHandlers } from '../../src/control/gate-verbs.js';
import { cpuTemperature } from '../fixtures/antibodies.js';
import { alert, node as cliNode, NOW_MS, status } from '../fixtures/cli.js';
import { life, turns } from '../fixtures/control.js';
import { attemptOf, GatedNode } from '../fixtures/gates.js';

async function node(t: Test) {
  const now = life();
  now.clock.wallMs = () => NOW_MS;
  await now.silences.start();
  const gated = new GatedNode({ repairs: { interval: 1, back_off: 1 } });
  t.teardown(() => gated.gates.stop());
  gated.clock.wallMs = () => NOW_MS;
  // To gates that knew another time the clock would be years ahead.
  await gated.restart();
  const { silences, memory, rulebook, record } = now;
  const verbs = gateHandlers({
    node: 'nova',
    gates: gated.gates,
    silences,
    memory,
    alerts: { standing: [alert({ channel: 'hwmon/coretemp/temp1' })] },
    rulebook,
    sensing: { channels: [cpuTemperature()] },
    record,
  });
  const { skos } = await cliNode(t, { ...verbs, status: () => status() });
  return { now, gated, skos };
}

t.test('breaker: shows what holds repairs back, and resets it for who knows the node’s name, on record', async (t) => {
  const { now, gated, skos } = await node(t);
  t.match(await skos(['breaker', 'list']), { code: 0, out: /0\/12 this hour, 0\/48 this day[\s\S]*No breaker/ });
  for (let n = 0; n < 3; n++) {
    gated.try('restart_unit@web', 'failed');
    gated.pass(1_000);
  }
  const listed = await skos(['breaker', 'list']);
  t.match(listed.out, /restart_unit@web +open +until \d\d:\d\d:\d\dZ? +3 of 3 failures +3\/4 this hour/);
  t.match(listed.out, /restart_unit +closed +3 of 6 failures +all targets/);
  t.match(JSON.parse((await skos(['breaker', 'list', '--json'])).out), { node: { usedDay: 3 }, window: null });
  for (const argv of [
    ['breaker', 'reset'],
    ['breaker', 'reset', 'x', '--all'],
    ['breaker', 'rest'],
  ]) {
    t.match(await skos(argv), { code: 2, err: /SKOS_CLI_USAGE/ });
  }
  t.match(await skos(['breaker', 'reset', 'restart_unit@wbe', '--confirm', 'nova']), {
    err: /SKOS_BREAKER_UNKNOWN.*restart_unit@web/,
  });
  t.match(await skos(['breaker', 'reset', '--all', '--confirm', 'lyra']), { err: /SKOS_CLI_NAME/ });
  t.match((await skos(['breaker', 'list'])).out, /restart_unit@web +open/, 'nothing was reset yet');
  const reset = await skos(['breaker', 'reset', 'restart_unit@web', '--why', 'new disk', '--confirm', 'nova']);
  t.match(reset, { code: 0, out: /Reset: restart_unit@web/ });
  await turns();
  t.match(now.store.entries.at(-1), {
    kind: 'breaker.reset',
    who: 'root',
    what: { breakers: { 'restart_unit@web': 'open' }, why: 'new disk' },
  });
});

t.test('breaker: says that the clock is not believed and how to end it, which no reset of all does', async (t) => {
  const { gated, skos } = await node(t);
  gated.clock.wallMs = () => NOW_MS + 15 * 86_400_000;
  const { out } = await skos(['breaker', 'list']);
  t.match(out.replaceAll(/\s+/g, ' '), /deleted or archived by age.*`skos breaker reset wall-clock`.*No breaker/);
  t.match(await skos(['breaker', 'reset', '--all', '--confirm', 'nova']), { out: /nothing to reset/ });
  t.match(await skos(['breaker', 'reset', 'wall-clock', '--confirm', 'lyra']), { err: /SKOS_CLI_NAME/ });
  const reset = await skos(['breaker', 'reset', 'wall-clock', '--confirm', 'nova']);
  t.match(reset, { out: /Risk: high. Here it is 20\d\d-[\s\S]*Reset: wall-clock/ });
  t.notMatch((await skos(['breaker', 'list'])).out, /wall-clock|by age/);
});

t.test('silence: adds, lists and ends, and says when it covers nothing', async (t) => {
  const { skos } = await node(t);
  const added = await skos(['silence', 'add', 'hwmon/**', '--for', '2h', '--why', 'a\u001b[31mfan']);
  t.match(added, { code: 1, err: /SKOS_PROTOCOL_INVALID/ }, 'no control characters');
  t.match(await skos(['silence', 'add', 'hwmon/**', '--for', '2h', '--why', 'a fan']), {
    code: 0,
    out: /0 rules, 1 channel, and 1 alert/,
  });
  t.match(await skos(['silence', 'add', 'termal-cpu']), { out: /covers no rule, no channel and no alert/ });
  for (const argv of [
    ['silence', 'add'],
    ['silence', 'end'],
    ['silence', 'add', 'x', '--for', '31d'],
    ['silence', 'add', 'x', '--for', '0'],
  ]) {
    t.match(await skos(argv), { code: 2, err: /SKOS_CLI_USAGE/ });
  }
  const listed = await skos(['silence', 'list']);
  t.match(listed.out, /hwmon\/\*\* +for 2 h more +by root\n {2}a fan/);
  const [first] = JSON.parse((await skos(['silence', 'list', '--json'])).out) as { id: string }[];
  t.match(await skos(['silence', 'end', first?.id ?? '']), { code: 0 });
  t.match(await skos(['silence', 'end', first?.id ?? '']), { err: /SKOS_SILENCE_UNKNOWN/ });
});

t.test('memory: shows what was learnt in people’s units, and forgets with the node’s name, on record', async (t) => {
  const { now, skos } = await node(t);
  t.match(await skos(['memory']), { code: 0, out: 'Nothing has been learnt yet.' });
  const about = { rule: 'thermal-cpu', channel: 'hwmon/coretemp/temp1' };
  for (let n = 0; n < 8; n++) {
    now.memory.note(
      { ...attemptOf('throttle_10', about), result: 'unhelpful', tookMs: 1, valueBefore: 76_000, valueAfter: 86_000 },
      NOW_MS,
    );
    now.memory.note(
      { ...attemptOf('throttle_50', about), result: 'helped', tookMs: 42_000, valueBefore: 86_000, valueAfter: 79_500 },
      NOW_MS,
    );
  }
  const { out } = await skos(['memory']);
  t.match(out, /throttle_50 +helped 8 of the last 8 +in 42 s +fell 6.5 °C/);
  t.match(out, /throttle_10 +helped 0 of the last 8 +rose 10.0 °C/);
  t.match(out, /thermal-cpu on hwmon\/coretemp\/temp1 begins as critical/);
  t.match(JSON.parse((await skos(['memory', '--json'])).out), { raised: [{ severity: 'critical' }] });
  t.match(await skos(['memory', 'forget', '--confirm', 'nova']), { code: 2 });
  t.match(await skos(['memory', 'forget', 'thermal-cpu', '--confirm', 'nova']), { out: /Forgotten: 2 lessons/ });
  t.match(await skos(['memory', 'forget', '--all', '--confirm', 'nova']), { out: /Nothing is remembered/ });
  await turns();
  t.match(now.store.entries.at(-1), {
    kind: 'memory.forget',
    who: 'root',
    what: { pattern: 'thermal-cpu', forgotten: 2 },
  });
});

t.test('status: names what is silenced, what is latched, and the maintenance that is open', async (t) => {
  const window = { name: 'fans', untilAtMs: NOW_MS + 60_000 };
  const stuck = status({ silences: 2, repairs: { latched: ['restart_unit@web'], window } });
  const quiet = await (await cliNode(t, { status: () => status() })).skos(['status']);
  t.notMatch(quiet.out, /silence|repairs|maintenance/);
  const { out } = await (await cliNode(t, { status: () => stuck })).skos(['status']);
  t.match(out, /silenced +2 silences: see `skos silence list`/);
  t.match(out, /repairs +maintenance “fans” until 2026-01-02 03:05:05Z\n +restart_unit@web: its breaker is latched/);
});
