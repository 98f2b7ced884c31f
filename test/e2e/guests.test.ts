/** Programs with a token, through the real broker and agent: who may say what, chains, an external antibody, an operator. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { GuestRole } from '../../src/core/guests.js';
import { noMosquitto, type Subscriber } from '../fixtures/net-program.js';
import { type HeatedNode, heatedNode } from '../fixtures/node.js';

interface Guest {
  readonly user: string;
  readonly token: string;
}

interface Said {
  readonly code: number | null;
  readonly err: string;
}

async function token(node: HeatedNode, name: string, role: GuestRole): Promise<Guest> {
  return { user: name, token: (await node.request('token.add', { name, role })).token };
}

/** mosquitto_pub with QoS 1: exit status 0 when the broker took it. Several payloads: one connection, a line each. */
async function publish(
  { port }: HeatedNode,
  topic: string,
  payload: string | readonly string[],
  guest?: Guest,
): Promise<Said> {
  const whoever = guest === undefined ? [] : ['-u', guest.user, '-P', guest.token];
  const lines = typeof payload === 'string' ? [] : payload;
  const what = typeof payload === 'string' ? ['-m', payload] : ['-l'];
  const child = spawn('mosquitto_pub', [
    '-h',
    '127.0.0.1',
    '-p',
    String(port),
    '-q',
    '1',
    '-t',
    topic,
    ...whoever,
    ...what,
  ]);
  let err = '';
  child.stderr.on('data', (chunk) => {
    err += String(chunk);
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(lines.map((line) => `${line}\n`).join(''));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, err };
}

const now = () => new Date().toISOString();
const step = (chain: string, iteration: number, more: object = {}) =>
  JSON.stringify({ v: 1, chain_id: chain, iteration, timestamp: now(), ...more });
const verdictOn = (chain: string) => `skos/chain/nova/${chain}/verdict`;

/** A client that stays. */
function stays(t: Test, { port }: HeatedNode, { user, token: secret }: Guest, topic: string): ChildProcess {
  const args = ['-h', '127.0.0.1', '-p', String(port), '-u', user, '-P', secret, '-q', '1', '-t', topic, '-l'];
  const child = spawn('mosquitto_pub', args);
  child.stdin.on('error', () => undefined);
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

function verdicts(watcher: Subscriber, chain: string): { verdict: string; iteration: number | null; would: unknown }[] {
  return watcher.lines.filter(({ topic }) => topic === verdictOn(chain)).map(({ payload }) => JSON.parse(payload));
}

t.test('guests on one node', { skip: noMosquitto }, async (t) => {
  t.jobs = 2;
  const node = await heatedNode(t, { net: true, config: { auto_allow: ['reset_chain'] } });
  await node.until('skos-net listens', async () => {
    const { net } = await node.status();
    return net.connected && net.listening;
  });
  const watcher = node.subscribe('skos/#');
  await node.until('the node is online', () => watcher.last.get('skos/peer/nova')?.state === 'online');
  const bootId = String(watcher.last.get('skos/peer/nova')?.boot_id);
  const loops = await token(node, 'agent-loop', 'chain');
  const added = await node.cli('token', 'add', 'remote-hand', '--role', 'operator');
  t.match(added.out, /^skos_[\w-]{43}\n$/, 'the token alone, so that it can be sent into a file');
  const remote = { user: 'remote-hand', token: added.out.trim() };

  await t.test('nobody publishes without a token, with a wrong one, or out of role', async (t) => {
    const steps = 'skos/chain/nova/c0';
    const refused = async (what: string, topic: string, guest?: Guest) =>
      t.not((await publish(node, topic, step('c0', 1), guest)).code, 0, what);
    await refused('anonymous', steps);
    await refused('a wrong token', steps, { user: loops.user, token: remote.token });
    await refused('an unknown name', steps, { user: 'agent_loop', token: loops.token });
    await refused('no token', steps, { user: loops.user, token: '' });
    await refused('a chain guest as operator', 'skos/command/nova', loops);
    await refused('an operator as chain guest', steps, remote);
    await refused('another node', 'skos/chain/lyra/c0', loops);
    await refused('a verdict', `${steps}/verdict`, loops);
    await refused('a sensor', 'skos/sensor/nova/hwmon/x/temp1', loops);
    t.same(verdicts(watcher, 'c0'), []);
    t.equal(watcher.lines.filter(({ topic }) => topic.startsWith('skos/chain/')).length, 0, 'and nobody hears of it');
    const entries = JSON.stringify(await node.audit());
    t.notOk(entries.includes(loops.token) || entries.includes('skos_'), 'no token is in the record');
  });

  await t.test('a chain that is too deep is held, and stays held over restarts until it is reset', async (t) => {
    await publish(
      node,
      'skos/chain/nova/deep',
      [step('deep', 1), '{', step('deep', 2, { depth: 11 }), step('deep', 3)],
      loops,
    );
    await node.until('three verdicts', () => verdicts(watcher, 'deep').length === 3);
    t.same(
      verdicts(watcher, 'deep').map(({ verdict }) => verdict),
      ['continue', 'circuit_break', 'circuit_break'],
      'garbage between them ends nothing',
    );
    await node.until('it is on record', async () => (await node.audit()).some(({ kind }) => kind === 'chain.held'));
    await node.until('an alert stands', async () =>
      (await node.alerts()).some(({ agentType }) => agentType === 'loop_breaker'),
    );

    process.kill(node.netPid ?? 0, 'SIGKILL');
    const asked = async (iteration: number) => {
      const before = verdicts(watcher, 'deep').length;
      await node.until('an answer', async () => {
        await publish(node, 'skos/chain/nova/deep', step('deep', iteration), loops);
        return verdicts(watcher, 'deep').length > before;
      });
      return verdicts(watcher, 'deep').at(-1)?.verdict;
    };
    t.equal(await asked(4), 'circuit_break', 'skos-net was killed');
    await node.kill();
    await node.start();
    t.equal(await asked(5), 'circuit_break', 'the agent was killed');

    t.match(await node.cli('chain', 'list'), { code: 0, out: /deep\s+held\s+11 deep/ });
    t.match(await node.cli('chain', 'reset', 'deep'), { code: 0 });
    await node.until('its workload hears of it', () => verdicts(watcher, 'deep').at(-1)?.verdict === 'reset_chain');
    t.equal(await asked(1), 'continue');
    t.notOk((await node.alerts()).some(({ agentType }) => agentType === 'loop_breaker'));
    t.match(await node.cli('chain', 'reset', 'deep'), { code: 1, err: /SKOS_CHAIN_UNKNOWN/ });
  });

  await t.test('a chain with too many iterations is told to begin anew', async () => {
    await publish(node, 'skos/chain/nova/long', [step('long', 100), step('long', 101), step('long', 1)], loops);
    await node.until('told', () => verdicts(watcher, 'long').length === 3);
    t.same(
      verdicts(watcher, 'long').map(({ verdict }) => verdict),
      ['continue', 'reset_chain', 'continue'],
    );
  });

  await t.test('an operator’s command is followed once, in its boot, in its time', async (t) => {
    let count = 0;
    const command = (more: object = {}) =>
      JSON.stringify({
        v: 1,
        action_id: `mine:${++count}`,
        action_type: 'hold',
        parameters: { for_seconds: 60 },
        timestamp: now(),
        ttl_ms: 5_000,
        boot_id: bootId,
        nonce: `nonce-of-${count}`,
        ...more,
      });
    const outcome = async (payload: string) => {
      const { action_id: id } = JSON.parse(payload) as { action_id: string };
      const answers = () =>
        watcher.lines.filter(({ topic, payload: said }) => topic === 'skos/result/nova' && said.includes(id));
      const before = answers().length;
      await publish(node, 'skos/command/nova', payload, remote);
      await node.until(`an answer to ${id}`, () => answers().length > before);
      return (JSON.parse(answers().at(-1)?.payload ?? '{}') as { outcome: string }).outcome;
    };
    const first = command();
    t.equal(await outcome(first), 'done');
    t.match((await node.status()).hold, { who: 'token remote-hand' });
    t.equal(await outcome(first), 'ignored', 'the same nonce');
    await node.request('hold.end', {});
    t.equal(await outcome(command({ boot_id: 'another' })), 'ignored');
    t.equal(await outcome(command({ timestamp: '2020-01-01T00:00:00Z' })), 'ignored');
    t.equal(await outcome(command({ parameters: { for_seconds: 60, including_caps: true } })), 'refused', 'high risk');
    t.equal((await node.status()).hold, null, 'none of these did anything');
    t.equal(await outcome(command({ action_type: 'hold.end', parameters: {} })), 'done');
    await publish(node, 'skos/command/nova', command({ action_type: 'approve' }), remote);
    await node.kill();
    const heard = watcher.lines.length;
    await node.start();
    await node.until('skos-net is back', async () => (await node.status()).net.connected);
    await node.until(
      'a command is taken',
      async () => (await publish(node, 'skos/command/nova', first, remote)).code === 0,
    );
    await node.stays('nothing is done twice', async () => (await node.status()).hold === null, 300);
    const isBack = () =>
      watcher.lines.slice(heard).some(({ topic, retained }) => topic === 'skos/peer/nova' && retained);
    await node.until('the subscriber is back', isBack);
  });

  // It waits for heartbeats most of its time.
  const antibody = t.test('an antibody made from the template keeps the contract', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'skos-a-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const made = spawn('scripts/new-antibody', ['fan-watch', directory]);
    t.equal(await new Promise((resolve) => made.once('close', resolve)), 0);
    const guest = await token(node, 'fan-watch', 'antibody');
    writeFileSync(join(directory, 'token'), guest.token);
    const child = spawn(join(directory, 'fan-watch.py'), {
      env: {
        ...process.env,
        NODE_NAME: 'nova',
        SKOS_MQTT: `127.0.0.1:${node.port}`,
        SKOS_TOKEN_FILE: join(directory, 'token'),
      },
    });
    t.teardown(() => child.kill('SIGKILL'));
    await node.until('it registers', async () => (await node.request('antibody.list', {})).length === 1);
    const checked = await node.cli('antibody', 'check', 'fan-watch');
    t.match(checked, { code: 0, out: /beats.*answers.*raises.*clears/s });
    t.match(watcher.last.get('skos/heartbeat/nova/fan_watch'), { agent_id: 'fan-watch-nova', agent_type: 'fan_watch' });

    // It speaks for itself alone.
    const beat = { v: 1, agent_id: 'thermal-sentinel-nova', agent_type: 'thermal_sentinel', timestamp: now() };
    await publish(node, 'skos/heartbeat/nova', JSON.stringify(beat), guest);
    await node.until('it is said', () => node.logText().includes('agent_id is'));

    await node.request('token.revoke', { name: 'fan-watch', confirm: 'nova' });
    await node.until('it is thrown out', () => node.logText().includes('user name \\"fan-watch\\"'));
    t.same(await node.request('antibody.list', {}), []);
  });

  await t.test('a revoked token ends a connection that stands within a second', async (t) => {
    const child = stays(t, node, loops, 'skos/chain/nova/live');
    child.stdin?.write(`${step('live', 1)}\n`);
    await node.until('it is heard', () => verdicts(watcher, 'live').length === 1);
    t.match(await node.cli('token', 'revoke', 'agent-loop', '--confirm', 'lyra'), { err: /SKOS_CLI_NAME/ });
    t.match(await node.cli('token', 'revoke', 'agent-loop', '--confirm', 'nova'), { code: 0 });
    // The command has a Node.js to start; what counts is how long the connection outlives its answer.
    const revokedMs = performance.now();
    child.stdin?.write(`${step('live', 2)}\n`);
    await node.until(
      'it is gone',
      () => child.exitCode !== null || node.logText().includes('user name \\"agent-loop\\"'),
    );
    t.ok(performance.now() - revokedMs < 2_000);
    await node.stays('and unheard', () => verdicts(watcher, 'live').length === 1, 200);
  });

  await t.test('a flood with a token throws out who floods, and a rise is capped meanwhile', async (t) => {
    const noisy = await token(node, 'noisy', 'antibody');
    // Each time that it is thrown out it comes again with what was not taken.
    const flood = stays(t, node, noisy, 'skos/alert/nova');
    flood.stdin?.write('{"v":1}\n'.repeat(5_000));
    node.celsius(97);
    await node.until('capped', () => node.caps().every((cap) => cap < 2_000_000));
    await node.until('thrown out', () => node.logText().includes('noisy sends more than'));
    flood.kill('SIGKILL');
    t.equal((await node.status()).net.connected, true);
  });
  await antibody;
});
