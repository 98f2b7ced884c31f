/**
 * 500 hours of seeded nodes with noisy, dropping, hanging sensors, failing cooling, agents that die and repairs that fail, checked at
 * every moment; scripts/simulate-hours does 10,000. Behind it each guard of the policy is broken once, and the check must see that.
 */
import t from 'tap';
import type { Antibody } from '../../src/antibodies/antibody.js';
import { thermalSentinel } from '../../src/antibodies/thermal-sentinel.js';
import { Breakers } from '../../src/control/breakers.js';
import { OperatorWord } from '../../src/control/operator-word.js';
import { type OnFinding, Rulebook } from '../../src/control/rulebook.js';
import { SimulatedActuator } from '../../src/control/simulated-actuator.js';
import { type SimulatedParts, Simulation, type SimulationOptions } from '../../src/control/simulation.js';
import type { Quality } from '../../src/core/channel.js';
import type { LeaseRequest, LeaseResult } from '../../src/core/ports.js';
import type { Words } from '../../src/policy/consent.js';
import type { Rule } from '../../src/policy/rule.js';
import { configOf } from '../fixtures/antibodies.js';
import { type NodeRun, nodeConfig, simulateHours, simulateNode } from '../fixtures/node-hours.js';

const SEED = 1_000;
const HOURS = 500;

t.test(
  'never acts without cause, releases without proof, oscillates beyond its rate or lets an emergency pass',
  async (t) => {
    const { failed, figures, hours } = await simulateHours({ hours: HOURS, seed: SEED });
    for (const { seed, violations } of failed) t.fail(`seed ${seed}: ${violations.join('; ')}`);
    t.equal(hours, HOURS);
    t.comment(JSON.stringify(figures));
    // That it was seen at all, many times each.
    t.ok(figures.demanded > 200, 'rungs were demanded');
    t.ok(figures.emergencies > 20, 'emergencies among them');
    t.ok(figures.leases > 200, 'caps were set');
    t.ok(figures.blind > 100, 'sensors were lost under a cap');
    t.ok(figures.refusals > 50, 'breakers refused repairs while caps stood');
    t.ok(figures.outages > 20, 'agents died');
    t.ok(figures.ordersRaised > 20, 'standing orders held without them');
  },
);

// ---- Guards, broken ----------------------------------------------------------------------------------------------------

/** What cannot be read is taken for cool. */
class NoDataIsCalm extends Rulebook {
  override sample(index: number, value: number, quality: Quality, atMs: number, onFinding: OnFinding): void {
    super.sample(index, quality === 'ok' ? value : 0, 'ok', atMs, onFinding);
  }
}

/** Looks at a sample only when the next one is there. */
class OneSampleLate extends Rulebook {
  readonly #kept = new Map<number, readonly [number, Quality, number]>();

  override sample(index: number, value: number, quality: Quality, atMs: number, onFinding: OnFinding): void {
    const former = this.#kept.get(index);
    this.#kept.set(index, [value, quality, atMs]);
    if (former !== undefined) super.sample(index, ...former, onFinding);
  }
}

/** Rules that are not those of the configuration. */
function bent(bend: (rule: Rule) => Partial<Rule>): readonly Antibody[] {
  const rulesFor: Antibody['rulesFor'] = (context) =>
    thermalSentinel.rulesFor(context).map((rule) => ({ ...rule, ...bend(rule) }));
  return [{ ...thermalSentinel, rulesFor }];
}

/** An open breaker takes the caps of its rule with it. */
function freeingBreakers(): SimulatedParts {
  const open = { is: false };
  class Opening extends Breakers {
    override refusal(...of: Parameters<Breakers['refusal']>): string | undefined {
      const why = super.refusal(...of);
      open.is = why !== undefined;
      return why;
    }
  }
  class Freeing extends OperatorWord {
    override about(...of: Parameters<OperatorWord['about']>): Words {
      return { ...super.about(...of), isBarred: open.is };
    }
  }
  return { breakers: (store) => new Opening(store), word: (options) => new Freeing(options) };
}

/** A gate that stands before caps too. */
class GatedActuator extends SimulatedActuator {
  override set(request: LeaseRequest): Promise<LeaseResult> {
    const isStrict = request.capPpm < 700_000;
    return isStrict ? Promise.resolve({ ok: false, outcome: 'barred' }) : super.set(request);
  }
}

class OrphansEndAtOnce extends SimulatedActuator {
  protected override isStillHot(): boolean {
    return false;
  }
}

interface Broken {
  readonly guard: string;
  readonly antibodies?: readonly Antibody[];
  readonly parts?: SimulatedParts;
  /** Two, unless it takes more to show. */
  readonly hours?: number;
  readonly violation: RegExp;
}

const BROKEN: readonly Broken[] = [
  {
    guard: 'a missing reading is no recovery',
    // A rung that flaps is held for longer than a sensor is away as a rule.
    hours: 12,
    parts: { rulebook: (antibodies) => new NoDataIsCalm(antibodies) },
    violation: /does not stand/,
  },
  {
    guard: 'what is hot is capped with the sample that says so',
    parts: { rulebook: (antibodies) => new OneSampleLate(antibodies) },
    violation: /does not stand/,
  },
  { guard: 'one sample is no cause', antibodies: bent(() => ({ forSamples: 1 })), violation: /without cause/ },
  {
    guard: 'a cap is kept until the clear bound is passed',
    antibodies: bent(({ rungs }) => ({ keepMs: 0, rungs: rungs.map((rung) => ({ ...rung, clear: rung.raise - 1 })) })),
    violation: /does not stand/,
  },
  {
    guard: 'what comes and goes is held',
    antibodies: bent(({ rungs }) => ({ keepMs: 0, rungs: rungs.map((rung) => ({ ...rung, clear: rung.raise - 1 })) })),
    violation: /came back after/,
  },
  { guard: 'calm must last', antibodies: bent(() => ({ keepMs: 1_000 })), violation: /does not stand/ },
  {
    guard: 'a cap ends when the danger is past',
    antibodies: bent(({ keepMs }) => ({ keepMs: keepMs * 60 })),
    violation: /without cause/,
  },
  { guard: 'a breaker frees no cap', parts: freeingBreakers(), violation: /does not stand/ },
  {
    guard: 'no gate stands before a cap',
    parts: { actuator: (...of) => new GatedActuator(...of) },
    violation: /does not stand/,
  },
  {
    guard: 'a lease without an agent waits for the clear bound of its order',
    parts: { actuator: (...of) => new OrphansEndAtOnce(...of) },
    violation: /orphaned lease ended/,
  },
];

/** A node of the ordinary table that is hot often, for as short a time as shows every fault. */
function hotNode(broken: Partial<Broken>): Promise<NodeRun> {
  const config = configOf({ ...nodeConfig(1), ...HOT });
  return simulateNode({ seed: 4, hours: 2, faults: 20, config, until: broken.violation, ...broken });
}
const HOT = {
  node: 'nova',
  sampling: { rate_hz: 2 },
  actuator: { lease: 5 },
  thermal: { thresholds: { warning: 50, critical: 58, emergency: 66 }, keep: 10, for: { samples: 2 } },
};

t.test('sees each guard that is broken', async (t) => {
  t.same((await hotNode({})).violations, [], 'none is');
  for (const broken of BROKEN) {
    const { violations } = await hotNode(broken);
    t.ok(
      violations.some((text) => broken.violation.test(text)),
      `${broken.guard}: ${violations[0] ?? 'not seen'}`,
    );
  }
});

t.test('decides the same whether or not it looks at samples that cannot matter', async (t) => {
  const figures = async (given: Partial<SimulationOptions>) => {
    // A lease that outlives every outage: when one is renewed depends on when it is looked at.
    const config = configOf({ mode: 'auto', sampling: { rate_hz: 2 }, actuator: { lease: 600 } });
    const options = { config, antibodies: [thermalSentinel], seed: 11, hours: 4, gpus: 1, faults: 20 };
    const story: string[] = [];
    const simulation = new Simulation({
      ...options,
      ...given,
      observer: {
        finding: ({ rule }, { transition }) => story.push(`${rule.name} ${JSON.stringify(transition)}`),
        lease: (kind, lease, { capPpm }, atMs) => story.push(`${atMs} ${kind} ${lease} ${capPpm}`),
      },
    });
    const { moments, ...report } = await simulation.run();
    return { moments, report, story };
  };
  const [passing, every, again, other] = await Promise.all([
    figures({}),
    figures({ everySample: true }),
    figures({}),
    figures({ seed: 12 }),
  ]);
  t.ok(passing.story.length > 50, 'something happened');
  t.same(passing.story, every.story);
  t.same(passing.report, every.report);
  t.ok(passing.moments < every.moments / 4, `${passing.moments} of ${every.moments} moments`);
  t.same(again, passing, 'a seed repeats it');
  t.notSame(other.story, passing.story);
});
