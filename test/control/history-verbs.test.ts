import t from 'tap';
import { historyHandlers, MAX_ROWS_PER_PAGE, pageOf } from '../../src/control/history-verbs.js';
import type { Caller } from '../../src/control/socket-server.js';
import { VERB_PARAMS } from '../../src/control/verb-params.js';
import type { Channel } from '../../src/core/channel.js';
import type { DeviceAggregate, History, LatestSample, StoredChannel } from '../../src/core/ports.js';
import type { ListPage } from '../../src/core/protocol.js';
import { MAX_LINE_BYTES } from '../../src/core/protocol.js';
import { parse } from '../../src/core/shape.js';
import { cpuTemperature } from '../fixtures/antibodies.js';

const caller: Caller = { credentials: { uid: 0, gid: 0, groups: [], pid: 1 }, role: 'admin' };

/** As long as an id can be, and still each another. */
const longId = (i: number) => `${'s'.repeat(64)}/${'d'.repeat(64)}/${String(i).padStart(64, 'n')}`;

function channel(id: string): StoredChannel {
  const [source = '', device = '', name = ''] = id.split('/');
  return {
    id,
    source,
    device,
    name,
    label: 'l'.repeat(200),
    quantity: 'temperatureMilliCelsius',
    class: 'cpu',
    firstAtMs: 1_700_000_000_000,
    lastAtMs: 1_700_000_000_000,
  };
}

function history(given: Partial<History>): History {
  const none = () => Promise.resolve([]);
  return {
    channels: () => [],
    page: () => Promise.resolve({ series: [], after: null }),
    latest: none,
    byDevice: none,
    ...given,
  };
}

t.test('a list of more channels than fit a line comes in pages, each once, in the order of ids', async (t) => {
  const many = Array.from({ length: 16_384 }, (_, i) => channel(longId((i * 7_919) % 16_384)));
  const { 'history.channels': list } = historyHandlers({
    history: history({ channels: () => many }),
    channels: () => [cpuTemperature({ id: longId(3) })],
  });
  const ids: string[] = [];
  const here: string[] = [];
  let after: string | null | undefined;
  for (let pages = 1; after !== null; pages++) {
    const page = await list(after === undefined ? {} : { after }, caller);
    t.ok(Buffer.byteLength(JSON.stringify(page)) < MAX_LINE_BYTES / 2, `page ${pages}`);
    ids.push(...page.rows.map(({ id }) => id));
    here.push(...page.rows.filter(({ gone }) => !gone).map(({ id }) => id));
    after = page.after;
  }
  t.same(ids, many.map(({ id }) => id).sort());
  t.same(here, [longId(3)], 'what the machine has no longer is marked');
});

t.test('a row that goes between two pages hides no other', async (t) => {
  const rows = Array.from({ length: MAX_ROWS_PER_PAGE + 5 }, (_, i) => String(i).padStart(6, '0'));
  const first = pageOf(rows, (row) => row, undefined);
  t.equal(first.rows.length, MAX_ROWS_PER_PAGE);
  const left = rows.filter((row) => row !== '000000' && row !== first.after);
  const second = pageOf(left, (row) => row, first.after ?? '');
  t.same(second, { rows: rows.slice(-5), after: null });
  t.same(
    pageOf([], (row: string) => row, undefined),
    { rows: [], after: null },
  );
  const exact = rows.slice(0, MAX_ROWS_PER_PAGE);
  t.equal(pageOf(exact, (row) => row, undefined).after, null, 'no empty page at the end');
});

t.test(
  'globs select, the longest rows of samples and devices fit a page, and a page of samples is passed on',
  async (t) => {
    const asked: unknown[] = [];
    const verbs = historyHandlers({
      history: history({
        channels: () => [channel('a/b/c'), channel('a/x/c')],
        page: (query) => {
          asked.push(query);
          return Promise.resolve({ series: [], after: 'next' });
        },
        latest: (glob) => {
          asked.push(glob);
          const row = { unit: 'celsius_per_second', atMs: 1e12, value: 1 / 3, quality: 'no_data' } as const;
          return Promise.resolve(
            Array.from({ length: 3_000 }, (_, i): LatestSample => ({ channel: longId(i), ...row })),
          );
        },
        byDevice: () => {
          const row = { unit: 'celsius_per_second', channels: 4, minimum: 1 / 3, mean: 1 / 3, maximum: 1 / 3 };
          const where = {
            maximumOf: longId(1),
            maximumAtMs: 1e12,
            source: 's'.repeat(64),
            quantity: 'temperature_rate',
          };
          return Promise.resolve(
            Array.from(
              { length: 3_000 },
              (_, i): DeviceAggregate => ({ ...row, ...where, device: longId(i).slice(-64) }),
            ),
          );
        },
      }),
      channels: () => [],
    });
    t.match((await verbs['history.channels']({ glob: 'a/x/*' }, caller)).rows, [{ id: 'a/x/c', gone: true }]);
    t.same(await verbs.history({ glob: '**', fromAtMs: 1, toAtMs: 2 }, caller), { series: [], after: 'next' });
    for (const page of [
      await verbs['history.latest']({}, caller),
      await verbs['history.devices']({ fromAtMs: 0, toAtMs: 1 }, caller),
    ]) {
      t.equal(page.rows.length, MAX_ROWS_PER_PAGE);
      t.ok(JSON.stringify(page).length < MAX_LINE_BYTES / 2);
    }
    t.same(asked, [{ glob: '**', fromAtMs: 1, toAtMs: 2 }, '**']);
  },
);

t.test('a stretch that ends before it begins is refused with a code', async (t) => {
  const verbs = historyHandlers({ history: history({}), channels: () => [] });
  t.throws(() => verbs.history({ glob: '**', fromAtMs: 2, toAtMs: 1 }, caller), { code: 'SKOS_PROTOCOL_INVALID' });
});

t.test('params are bounded', async (t) => {
  const query = { glob: '**', fromAtMs: 0, toAtMs: 1 };
  const check = (verb: 'history' | 'history.channels' | 'history.devices', params: unknown) =>
    parse(VERB_PARAMS[verb], params).issues.length;
  t.equal(check('history', query), 0);
  t.equal(check('history', { ...query, points: 10_000, after: 'x'.repeat(512) }), 0);
  for (const bad of [
    { fromAtMs: 0, toAtMs: 1 },
    { ...query, glob: 'x'.repeat(257) },
    { ...query, fromAtMs: -1 },
    { ...query, toAtMs: 1e17 },
    { ...query, toAtMs: '1' },
    { ...query, points: 0 },
    { ...query, points: 10_001 },
    { ...query, points: 1.5 },
    { ...query, after: 'x'.repeat(513) },
    { ...query, more: 1 },
  ])
    t.ok(check('history', bad) > 0, JSON.stringify(bad).slice(0, 60));
  t.ok(check('history.channels', { after: 7 }) > 0);
  t.ok(check('history.devices', { glob: '**' }) > 0);
});

t.test('gives the channels themselves in pages that fit a line', async (t) => {
  const many = Array.from({ length: 1_200 }, (_, i) => cpuTemperature({ id: longId(i), path: 'p'.repeat(320) }));
  const { channels } = historyHandlers({ history: history({}), channels: () => many });
  const rows: unknown[] = [];
  let after: string | null | undefined;
  do {
    const page: ListPage<Channel> = await channels(typeof after === 'string' ? { after } : {}, caller);
    t.ok(Buffer.byteLength(JSON.stringify(page)) < MAX_LINE_BYTES / 2);
    rows.push(...page.rows);
    after = page.after;
  } while (after !== null);
  t.same(rows.length, many.length);
  t.match(rows[0], { limits: {}, rateHz: 10, thermalDefault: true });
});
