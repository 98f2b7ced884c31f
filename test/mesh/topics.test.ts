import fc from 'fast-check';
import t from 'tap';
import { couldMatchSensors, isOwnFilter, ownFilters, TOPICS, topic, topicNameOf } from '../../src/mesh/topics.js';
import { filterMatches } from '../fixtures/mqtt-filter.js';

t.test('says that a filter could match sensors exactly when some sensor topic matches it', async () => {
  const words = ['skos', 'sensor', 'nova', 'lyra', 'a', 'b', 'alert', '+', '#'];
  const level = fc.constantFrom(...words);
  fc.assert(
    fc.property(fc.array(level, { minLength: 1, maxLength: 8 }), (levels) => {
      const hash = levels.indexOf('#'); // `#` is allowed as the last level only; aedes refuses the rest.
      const filter = hash === -1 ? levels : levels.slice(0, hash + 1);
      const names = ['a', 'b', 'skos', 'sensor', 'nova', 'lyra', 'alert'];
      const some = names.some((x) =>
        names.some((y) => names.some((z) => filterMatches(filter, ['skos', 'sensor', 'nova', x, y, z]))),
      );
      return couldMatchSensors('skos', 'nova', filter.join('/')) === some;
    }),
    { numRuns: 2_000 },
  );
});

t.test('an empty or upper-case level matches no sensor, since no segment is so', async (t) => {
  t.equal(couldMatchSensors('skos', 'nova', 'skos/sensor/nova/a//b'), false);
  t.equal(couldMatchSensors('skos', 'nova', 'skos/sensor/nova/A/b/c'), false);
  t.equal(couldMatchSensors('skos', 'nova', ''), false);
});

t.test("a peer is asked for all its own topics but sensors, and for nobody else's", async (t) => {
  t.same(
    ownFilters('skos', 'lyra').sort(),
    ['active', 'alert', 'audit', 'command', 'heartbeat', 'peer', 'result'].map((kind) => `skos/${kind}/lyra/#`),
  );
});

t.test('every topic that is built is recognised as what it is, for its own node only', async (t) => {
  for (const name of Object.keys(TOPICS) as (keyof typeof TOPICS)[]) {
    const rest = Array.from({ length: TOPICS[name].levels }, (_, i) => `s${i}~2f`);
    const at = topic('skos', name, 'lyra', ...rest);
    t.equal(topicNameOf('skos', 'lyra', at), name);
    t.equal(topicNameOf('skos', 'nova', at), undefined, 'the word of another');
    t.equal(topicNameOf('other', 'lyra', at), undefined);
    t.equal(topicNameOf('skos', 'lyra', `${at}/x/y/z/w`), undefined, 'too deep');
  }
  t.equal(topicNameOf('skos', 'lyra', 'skos/active/lyra/'), undefined, 'an empty level');
  t.equal(topicNameOf('skos', 'lyra', 'skos/active/lyra/Ünd'), undefined);
  t.equal(topicNameOf('skos', 'lyra', 'skos/__proto__/lyra'), undefined);
});

t.test('a peer may subscribe to whole topics of this node only', async (t) => {
  for (const good of ['skos/alert/nova/#', 'skos/sensor/nova/#', 'skos/peer/nova'])
    t.ok(isOwnFilter('skos', 'nova', good), good);
  for (const bad of [
    '#',
    'skos/#',
    'skos/+/nova',
    'skos/alert/+',
    'skos/alert/lyra',
    'skos/#/nova',
    '+/alert/nova',
    '$SYS/#',
  ]) {
    t.notOk(isOwnFilter('skos', 'nova', bad), bad);
  }
});
