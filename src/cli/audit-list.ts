/** `skos audit list` and `skos audit show`: entries as a table, and one of them in full. */
import type { AgentClient } from '../core/agent-client.js';
import { SkosError } from '../core/errors.js';
import { globMatches } from '../core/glob.js';
import type { AuditEntry } from '../core/ports.js';
import { ChainVerifier, GENESIS } from '../store/audit-entry.js';
import { type Context, type Invocation, type Io, textOption } from './command.js';
import { durationSeconds, MAX_SINCE_SECONDS } from './duration.js';
import { EXIT } from './exit-codes.js';
import { clean, clockText, paint, shortClockText } from './format.js';
import { countOption } from './number-option.js';
import { tableLines, wrapped } from './table.js';

const DEFAULT_LIMIT = 20;
/** Entries of one question when many are looked through: some hundred KiB. */
const PAGE = 500;
/** A signature comes at least each thousand entries; beyond this there is none. */
const MAX_LOOKED_AHEAD = 5_000;
/** What tells most comes first: a narrow terminal shows little of a line. */
const LEADING_KEYS = ['event', 'action', 'channel', 'subject', 'detail', 'state', 'mode', 'why'];
/** Compared by programs, or said by the other columns; --json and `show` have them. */
const UNSHOWN_KEYS = ['boot', 'at', 'seq', 'alert', 'publicKey', 'signature', 'handover'];

interface Filter {
  readonly kind: string | undefined;
  readonly who: string | undefined;
  readonly sinceAtMs: number | undefined;
}

export async function listEntries({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const limit = countOption(textOption(values, 'limit'), 'limit') ?? DEFAULT_LIMIT;
  const from = seqOption(textOption(values, 'from'), 'from');
  const filter = filterOf({ values }, io);
  const client = await agent();
  const isFiltered = filter.kind !== undefined || filter.who !== undefined || filter.sinceAtMs !== undefined;
  const entries = isFiltered
    ? await filtered(client, { filter, from, limit })
    : await client.request('audit.list', { fromSeq: from ?? (await lastFrom(client, limit)), limit });
  if (values.json === true) io.out(JSON.stringify(entries, null, 2));
  else if (entries.length === 0) io.out('No entries.');
  else io.out(entryLines(entries, io).join('\n'));
  return EXIT.ok;
}

function filterOf({ values }: Pick<Invocation, 'values'>, io: Io): Filter {
  const since = textOption(values, 'since');
  const sinceAtMs = since === undefined ? undefined : io.wallMs() - durationSeconds(since, MAX_SINCE_SECONDS) * 1000;
  return { kind: textOption(values, 'kind'), who: textOption(values, 'who'), sinceAtMs };
}

function matches({ kind, who, sinceAtMs }: Filter, entry: AuditEntry): boolean {
  return (
    (kind === undefined || globMatches(kind, entry.kind)) &&
    (who === undefined || entry.who === who) &&
    (sinceAtMs === undefined || entry.atMs >= sinceAtMs)
  );
}

async function headSeq(client: AgentClient): Promise<number> {
  return (await client.request('status', {})).store.head.seq;
}

async function lastFrom(client: AgentClient, limit: number): Promise<number> {
  return Math.max(0, (await headSeq(client)) - limit + 1);
}

/** From a number on the first ones that match, else the last ones. */
async function filtered(
  client: AgentClient,
  { filter, from, limit }: { filter: Filter; from: number | undefined; limit: number },
): Promise<AuditEntry[]> {
  const last = await headSeq(client);
  let found: AuditEntry[] = [];
  if (from !== undefined) {
    for (let at = from; at <= last && found.length < limit; ) {
      const page = await client.request('audit.list', { fromSeq: at, limit: PAGE });
      const end = page.at(-1);
      if (end === undefined) break;
      found.push(...page.filter((entry) => matches(filter, entry)));
      at = end.seq + 1;
    }
    return found.slice(0, limit);
  }
  for (let end = last; end > 0 && found.length < limit; end -= PAGE) {
    const page = await stretch(client, { fromSeq: Math.max(1, end - PAGE + 1), toSeq: end });
    found = [...page.filter((entry) => matches(filter, entry)), ...found];
    // Entries are in the order of time but for a clock that was set: a whole page of older ones ends the search.
    const { sinceAtMs = 0 } = filter;
    if (page.every(({ atMs }) => atMs < sinceAtMs)) break;
  }
  return found.slice(-limit);
}

/** One answer may hold less than was asked for, where entries are large. */
async function stretch(
  client: AgentClient,
  { fromSeq, toSeq }: { fromSeq: number; toSeq: number },
): Promise<AuditEntry[]> {
  const found: AuditEntry[] = [];
  for (let at = fromSeq; at <= toSeq; ) {
    const page = await client.request('audit.list', { fromSeq: at, limit: toSeq - at + 1 });
    const end = page.at(-1);
    if (end === undefined) break;
    found.push(...page.filter(({ seq }) => seq <= toSeq));
    at = end.seq + 1;
  }
  return found;
}

export function seqOption(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new SkosError('SKOS_CLI_USAGE', `--${name} "${clean(text)}" is not the number of an entry`);
}

function entryLines(entries: readonly AuditEntry[], { columns, color, wallMs }: Io): string[] {
  const { dim } = paint(color);
  const rows = entries.map((entry) => [
    { text: String(entry.seq) },
    { text: shortClockText(entry.atMs, wallMs()) },
    { text: clean(entry.kind) },
    { text: clean(entry.who) },
    { text: clean(whatText(entry.what)), paint: dim },
  ]);
  return tableLines({ columns: [{ align: 'right' }, {}, {}, { shrinkTo: 8 }, { shrinkTo: 16 }], rows, width: columns });
}

/** "thermal_zone/x86_pkg_temp/0, state firing, …": for a glance; --json has all of it. */
function whatText(what: AuditEntry['what']): string {
  const others = Object.keys(what).filter((key) => !LEADING_KEYS.includes(key) && !UNSHOWN_KEYS.includes(key));
  return [...LEADING_KEYS.filter((key) => key in what), ...others]
    .map((key, i) => (i === 0 && LEADING_KEYS.includes(key) ? '' : `${key} `) + valueText(what[key]))
    .join(', ');
}

function valueText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

// ---- One entry -----------------------------------------------------------------------------------------------------

interface Coverage {
  /** The entry whose signature covers it; undefined: none does yet. */
  readonly by: AuditEntry | undefined;
  /** What is wrong between the entry and that signature. */
  readonly fault: string | undefined;
  readonly next: AuditEntry | undefined;
}

export async function showEntry(
  { values }: Invocation,
  { io, agent }: Context,
  text: string | undefined,
): Promise<number> {
  if (text === undefined || !/^[1-9]\d{0,14}$/.test(text)) {
    const given = text === undefined ? '' : ` "${clean(text)}"`;
    throw new SkosError('SKOS_CLI_USAGE', `skos audit show${given}: expected the number of an entry`);
  }
  const seq = Number(text);
  const client = await agent();
  const [entry] = await client.request('audit.list', { fromSeq: seq, limit: 1 });
  if (entry?.seq !== seq) {
    const last = await headSeq(client);
    throw new SkosError('SKOS_AUDIT_UNKNOWN', `there is no entry ${seq}; the last one is ${last}`);
  }
  const coverage = await covered(client, entry);
  if (values.json === true) {
    const { by, fault, next } = coverage;
    const signedBy = by === undefined ? null : { seq: by.seq, kind: by.kind, keyId: by.what.keyId };
    io.out(JSON.stringify({ entry, next: next?.hash ?? null, signedBy, fault: fault ?? null }, null, 2));
  } else io.out(shownLines(entry, coverage, io).join('\n'));
  return coverage.fault === undefined ? EXIT.ok : EXIT.auditBroken;
}

/** Recomputes the hashes from the entry to the next signature, and checks that one. */
async function covered(client: AgentClient, entry: AuditEntry): Promise<Coverage> {
  const after = entry.seq === 1 ? GENESIS : { seq: entry.seq - 1, hash: entry.previous };
  const verifier = new ChainVerifier({ after, partial: true });
  verifier.signatures.joinLate();
  // The entry itself may be signed, and the look at those behind it end there.
  const [next] = await client.request('audit.list', { fromSeq: entry.seq + 1, limit: 1 });
  for (let at = entry.seq; at < entry.seq + MAX_LOOKED_AHEAD; ) {
    const page = await client.request('audit.list', { fromSeq: at, limit: PAGE });
    for (const each of page) {
      if (!verifier.next(each)) {
        const verdict = verifier.verdict();
        return { by: undefined, fault: verdict.ok ? 'it is broken' : `entry ${each.seq}: ${verdict.why}`, next };
      }
      if (verifier.signatures.signedSeq === each.seq) return { by: each, fault: undefined, next };
    }
    const end = page.at(-1);
    if (end === undefined) break;
    at = end.seq + 1;
  }
  return { by: undefined, fault: undefined, next };
}

function shownLines(entry: AuditEntry, { by, fault, next }: Coverage, { columns, color }: Io): string[] {
  const { bold, bad, good } = paint(color);
  const rows = [
    ['time', `${clockText(entry.atMs)} (${entry.atMs} ms)`],
    ['who', clean(entry.who)],
    ['hash', entry.hash],
    ['before', entry.seq === 1 ? 'nothing: it is the first' : `${entry.seq - 1} ${entry.previous}`],
    ['after', next === undefined ? 'nothing yet' : `${next.seq} ${next.hash}`],
  ];
  const signed =
    fault !== undefined
      ? bad(`Broken: ${clean(fault)}`)
      : by === undefined
        ? 'Signed: not yet'
        : `${good('Signed')} by the key ${clean(String(by.what.keyId))} in entry ${by.seq} (${by.kind})`;
  return [
    bold(`Entry ${entry.seq}: ${clean(entry.kind)}`),
    ...rows.map(([name = '', text = '']) => `  ${name.padEnd(8)}${text}`),
    ...JSON.stringify(entry.what, null, 2)
      .split('\n')
      .flatMap((line) => wrapped(harmless(line), { width: columns, indent: `  ${/^ */.exec(line)?.[0] ?? ''}` })),
    signed,
  ];
}

/** All of a text, which clean() would cut. */
function harmless(text: string): string {
  return (text.match(/.{1,300}/gsu) ?? []).map(clean).join('');
}
