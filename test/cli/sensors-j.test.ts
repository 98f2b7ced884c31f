/** lm-sensors in every state it can be met in; each stand-in for it is a shell script of the test's own. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { lmSensors, temperatureChips } from '../../src/cli/sensors-j.js';

type Tap = typeof t;

const REAL = `{
   "coretemp-isa-0000":{
      "Adapter": "ISA adapter",
      "Package id 0":{ "temp1_input": 45.000, "temp1_max": 80.000 },
      "Core 0":{ "temp2_input": 41.000 }
   },
   "nct6798-isa-0290":{ "Adapter": "ISA adapter", "in0":{ "in0_input": 1.02 }, "fan1":{ "fan1_input": 1200 } },
   "acpitz-acpi-0":{ "Adapter": "ACPI interface", "temp1":{ "temp1_input": 27.8 } }
}`;

async function asked(t: Pick<Tap, 'testdir'>, script: string | undefined, deadlineMs = 2_000) {
  const directory = t.testdir({});
  if (script !== undefined) {
    writeFileSync(join(directory, 'sensors'), `#!/bin/sh\n${script}\n`);
    chmodSync(join(directory, 'sensors'), 0o755);
  }
  const began = performance.now();
  const answer = await lmSensors({ PATH: `${directory}:/usr/bin:/bin` }, { deadlineMs });
  return { answer, tookMs: performance.now() - began };
}

const print = (json: string): string => `cat <<'END'\n${json}\nEND`;

t.test('finds the chips that have a temperature', async (t) => {
  const { answer } = await asked(t, print(REAL));
  t.same(answer, {
    state: 'shown',
    chips: [
      { chip: 'coretemp-isa-0000', temperatures: 2 },
      { chip: 'acpitz-acpi-0', temperatures: 1 },
    ],
  });
});

t.test('is asked as `sensors -j`, in no other language', async (t) => {
  const { answer } = await asked(t, `[ "$*" = "-j" ] && [ "$LC_ALL" = C ] && ${print('{}')}`);
  t.same(answer, { state: 'shown', chips: [] });
});

t.test('one unreadable sensor, which makes it fail, does not hide the others', async (t) => {
  t.match((await asked(t, `${print(REAL)}\nexit 1`)).answer, { state: 'shown', chips: [{}, {}] });
});

t.test('absent, refused, failing, garbled: each is said, none throws', async (t) => {
  const directory = t.testdir({ sensors: 'no program' });
  t.same(await lmSensors({ PATH: join(directory, 'none') }), { state: 'absent' });
  t.match(await lmSensors({ PATH: directory }), { state: 'failed', why: /EACCES/ });
  t.match((await asked(t, 'exit 1')).answer, { state: 'failed', why: 'it ended with status 1' });
  t.match((await asked(t, 'kill -9 $$')).answer, { state: 'failed', why: 'it ended by SIGKILL' });
  t.match((await asked(t, 'echo "No sensors found!"')).answer, { state: 'failed', why: /no JSON/ });
  t.match((await asked(t, 'echo "[1, 2]"')).answer, { state: 'failed', why: /no JSON/ });
});

t.test('one that hangs is given up, with whatever it started', async (t) => {
  const { answer, tookMs } = await asked(t, 'echo "{"; sleep 20 & sleep 20', 300);
  t.match(answer, { state: 'failed', why: 'it did not end within 0.3 s' });
  t.ok(tookMs < 1500, `${tookMs} ms`);
});

t.test('one that prints without an end is given up', async (t) => {
  const { answer, tookMs } = await asked(
    t,
    'while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done',
    5_000,
  );
  t.match(answer, { state: 'failed', why: 'it prints without an end' });
  t.ok(tookMs < 5_000);
});

t.test('JSON of any shape is read without harm, and only numbers count', async (t) => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 5 }), (json) => {
      const chips = temperatureChips(json);
      return chips === undefined || chips.every(({ temperatures }) => temperatures > 0);
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => Array.isArray(temperatureChips(text) ?? [])));
  for (const value of ['"45"', 'null', '1e999', '{}', '[45]', 'true'])
    t.same(temperatureChips(`{"a":{"b":{"temp1_input":${value}}}}`), [], value);
  t.same(temperatureChips('{"a":{"b":{"temp1_max":80}}}'), []);
  const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`chip${i}`, { t: { temp1_input: 1 } }]));
  t.equal(temperatureChips(JSON.stringify(many))?.length, 256);
});
