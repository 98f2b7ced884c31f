import fc from 'fast-check';
import t from 'tap';
import { globMatches } from '../../src/core/glob.js';

const ID = 'hwmon/coretemp-isa-0000/temp1';

t.test('matches within a segment by *, across by **, one character by ?', async (t) => {
  for (const pattern of [
    ID,
    'hwmon/*/temp1',
    'hwmon/*/temp?',
    '**',
    'hwmon/**',
    '**/temp1',
    'h*n/core*/*1',
    '*/*/*',
    '**1',
  ]) {
    t.ok(globMatches(pattern, ID), pattern);
  }
  for (const pattern of [
    '',
    '*',
    '*/*',
    'hwmon/*',
    'hwmon/*/temp',
    'hwmon/?/temp1',
    'temp1',
    'hwmon?coretemp-isa-0000/temp1',
    'HWMON/**',
  ]) {
    t.notOk(globMatches(pattern, ID), pattern);
  }
});

t.test('* matches nothing too', async (t) => {
  t.ok(globMatches('temp*1', 'temp1'));
  t.ok(globMatches('**', ''));
  t.ok(globMatches('', ''));
});

t.test('characters of regular expressions mean themselves', async (t) => {
  t.ok(globMatches('a.c[+](x)|$', 'a.c[+](x)|$'));
  t.notOk(globMatches('a.c', 'abc'));
});

t.test('agrees with a regular expression on any small input', async (_t) => {
  const small = (letters: string) =>
    fc.array(fc.constantFrom(...letters), { maxLength: 8 }).map((each) => each.join(''));
  fc.assert(
    fc.property(small('ab/*?'), small('ab/'), (pattern, text) => {
      const source = pattern.replaceAll(
        /\*\*|\*|\?/g,
        (star) => ({ '**': '.*', '*': '[^/]*', '?': '[^/]' })[star] ?? '',
      );
      return globMatches(pattern, text) === new RegExp(`^${source}$`).test(text);
    }),
    { numRuns: 2000 },
  );
});

t.test('a pattern of many stars takes milliseconds', async (t) => {
  const began = performance.now();
  t.notOk(globMatches('*a'.repeat(128), `${'a'.repeat(190)}b`));
  t.ok(performance.now() - began < 500);
});
