import fc from 'fast-check';
import t from 'tap';
import { Audience } from '../../src/mesh/audience.js';
import { filterMatches } from '../fixtures/mqtt-filter.js';

const word = fc.constantFrom('a', 'b', '');
/** `#` is allowed as the last level only; aedes refuses the rest. */
const filter = fc
  .tuple(fc.array(fc.oneof(word, fc.constant('+')), { maxLength: 4 }), fc.option(fc.constant('#')))
  .map(([levels, last]) => (last === null ? levels : [...levels, last]))
  .filter((levels) => levels.length > 0);
const filters = fc.array(filter, { maxLength: 6 });
const topic = fc.array(word, { minLength: 1, maxLength: 5 });

t.test('says that somebody hears a topic exactly when a filter that was added and not removed matches it', async () => {
  fc.assert(
    fc.property(filters, filters, topic, (stay, leave, levels) => {
      const audience = new Audience();
      const all = [...stay, ...leave].map((each) => each.join('/'));
      for (const each of all) audience.add(each);
      const whileAll = audience.hears(levels.join('/'));
      for (const each of leave) audience.remove(each.join('/'));
      return (
        whileAll === [...stay, ...leave].some((each) => filterMatches(each, levels)) &&
        audience.hears(levels.join('/')) === stay.some((each) => filterMatches(each, levels))
      );
    }),
    { numRuns: 2_000 },
  );
});
