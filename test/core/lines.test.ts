import fc from 'fast-check';
import t from 'tap';
import { LineReader, lineOf, parseLine } from '../../src/core/lines.js';

function read(chunks: readonly Buffer[], maxBytes = 1000): string[] {
  const lines: string[] = [];
  const reader = new LineReader({ maxBytes });
  for (const chunk of chunks) reader.push(chunk, (line) => lines.push(line));
  return lines;
}

t.test('yields the same lines however the bytes are cut, multi-byte characters included', async () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'grapheme', maxLength: 20 })),
      fc.array(fc.integer({ min: 1, max: 7 })),
      (texts, cuts) => {
        const stream = Buffer.concat(texts.map((text) => lineOf({ text })));
        const chunks: Buffer[] = [];
        let rest = stream;
        for (const cut of cuts) {
          chunks.push(rest.subarray(0, cut));
          rest = rest.subarray(cut);
        }
        const lines = read([...chunks, rest]);
        return JSON.stringify(lines.map((line) => parseLine(line).text)) === JSON.stringify(texts);
      },
    ),
  );
});

t.test('passes over empty lines and accepts CRLF', async (t) => {
  t.same(read([Buffer.from('\n\r\n{"a":1}\r\n\n')]), ['{"a":1}']);
});

t.test('refuses a line that is too long, whether its end has come or not', async (t) => {
  t.throws(() => read([Buffer.alloc(11, 'x')], 10), { code: 'SKOS_PROTOCOL_INVALID' });
  t.throws(() => read([Buffer.from(`${'x'.repeat(11)}\n`)], 10), { code: 'SKOS_PROTOCOL_INVALID' });
  t.same(read([Buffer.from(`${'x'.repeat(10)}\n${'y'.repeat(10)}\n`)], 10).length, 2, 'the bound is per line');
});

t.test('holds no more than the bound while a line grows by single bytes', async (t) => {
  const reader = new LineReader({ maxBytes: 100 });
  const drip = () => reader.push(Buffer.from('x'), () => t.fail('no line was complete'));
  for (let i = 0; i < 100; i++) drip();
  t.equal(reader.pendingBytes, 100);
  t.throws(drip, { code: 'SKOS_PROTOCOL_INVALID' });
});

t.test('says what is wrong with a line that holds no object', async (t) => {
  for (const line of ['{', 'null', '[]', '"x"', '12', '\u0000']) {
    t.throws(() => parseLine(line), { code: 'SKOS_PROTOCOL_INVALID' }, line);
  }
  t.same(parseLine('{"__proto__":{"a":1}}').a, undefined, 'a line cannot reach the prototype');
});
