/** lm-sensors' configuration: grammar, chip names, and expressions folded into multiplier and offset. */
import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { ERRORS } from '../../src/core/errors.js';
import type { ChipName } from '../../src/core/ports.js';
import { LmSensorsConf, loadSensorsConf } from '../../src/sensors/lm-sensors.js';

const NCT: ChipName = { prefix: 'nct6798', bus: 'isa', busNumber: 0, address: 0x290 };
const LM75: ChipName = { prefix: 'lm75', bus: 'i2c', busNumber: 1, address: 0x48, adapter: 'SMBus PIIX4 adapter' };
const NVME: ChipName = { prefix: 'nvme', bus: 'pci', busNumber: 0, address: 0x100 };

function conf(text: string): LmSensorsConf {
  return new LmSensorsConf([{ name: 'sensors3.conf', text }]);
}

/** compute of in0 of NCT. */
function computed(expression: string) {
  const parsed = conf(`chip "*"\n compute in0 ${expression}, @`);
  return { ...parsed.feature(NCT, 'in0'), issues: parsed.issues };
}

t.test('obeys label, ignore and compute of the chips that a chip line names', async (t) => {
  const parsed = conf(`
# Board
chip "nct6798-isa-*" "w83627ehf-*"
    label in0 "Vcore"     # comment
    label fan1 CPU_Fan
    ignore temp3
    compute in3 @*2, @/2
    set in0_min 1.0 * 0.9
chip "lm75-*"
    label temp1 "Inlet"`);
  t.same(parsed.issues, []);
  t.same(parsed.feature(NCT, 'in0'), { ignored: false, label: 'Vcore' });
  t.equal(parsed.feature(NCT, 'fan1').label, 'CPU_Fan');
  t.equal(parsed.feature(NCT, 'temp3').ignored, true);
  t.same(parsed.feature(NCT, 'in3').compute, { multiplier: 2, offset: 0 });
  t.same(parsed.feature(NCT, 'temp1'), { ignored: false }, 'a chip of another name is not meant');
  t.equal(parsed.feature(LM75, 'temp1').label, 'Inlet');
});

t.test('matches chips by prefix, bus, number and address, each of which may be any', async (t) => {
  const cases: [string, ChipName, boolean][] = [
    ['*', NCT, true],
    ['nct6798-*', NCT, true],
    ['nct6798-isa-*', NCT, true],
    ['nct6798-isa-0290', NCT, true],
    ['nct6798-isa-290', NCT, true],
    ['*-isa-0290', NCT, true],
    ['nct6798-isa-0a20', NCT, false],
    ['nct6798-pci-*', NCT, false],
    ['nct679-*', NCT, false],
    ['lm75-i2c-1-48', LM75, true],
    ['lm75-i2c-*-48', LM75, true],
    ['*-i2c-*-*', LM75, true],
    ['lm75-i2c-2-48', LM75, false],
    ['lm75-i2c-1-49', LM75, false],
    ['nvme-pci-0100', NVME, true],
    ['nvme-pci-0200', NVME, false],
    ['acpitz-acpi-0', { prefix: 'acpitz', bus: 'acpi', busNumber: 0, address: 0 }, true],
    ['foo-virtual-0', { prefix: 'foo', bus: 'virtual', busNumber: 0, address: 0 }, true],
    ['lm78-j-isa-0290', { ...NCT, prefix: 'lm78-j' }, true],
  ];
  for (const [pattern, chip, expected] of cases) {
    const parsed = conf(`chip "${pattern}"\nlabel temp1 "hit"`);
    t.same(parsed.issues, [], pattern);
    t.equal(parsed.feature(chip, 'temp1').label === 'hit', expected, `${pattern} and ${JSON.stringify(chip)}`);
  }
});

t.test('finds an I²C chip by the name of its adapter, since bus numbers change', async (t) => {
  const parsed = conf('bus "i2c-7" "SMBus PIIX4 adapter"\nchip "lm75-i2c-7-48"\nlabel temp1 "Inlet"');
  t.equal(parsed.feature(LM75, 'temp1').label, 'Inlet');
  t.equal(parsed.feature({ ...LM75, busNumber: 7, adapter: 'another' }, 'temp1').label, undefined);
});

t.test('lets the last statement count, also across files', async (t) => {
  const parsed = new LmSensorsConf([
    { name: 'a', text: 'chip "*"\nlabel in0 "first"\nlabel in0 "second"' },
    { name: 'b', text: 'chip "nct6798-*"\nlabel in0 "third"' },
  ]);
  t.equal(parsed.feature(NCT, 'in0').label, 'third');
  t.equal(parsed.feature(LM75, 'in0').label, 'second');
});

t.test('folds expressions that are affine in "@"', async (t) => {
  const cases: [string, number, number][] = [
    ['@', 1, 0],
    ['@*2', 2, 0],
    ['@/2', 0.5, 0],
    ['((6.8/10)+1)*@', 1.68, 0],
    ['@ * (1 + 34/51)', 1 + 34 / 51, 0],
    ['@ - 5', 1, -5],
    ['5 - @', -1, 5],
    ['-@', -1, 0],
    ['- (2*@ + .5) * 2', -4, -1],
    ['(@ + @) / 4', 0.5, 0],
    ['2 * 3 * @ / 2 / 3', 1, 0],
    ['@ * ^0', 1, 0],
    ['@ + `1', 1, 0],
    ['1 - 2 - @', -1, -1],
  ];
  for (const [expression, multiplier, offset] of cases) {
    const { compute, issues } = computed(expression);
    t.same(issues, [], expression);
    t.ok(compute !== undefined && Math.abs(compute.multiplier - multiplier) < 1e-12, `${expression}: multiplier`);
    t.ok(compute !== undefined && Math.abs(compute.offset - offset) < 1e-12, `${expression}: offset`);
  }
});

t.test('leaves a channel raw, and says why, where the expression is not affine', async (t) => {
  for (const expression of ['@*@', '1/@', '^@', '`@', 'in1 + @', '@ / 0', '@ / (1-1)', '`0 + @', '5', '@ - @']) {
    const { compute, notComputed, issues } = computed(expression);
    t.same(issues, [], `${expression} is well-formed`);
    t.equal(compute, undefined, expression);
    t.type(notComputed, 'string', expression);
  }
});

t.test('computes what the folded form computes, for random expressions', async () => {
  const { expression } = fc.letrec<{ expression: string }>((tie) => ({
    expression: fc.oneof(
      { maxDepth: 4 },
      fc.constant('@'),
      fc.integer({ min: 0, max: 99 }).map(String),
      fc
        .tuple(tie('expression'), fc.constantFrom('+', '-', '*'), tie('expression'))
        .map(([a, o, b]) => `(${a} ${o} ${b})`),
      tie('expression').map((a) => `-${a}`),
      fc.tuple(tie('expression'), fc.integer({ min: 1, max: 9 })).map(([a, n]) => `${a} / ${n}`),
    ),
  }));
  fc.assert(
    fc.property(expression, (text) => {
      const { compute } = computed(text);
      if (compute === undefined) return true;
      return [0, 1, 3.5, -40].every((raw) => {
        // The same grammar as JavaScript's, but for "--", which the blank keeps apart.
        const value = Number(new Function(`return ${text.replaceAll('-', ' - ').replaceAll('@', `(${raw})`)}`)());
        const folded = raw * compute.multiplier + compute.offset;
        return Math.abs(folded - value) <= 1e-9 * Math.max(1, Math.abs(value));
      });
    }),
  );
});

t.test('reports what it does not understand with file, line and code, and obeys the rest', async (t) => {
  const parsed = conf(`label in0 "before any chip"
chip "no_dashes"
    label in1 "of a chip that nobody has"
chip "nct6798-*"
    lable in0 "typo"
    label in0
    label in0 "open
    label in2 "two" "many"
    compute in3 @*2
    compute in4 (@*2, @
    compute in5 10. * @, @
    compute in6 1e3 * @, @
    ignore
    frobnicate
    label in9 "good"
bus "x" "y"
chip "lm75-i2c-x-48"
chip "lm75-foo-48"
    label in9 "of a chip that nobody has"`);
  t.same(
    parsed.issues.map(({ line }) => line),
    [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18],
  );
  for (const { file, code } of parsed.issues) t.same([file, code in ERRORS], ['sensors3.conf', true]);
  t.equal(parsed.feature(NCT, 'in9').label, 'good');
  t.equal(parsed.feature(NCT, 'in1').label, undefined, 'statements behind a bad chip line fall to no other chip');
});

t.test('joins lines at a backslash, counts them right, and reads escapes and "#" within quotes', async (t) => {
  const parsed = conf('chip "lm85-*" \\\n  "nct6798-*" \\  \n "x-*"\n label in0 "a \\"b\\" #1\\\\"\r\n\n bad\n');
  t.equal(parsed.feature(NCT, 'in0').label, 'a "b" #1\\');
  t.same(
    parsed.issues.map(({ line }) => line),
    [6],
  );
});

t.test('survives any text without throwing', async () => {
  const words = fc.constantFrom(
    'chip',
    'label',
    'compute',
    'ignore',
    'set',
    'bus',
    '"',
    '\\',
    '#',
    '@',
    '(',
    '-',
    '*',
    '\n',
    'in0',
    '^',
    ',',
    ' ',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.array(words, { maxLength: 40 }).map((w) => w.join(' ')),
      ),
      (text) => {
        conf(text).feature(NCT, 'in0');
        return true;
      },
    ),
  );
});

t.test('refuses an expression that is nested without end, and stays quick on a huge line', async (t) => {
  t.equal(computed(`${'('.repeat(100_000)}@`).issues.length, 1);
  t.equal(computed(`${'-'.repeat(100_000)}@`).issues.length, 1);
  const startedMs = Date.now();
  conf(`chip "*"\nlabel in0 "${'x'.repeat(500_000)}\nlabel in1 ${'"a\\" '.repeat(100_000)}`);
  conf('a'.repeat(500_000));
  t.ok(Date.now() - startedMs < 2_000);
});

t.test('loads sensors3.conf, then sensors.d in order, and not its hidden files', async (t) => {
  const root = t.testdir({
    'sensors3.conf': 'chip "*"\nlabel in0 "main"\nlabel in1 "main"',
    'sensors.conf': 'chip "*"\nlabel in2 "old name"',
    'sensors.d': {
      '20-b': 'chip "*"\nlabel in0 "b"',
      '10-a': 'chip "*"\nlabel in0 "a"\nlabel in3 "a"',
      '.hidden': 'chip "*"\nlabel in0 "hidden"',
      directory: {},
    },
  });
  const parsed = await loadSensorsConf({ root });
  t.same(parsed.issues, []);
  t.same(
    ['in0', 'in1', 'in2', 'in3'].map((feature) => parsed.feature(NCT, feature).label),
    ['b', 'main', undefined, 'a'],
  );
});

t.test('falls back to sensors.conf, is content with nothing, and reports what it cannot read', async (t) => {
  const old = await loadSensorsConf({ root: t.testdir({ 'sensors.conf': 'chip "*"\nlabel in2 "old name"' }) });
  t.equal(old.feature(NCT, 'in2').label, 'old name');
  const none = await loadSensorsConf({ root: '/nonexistent' });
  t.same([none.issues, none.feature(NCT, 'in0')], [[], { ignored: false }]);
  const unreadable = await loadSensorsConf({ root: t.testdir({ 'sensors3.conf': {} }) });
  t.match(unreadable.issues, [{ code: 'SKOS_SENSORS_CONF', line: 0 }]);
});

const DEBIAN = '/etc/sensors3.conf';
t.test(
  "reads Debian's own configuration without a complaint",
  {
    skip: existsSync(DEBIAN) ? false : `${DEBIAN} is not there (package libsensors-config)`,
  },
  async (t) => {
    const parsed = conf(readFileSync(DEBIAN, 'utf8'));
    t.same(parsed.issues, []);
    const w83627thf: ChipName = { prefix: 'w83627thf', bus: 'isa', busNumber: 0, address: 0x290 };
    t.match(parsed.feature(w83627thf, 'in3'), { label: '+5V', compute: { multiplier: 1 + 34 / 51 } });
    t.equal(parsed.feature({ ...NCT, prefix: 'emc6d102' }, 'in4').label, '+12V', 'a chip of a continued line');
  },
);
