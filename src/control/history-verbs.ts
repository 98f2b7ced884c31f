/** The verbs of what is stored of the channels' past. Lists are cut into pages, because a line of the socket is bounded. */
import type { Channel } from '../core/channel.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type { History } from '../core/ports.js';
import type { ListPage, Verb } from '../core/protocol.js';
import type { Handlers } from './socket-server.js';

/** A channel with the longest paths and a table of words is 3 KB. */
export const MAX_CHANNELS_PER_PAGE = 500;
/** A row with two ids of the longest kind is 700 bytes: a page stays below half of MAX_LINE_BYTES. */
export const MAX_ROWS_PER_PAGE = 2_500;
const EVERYTHING = '**';

type HistoryVerb = Extract<Verb, `history${string}`> | 'channels';

export interface HistoryVerbOptions {
  readonly history: History;
  /** Those of the machine as it is now. */
  readonly channels: () => readonly Channel[];
}

export function historyHandlers({ history, channels }: HistoryVerbOptions): Pick<Handlers, HistoryVerb> {
  return {
    history: (query) => {
      if (query.toAtMs < query.fromAtMs) {
        throw new SkosError('SKOS_PROTOCOL_INVALID', 'toAtMs is before fromAtMs');
      }
      return history.page(query);
    },
    channels: ({ after }) => pageOf(channels(), ({ id }) => id, after, MAX_CHANNELS_PER_PAGE),
    'history.channels': ({ glob = EVERYTHING, after }) => {
      const here = new Set(channels().map(({ id }) => id));
      const matching = history.channels().filter(({ id }) => globMatches(glob, id));
      const page = pageOf(matching, ({ id }) => id, after);
      return { ...page, rows: page.rows.map((row) => ({ ...row, gone: !here.has(row.id) })) };
    },
    'history.latest': async ({ glob = EVERYTHING, after }) =>
      pageOf(await history.latest(glob), ({ channel }) => channel, after),
    'history.devices': async ({ glob = EVERYTHING, fromAtMs, toAtMs, after }) => {
      const rows = await history.byDevice({ glob, fromAtMs, toAtMs });
      return pageOf(rows, ({ source, device, quantity }) => `${source}/${device}/${quantity}`, after);
    },
  };
}

/** The rows behind `after`, in the order of their names; a row that goes between two pages moves no other. */
export function pageOf<T>(
  rows: readonly T[],
  nameOf: (row: T) => string,
  after: string | undefined,
  maxRows = MAX_ROWS_PER_PAGE,
): ListPage<T> {
  const named = rows.map((row) => ({ name: nameOf(row), row }));
  const behind = after === undefined ? named : named.filter(({ name }) => name > after);
  behind.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const page = behind.slice(0, maxRows);
  const last = page.at(-1);
  return {
    rows: page.map(({ row }) => row),
    after: last === undefined || page.length === behind.length ? null : last.name,
  };
}
