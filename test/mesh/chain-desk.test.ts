import t from 'tap';
import type { ChainReport, ChainTruth } from '../../src/core/chains.js';
import { SkosError } from '../../src/core/errors.js';
import { ChainDesk } from '../../src/mesh/chain-desk.js';
import { FakeClock } from '../fixtures/control.js';
import { CHAIN_TRUTH } from '../fixtures/fake-agent.js';
import { recordingLog } from '../fixtures/logs.js';
import { until } from '../fixtures/socket.js';

const GUEST = { user: 'agent-loop', token: 'secret' };

interface Verdict {
  readonly chain_id: string;
  readonly iteration: number | null;
  readonly verdict: string;
  readonly would: string | null;
  readonly reason: string;
}

function desk(truth: ChainTruth | null = CHAIN_TRUTH) {
  const clock = new FakeClock();
  const log = recordingLog();
  const verdicts: Verdict[] = [];
  const reports: ChainReport[] = [];
  const agent: { answers: () => Promise<void> } = { answers: () => Promise.resolve() };
  const chains = new ChainDesk({
    report: async (_credential, told) => {
      reports.push(...told);
      await agent.answers();
    },
    clock,
    log: () => log,
  });
  chains.use({
    origin: { node: 'nova', bootId: 'b' },
    prefix: 'skos',
    publish: ({ payload }) => verdicts.push(JSON.parse(String(payload))),
  });
  if (truth !== null) chains.take(truth);
  let count = 0;
  const step = (chain: string, more: object = {}): string | undefined => {
    const timestamp = new Date(++count * 1_000).toISOString();
    const plain = { v: 1, chain_id: chain, iteration: 1, depth: 0, parent: null, state: null, timestamp };
    chains.step(GUEST, { ...plain, ...more });
    return verdicts.at(-1)?.verdict;
  };
  return { chains, clock, verdicts, reports, agent, step };
}

t.test('judges nothing before it knows what may be done', async (t) => {
  const { chains, step } = desk(null);
  t.equal(step('a', { depth: 99 }), undefined);
  t.notOk(chains.isReady);
});

t.test('holds a chain until the agent says that it was reset, whether or not the agent knows of it', async (t) => {
  const { chains, clock, verdicts, reports, agent, step } = desk();
  t.teardown(() => chains.stop());
  agent.answers = () => Promise.reject(new SkosError('SKOS_SOCKET_UNAVAILABLE', 'away'));
  t.equal(step('a', { depth: 11 }), 'circuit_break');
  t.equal(step('a'), 'circuit_break', 'whatever it says now');
  await until('told', () => reports.length === 1);
  t.match(reports[0], { chain: 'a', verdict: 'circuit_break', acts: true, condition: 'depth', value: 11, limit: 10 });
  clock.nowMs += 3_600_000;
  chains.tick();
  await until('told again, because it was not taken', () => reports.length === 2);
  t.equal(reports[1]?.hold, reports[0]?.hold);
  // The agent was started anew and knows nothing of it.
  chains.take(CHAIN_TRUTH);
  t.equal(step('a'), 'circuit_break');
  agent.answers = () => Promise.resolve();
  chains.tick();
  await until('told once more', () => reports.length === 3);
  chains.tick();
  await new Promise((resolve) => setTimeout(resolve, 80));
  t.equal(reports.length, 3, 'which was taken');
  chains.take({ ...CHAIN_TRUTH, reset: [reports[0]?.hold ?? ''] });
  t.match(verdicts.at(-1), { chain_id: 'a', iteration: null, verdict: 'reset_chain' });
  t.equal(step('a'), 'continue');
});

t.test('what the agent holds is held, and what the chain started is broken with it', async (t) => {
  const { step, verdicts } = desk({ ...CHAIN_TRUTH, held: [{ chain: 'a', hold: 'f'.repeat(16), reason: 'x' }] });
  t.equal(step('a'), 'circuit_break');
  t.equal(step('b', { parent: 'a' }), 'circuit_break');
  t.equal(step('c', { parent: 'b' }), 'continue', 'b was never let in, so that nobody knows who started it');
  t.match(verdicts[1], { chain_id: 'b', reason: /started by a/ });
  t.equal(step('x', { parent: 'y' }), 'continue');
  t.equal(step('y', { parent: 'x' }), 'continue', 'a ring of parents ends');
});

t.test('a chain that was started by another is one deeper, whatever it says', async (t) => {
  const { step } = desk();
  for (let depth = 0; depth < 10; depth++) step(`c${depth}`, { parent: depth === 0 ? null : `c${depth - 1}` });
  t.equal(step('c10', { parent: 'c9' }), 'continue');
  t.equal(step('c11', { parent: 'c10' }), 'circuit_break');
});

t.test('what may not act is told as what would be, to the workload and, once a minute, to the agent', async (t) => {
  const { chains, clock, verdicts, reports, step } = desk();
  t.teardown(() => chains.stop());
  for (let iteration = 101; iteration < 140; iteration++) {
    t.equal(step('long', { iteration }), 'continue');
    clock.nowMs += 100;
  }
  t.match(verdicts.at(-1), { would: 'reset_chain', reason: /iterations: 139, the limit is 100/ });
  await until('told', () => reports.length === 1);
  t.match(reports[0], { verdict: 'reset_chain', acts: false, hold: null });
  clock.nowMs += 60_000;
  step('long', { iteration: 140 });
  await until('told again', () => reports.length === 2);
});

t.test('forgets chains that are silent, and never one that is held', async (t) => {
  const { chains, clock, step } = desk();
  t.teardown(() => chains.stop());
  step('held', { depth: 11 });
  for (let i = 0; i < 3_000; i++) step(`c${i}`);
  t.equal(chains.watched, 1_024);
  clock.nowMs += 600_000;
  chains.tick();
  t.equal(chains.watched, 0);
  t.equal(step('held'), 'circuit_break');
});

t.test('more chains than can be held are broken step by step, and a revoked token’s are told no more', async (t) => {
  const { chains, reports, agent, step } = desk();
  t.teardown(() => chains.stop());
  agent.answers = () => Promise.reject(new SkosError('SKOS_TOKEN_DENIED', 'revoked'));
  const told = Array.from({ length: 1_200 }, (_, i) => step(`c${i}`, { depth: 11 }));
  t.same([...new Set(told)], ['circuit_break']);
  t.equal(step('c1199', { depth: 11 }), 'circuit_break');
  t.equal(step('c1199'), 'circuit_break', 'it is as deep as it was');
  await until('the first are told', () => reports.length >= 256);
  const before = reports.length;
  chains.tick();
  await new Promise((resolve) => setTimeout(resolve, 80));
  const again = new Set(reports.slice(before).map(({ chain }) => chain));
  t.notOk(
    reports.slice(0, before).some(({ chain }) => again.has(chain)),
    'what was refused for good is not told again',
  );
});
