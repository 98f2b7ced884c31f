import t from 'tap';
import { ERRORS, reason, SkosError } from '../../src/core/errors.js';

t.test('every code has the form SKOS_<AREA>_<WHAT>, a meaning and a next step, each a sentence', async (t) => {
  for (const [code, { meaning, next }] of Object.entries(ERRORS)) {
    t.match(code, /^SKOS_[A-Z]+(_[A-Z]+)+$/, code);
    t.match(meaning, /^([A-Z]|skos-)/, code);
    t.match(meaning, /\.$/, `${code}: the meaning is a sentence`);
    t.match(next, /^([A-Z]|skos-).*\.$/, `${code}: the next step is a sentence`);
  }
});

t.test('an error carries code, message, cause and next step', async (t) => {
  const cause = new Error('EACCES');
  const error = new SkosError('SKOS_CONFIG_UNREADABLE', 'skos.yaml: EACCES', { cause });
  t.match(error, { name: 'SkosError', code: 'SKOS_CONFIG_UNREADABLE', message: 'skos.yaml: EACCES', cause });
  t.equal(error.next, ERRORS.SKOS_CONFIG_UNREADABLE.next);
  t.ok(error instanceof Error);
});

t.test('no two codes mean the same', async (t) => {
  const meanings = Object.values(ERRORS).map(({ meaning }) => meaning);
  t.equal(new Set(meanings).size, meanings.length);
});

t.test('whatever was thrown has a reason', async (t) => {
  for (const [thrown, text] of [
    [new Error('broken'), 'broken'],
    ['text', 'text'],
    [undefined, 'undefined'],
    [null, 'null'],
    [42, '42'],
    [{ code: 1 }, '[object Object]'],
  ] as const) {
    t.equal(reason(thrown), text);
  }
});
