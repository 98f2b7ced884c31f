/**
 * Programs die at random moments while the temperature goes up and down. Whatever happened: in the end the former value
 * stands everywhere, nothing is held, no alert is left, and the record is whole.
 *
 * SKOS_CHAOS_SEED repeats a run, as far as the timing of processes allows.
 */
import t from 'tap';
import { CELSIUS, FORMER_KHZ, type HeatedNode, heatedNode, KHZ } from '../fixtures/node.js';

t.jobs = 2;

const ROUNDS = 24;
const LONGEST_PAUSE_MS = 500;
/** An actuator that dies again and again is started again with back-off, up to half a minute. */
const BACK_OFF_MS = 45_000;
const DEGREES = [CELSIUS.cool, CELSIUS.warning, CELSIUS.critical, 92, CELSIUS.emergency];

/** Mulberry32: small, and good enough to choose with. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

type Step = (node: HeatedNode, random: () => number) => void | Promise<void>;

const STEPS: Readonly<Record<string, Step>> = {
  heat: (node, random) => node.celsius(DEGREES[Math.floor(random() * DEGREES.length)] ?? CELSIUS.cool),
  'heat more': (node, random) => node.celsius(90 + random() * 15),
  'kill the agent': async (node) => {
    await node.kill();
    node.spawnAgent();
  },
  'kill the actuator': (node) => {
    const pid = node.actuatorPid;
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  },
  'stop the agent': async (node) => {
    await node.stop();
    node.spawnAgent();
  },
  'stand still': async (node, random) => {
    node.signal('SIGSTOP');
    await pause(random() * 2_500);
    node.signal('SIGCONT');
  },
  reload: async (node) => {
    // Before its handlers are there, SIGHUP ends a process.
    await node.until('an agent answers', async () => (await node.status()).ticks > 0);
    node.signal('SIGHUP');
  },
  'lose the sensor': async (node, random) => {
    node.machine.remove(node.sensorFile);
    await pause(random() * 1_000);
    node.celsius(CELSIUS.critical);
  },
};

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const given = Number(process.env.SKOS_CHAOS_SEED ?? Number.NaN);
const seeds = Number.isNaN(given) ? [1, 2] : [given];

for (const seed of seeds) {
  t.test(`whatever dies when, all of it is given back (seed ${seed})`, async (t) => {
    const random = randomOf(seed);
    const node = await heatedNode(t);
    const story: string[] = [];
    const names = Object.keys(STEPS);
    for (let round = 0; round < ROUNDS; round++) {
      const name = names[Math.floor(random() * names.length)] ?? 'heat';
      story.push(name);
      await STEPS[name]?.(node, random);
      await pause(random() * LONGEST_PAUSE_MS);
      const wrong = node.caps().filter((cap) => !Object.values(KHZ).some((known) => known === cap));
      if (wrong.length > 0) t.fail(`after ${story.join(', ')}: ${wrong}`);
    }
    t.comment(story.join(', '));
    node.celsius(CELSIUS.emergency);
    await node.until('capped', () => node.isCappedAt(KHZ.throttle50), BACK_OFF_MS);
    t.pass('it still protects');
    node.celsius(CELSIUS.cool);
    await node.until('it runs', async () => (await node.status()).actuator.connected, BACK_OFF_MS);
    // An alert that fired more than four times in ten minutes is flapping: it holds its caps for a minute, unless an
    // operator takes them back.
    t.equal((await node.cli('release')).code, 0);
    await node.untilCappedAt(FORMER_KHZ);
    await node.until('no lease is left', async () => (await node.status()).actuator.leases.length === 0);
    await node.until('no action holds anything', async () =>
      (await node.actions()).every(({ endedAtMs, effects }) => endedAtMs !== null || effects.length === 0),
    );
    await node.stays('as it was', () => node.isCappedAt(FORMER_KHZ), 300);
    t.match(await node.cli('audit', 'verify'), { code: 0 });
  });
}
