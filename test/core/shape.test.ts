import fc from 'fast-check';
import t from 'tap';
import {
  anything,
  boolean,
  described,
  type Issue,
  list,
  nullable,
  number,
  object,
  oneOf,
  optional,
  parse,
  record,
  type Shape,
  section,
  string,
  withDefault,
} from '../../src/core/shape.js';

/** "path: message" of each issue. */
function issuesOf(shape: Shape<unknown>, input: unknown): string[] {
  const issues: Issue[] = [];
  shape.check(input, [], issues);
  return issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

const point = object({ x: number(), y: withDefault(number(), 7) });

t.test('takes what fits and returns it', async (t) => {
  t.same(parse(point, { x: 1 }), { value: { x: 1, y: 7 }, issues: [] });
  t.same(parse(list(oneOf('a', 'b')), ['a', 'b']).value, ['a', 'b']);
  t.same(parse(nullable(boolean), null).value, null);
  t.same({ ...parse(record(number()), { a: 1, b: 2 }).value }, { a: 1, b: 2 });
  t.same(parse(anything, { any: ['thing'] }).value, { any: ['thing'] });
});

t.test('never coerces', async (t) => {
  for (const [shape, input] of [
    [number(), '5'],
    [number(), true],
    [number(), null],
    [number(), [5]],
    [number(), 5n],
    [number(), Number.NaN],
    [number(), Infinity],
    [number({ integer: true }), 1.5],
    [boolean, 'true'],
    [boolean, 1],
    [string(), 5],
    [string(), ['a']],
    [oneOf('a'), ['a']],
    [list(number()), '1,2'],
    [list(number()), { 0: 1, length: 1 }],
    [object({}), []],
    [object({}), null],
    [object({}), 'a'],
    [record(number()), [1]],
  ] as const) {
    t.equal(issuesOf(shape, input).length, 1, `${shape.expected}: ${String(input)}`);
  }
});

t.test('bounds are inclusive, and said', async (t) => {
  const shape = number({ min: 0.1, max: 1000 });
  t.same(issuesOf(shape, 0.1), []);
  t.same(issuesOf(shape, 1000), []);
  t.match(issuesOf(shape, 1000.1), [': 1000.1 is not a number from 0.1 to 1000']);
  t.equal(number({ min: 1, integer: true }).expected, 'an integer, at least 1');
  t.equal(number({ max: 1 }).expected, 'a number, at most 1');
});

t.test('a string is bounded in length and form', async (t) => {
  t.equal(issuesOf(string(), 'x'.repeat(4096)).length, 0);
  t.equal(issuesOf(string(), 'x'.repeat(4097)).length, 1);
  t.match(issuesOf(string({ pattern: /^a$/, expected: 'an a' }), 'b'), [': "b" is not an a']);
});

t.test('an unknown key is an issue at the key, with the nearest known one', async (t) => {
  const issues: Issue[] = [];
  object({ keep: number(), mode: number() }).check({ keep: 1, mode: 1, moed: 1, other: 1 }, ['a'], issues);
  t.match(issues, [
    { path: ['a', 'moed'], atKey: true, message: 'unknown key "moed"; did you mean mode?' },
    { path: ['a', 'other'], atKey: true, message: 'unknown key "other"; known keys: keep, mode' },
  ]);
});

t.test('an open object lets unknown keys pass, and drops them', async (t) => {
  t.same(parse(object({ a: number() }, { open: true }), { a: 1, b: 2 }).value, { a: 1 });
});

t.test('a required key that is missing, or undefined, is an issue with what was expected', async (t) => {
  t.match(issuesOf(point, {}), ['x: is missing; expected a number']);
  t.match(issuesOf(point, { x: undefined }), ['x: is missing; expected a number']);
  t.same(parse(object({ a: optional(number()) }), {}).value, { a: undefined });
});

t.test('keys of the prototype are no keys', async (t) => {
  t.match(issuesOf(object({ constructor: number(), toString: number() }), {}), [
    'constructor: is missing',
    'toString: is missing',
  ]);
  const { value } = parse(record(number()), JSON.parse('{"__proto__": 1}'));
  t.ok(value !== undefined && Object.hasOwn(value, '__proto__'));
});

t.test('reports every issue, each with its path', async (t) => {
  const shape = object({ a: list(point), b: record(boolean), c: oneOf('x', 'yes') });
  t.match(issuesOf(shape, { a: [{ x: 1 }, { x: 'no', z: 1 }], b: { k: 2 }, c: 'yse' }), [
    'a.1.z: unknown key',
    'a.1.x: "no" is not a number',
    'b.k: 2 is not true or false',
    'c: "yse" is not one of x, yes; did you mean yes?',
  ]);
});

t.test('lists and records are bounded', async (t) => {
  t.equal(issuesOf(list(number(), { max: 2 }), [1, 2, 3]).length, 1);
  t.match(issuesOf(record(number(), { max: 1 }), { a: 1, b: 2 }), [': has 2 entries; expected at most 1']);
  t.match(issuesOf(record(number(), { key: /^a$/, keyExpected: 'an a' }), { b: 1 }), ['b: "b" is not an a']);
});

t.test('a default is given anew each time', async (t) => {
  const shape = object({ names: withDefault(list(string()), ['a']) });
  const first = parse(shape, {}).value;
  const second = parse(shape, {}).value;
  t.same(first, second);
  t.not(first?.names, second?.names);
});

t.test('a section that is absent is made of its defaults', async (t) => {
  const shape = object({ inner: section({ x: withDefault(number(), 3) }, 'A sentence.') });
  t.same(parse(shape, {}).value, { inner: { x: 3 } });
  t.equal(shape.members?.inner?.doc, 'A sentence.');
  t.equal(described(number(), 'Another.').doc, 'Another.');
});

t.test('a message repeats at most a line of a wrong value', async (t) => {
  for (const message of [...issuesOf(number(), 'x'.repeat(5000)), ...issuesOf(object({}), { ['k'.repeat(5000)]: 1 })]) {
    t.ok(message.replace(/^k+: /, '').length < 200, message);
  }
});

t.test('no input throws, and a value comes only without issues', async () => {
  const shape = object({
    a: list(point),
    b: optional(record(nullable(string()))),
    c: withDefault(oneOf('x', 'y'), 'x'),
  });
  const key = fc.oneof(fc.constantFrom('a', 'b', 'c', 'x', 'y', '__proto__'), fc.string());
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom<unknown>(null, undefined, 1, 'x', true, Number.NaN, 10n, Symbol('s'), () => 1),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(key, tie('tree'), { maxKeys: 4 }),
    ),
  }));
  fc.assert(
    fc.property(tree, (input) => {
      const { value, issues } = parse(shape, input);
      return (value === undefined) === issues.length > 0;
    }),
    { numRuns: 2000 },
  );
});
