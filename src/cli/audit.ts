/** `skos audit`: the hash-chained record. The agent verifies it, because opening a database writes to it. */
import { SkosError } from '../core/errors.js';
import type { AuditEntry } from '../core/ports.js';
import { type Command, type Context, type Invocation, type Io, textOption } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, shortClockText } from './format.js';
import { countOption } from './number-option.js';
import { subcommand } from './subcommand.js';
import { tableLines } from './table.js';

/** A chain of a year is some hundred thousand entries; reading and hashing them takes seconds on a slow disk. */
const VERIFY_DEADLINE_MS = 300_000;
const DEFAULT_LIMIT = 20;
/** What tells most comes first: a narrow terminal shows little of a line. */
const LEADING_KEYS = ['event', 'action', 'channel', 'subject', 'detail', 'state', 'mode', 'why'];
/** Compared by programs, or said by the other columns; --json has them. */
const UNSHOWN_KEYS = ['boot', 'at', 'seq', 'alert'];

export const audit: Command = {
  name: 'audit',
  summary: 'verify or list the tamper-evident record',
  usage: ['audit verify [--json]', 'audit list [--from SEQ] [--limit N] [--json]'],
  options: { from: { type: 'string' }, limit: { type: 'string' }, json: { type: 'boolean' } },
  optionHelp: {
    from: 'SEQ: first entry of the list (default: the last ones)',
    limit: 'N: at most so many (default 20)',
    json: 'JSON',
  },
  examples: [
    ['skos audit verify', 'Recompute every hash; exit code 6 when the chain is broken.'],
    ['skos audit list --from 1 --limit 5', 'The first five entries.'],
  ],

  run(invocation, context) {
    const [verb] = subcommand(invocation.positionals, { command: 'audit', known: ['verify', 'list'] });
    return verb === 'verify' ? verify(invocation, context) : list(invocation, context);
  },
};

async function verify({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const verdict = await (await agent()).request('audit.verify', {}, { deadlineMs: VERIFY_DEADLINE_MS });
  if (values.json === true) {
    io.out(JSON.stringify(verdict, null, 2));
    return verdict.ok ? EXIT.ok : EXIT.auditBroken;
  }
  if (!verdict.ok) {
    throw new SkosError(
      'SKOS_AUDIT_BROKEN',
      `first bad entry ${verdict.firstBadSeq} of ${verdict.entries}: ${clean(verdict.why)}`,
    );
  }
  io.out(`${paint(io.color).good('The chain is whole')}: ${verdict.entries} entries.`);
  io.out(`Head: entry ${verdict.head.seq}, ${verdict.head.hash}`);
  return EXIT.ok;
}

async function list({ values }: Invocation, { io, agent }: Context): Promise<number> {
  const client = await agent();
  const limit = countOption(textOption(values, 'limit'), 'limit') ?? DEFAULT_LIMIT;
  const from = fromOption(textOption(values, 'from')) ?? (await lastFrom(client, limit));
  const entries = await client.request('audit.list', { fromSeq: from, limit });
  if (values.json === true) io.out(JSON.stringify(entries, null, 2));
  else if (entries.length === 0) io.out('No entries.');
  else io.out(entryLines(entries, io).join('\n'));
  return EXIT.ok;
}

async function lastFrom(client: Awaited<ReturnType<Context['agent']>>, limit: number): Promise<number> {
  const { store } = await client.request('status', {});
  return Math.max(0, store.head.seq - limit + 1);
}

function fromOption(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new SkosError('SKOS_CLI_USAGE', `--from "${text}" is not the number of an entry`);
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
    .map((key, i) => (i === 0 ? '' : `${key} `) + valueText(what[key]))
    .join(', ');
}

function valueText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
