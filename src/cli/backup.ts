/**
 * `skos backup`: all that the agent remembers, as of one moment, in one file.
 *
 * The agent reads and this program packs, writes and checks: whoever runs it gets a file of his own, and the node's protection
 * only hands out pages. Keys of the audit chain never go over the socket: this program reads their files, if it may.
 */
import type { AgentClient } from '../core/agent-client.js';
import { reason, SkosError } from '../core/errors.js';
import type { BackupBegun } from '../core/protocol.js';
import { BackupTarget, NEVER_INCLUDED, type Piece, saveBackup } from '../store/backup.js';
import { type ChainFinding, ContentCheck } from '../store/backup-check.js';
import type { BackupFacts, BackupHeader, BackupTotals, KeyFile } from '../store/backup-file.js';
import type { Stage, Watch } from '../store/restore.js';
import { type Command, type Context, type Invocation, type Io, textOption, uninterrupted } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, clockText, paint, plural, quantityText } from './format.js';
import { Progress } from './progress.js';
import { wrapped } from './table.js';

/** The agent waits for its disk before it opens the snapshot, and reads from a busy one. */
const DEADLINE_MS = 60_000;
const STDOUT = '-';

export const backup: Command = {
  name: 'backup',
  summary: 'write all that the node remembers into one file, or check one',
  usage: ['backup FILE [--force] [--with-keys] [--json]', 'backup --verify FILE [--json]'],
  details:
    'Samples, alerts, actions, recordings and the audit chain, as of one moment, while the agent goes on. The file is packed, has a ' +
    'checksum, and appears under its name only when all of it is on disk; "-" is standard output. Not in it: configuration files, ' +
    'the keys of the mesh and, without --with-keys, the private keys of the audit chain. The audit chain says who took it.',
  options: {
    verify: { type: 'string' },
    force: { type: 'boolean' },
    'with-keys': { type: 'boolean' },
    json: { type: 'boolean' },
  },
  optionHelp: {
    verify: 'FILE: check a file alone, every byte and the audit chain in it; needs no agent',
    force: 'replace the file if it is there',
    'with-keys':
      'with the private keys of the audit chain (root, or the agent’s user): keep such a file as one keeps keys',
    json: 'an object, and no progress',
  },
  examples: [
    ['sudo skos backup /media/stick/nova.skos', 'What a restore on this or a new machine needs.'],
    ['skos backup - | ssh vault "cat > nova.skos"', 'Without a file here.'],
    ['skos backup --verify nova.skos', 'Whether a file is whole; exit code 6 when the chain in it is broken.'],
  ],

  async run(invocation, context) {
    const { values, positionals } = invocation;
    const checked = textOption(values, 'verify');
    const [file] = positionals;
    if (checked !== undefined) {
      if (file !== undefined) throw new SkosError('SKOS_CLI_USAGE', '--verify takes one file, and no other is written');
      return verify(checked, { values, io: context.io });
    }
    if (file === undefined) throw new SkosError('SKOS_CLI_USAGE', 'skos backup needs the name of a file');
    return take(file, invocation, context);
  },
};

// ---- Taking ----------------------------------------------------------------------------------------------------------

async function take(file: string, { values }: Invocation, { io, agent }: Context): Promise<number> {
  const destination = destinationOf(file, { force: values.force === true, io });
  const client = await agent();
  const progress = new Progress({ io, quiet: values.json === true });
  const withKeys = values['with-keys'] === true;
  let taken: Taken | undefined;
  await uninterrupted(io, async () => {
    try {
      await destination.open();
      taken = await save({ client, destination, withKeys, io, progress });
    } catch (error) {
      await destination.abort();
      await client.request('backup.end', {}).catch(() => undefined); // The connection may be what failed.
      throw error;
    } finally {
      progress.clear();
    }
  });
  if (taken === undefined) return EXIT.failed;
  const say = file === STDOUT ? io.err : io.out;
  say(values.json === true ? JSON.stringify(takenJson(file, taken), null, 2) : takenText(file, taken, io).join('\n'));
  return EXIT.ok;
}

interface Taken {
  readonly facts: BackupFacts;
  readonly totals: BackupTotals;
  readonly chain: ChainFinding;
  /** Why the agent could not be told. */
  readonly untold: string | undefined;
}

interface Save {
  readonly client: AgentClient;
  readonly destination: Destination;
  readonly withKeys: boolean;
  readonly io: Io;
  readonly progress: Progress;
}

async function save({ client, destination, withKeys, io, progress }: Save): Promise<Taken> {
  const begun = await client.request('backup.begin', {}, { deadlineMs: DEADLINE_MS });
  const keys = withKeys ? await keysOf(begun.dataDir, io.euid) : [];
  const facts = factsOf(begun, withKeys);
  const check = new ContentCheck(facts);
  const totals = await saveBackup({
    facts,
    pieces: piecesFrom(client, io.signal),
    keys,
    write: (bytes) => destination.write(bytes),
    each: (entry) => check.entry(entry),
    onProgress: ({ recordBytes, fraction }) => progress.show({ what: 'reading', fraction, bytes: recordBytes }),
  });
  await destination.commit();
  const { sha256, fileBytes, records } = totals;
  const taken = { sha256, fileBytes, records, withKeys };
  // The file is there and whole, whatever the agent says now.
  const untold = await client.request('backup.end', { taken }, { deadlineMs: DEADLINE_MS }).then(
    () => undefined,
    (error: unknown) => reason(error),
  );
  return { facts, totals, chain: check.finish(), untold };
}

function factsOf(begun: BackupBegun, withKeys: boolean): BackupFacts {
  const { node, program, atMs, format, auditHead, approximateBytes, missing } = begun;
  const keys = withKeys ? [] : ['keys of the audit chain'];
  const notIncluded = [...missing, ...keys, ...NEVER_INCLUDED];
  return { node, program, atMs, format, auditHead, approximateBytes, withKeys, notIncluded };
}

/** The next page is asked for before the last one is packed and written: agent and disk work at the same time. */
async function* piecesFrom(client: AgentClient, signal: AbortSignal): AsyncGenerator<Piece, void, undefined> {
  const ask = () => {
    const page = client.request('backup.read', {}, { deadlineMs: DEADLINE_MS });
    page.catch(() => undefined); // Heard when it is awaited below, unless the writing fails before.
    return page;
  };
  let next = ask();
  for (;;) {
    const { data, fraction } = await next;
    if (signal.aborted) throw new SkosError('SKOS_CLI_INTERRUPTED', 'interrupted; there is no backup');
    if (data === null) return;
    next = ask();
    yield { bytes: Buffer.from(data, 'base64'), fraction };
  }
}

/** Loaded only here: reading keys and verifying files lies beside what opens databases. */
async function keysOf(dataDir: string, euid: number): Promise<KeyFile[]> {
  const { asOwnerOf, readKeys } = await import('../store/restore.js');
  try {
    return await asOwnerOf(dataDir, euid, () => readKeys(dataDir));
  } catch (error) {
    throw new SkosError('SKOS_BACKUP_KEYS', reason(error), { cause: error });
  }
}

interface Destination {
  open(): Promise<void>;
  write(bytes: Buffer): Promise<void>;
  commit(): Promise<void>;
  abort(): Promise<void>;
}

function destinationOf(file: string, { force, io }: { force: boolean; io: Io }): Destination {
  if (file !== STDOUT) return new BackupTarget(file, { force });
  const { write, screen } = io;
  if (write === undefined || screen) throw new SkosError('SKOS_CLI_USAGE', 'a backup is nothing for a terminal');
  const nothing = async () => undefined;
  return { open: nothing, write: (bytes) => written(write, bytes), commit: nothing, abort: nothing };
}

async function written(write: NonNullable<Io['write']>, bytes: Buffer): Promise<void> {
  try {
    await write(bytes);
  } catch (error) {
    throw new SkosError('SKOS_BACKUP_WRITE', `standard output: ${reason(error)}`, { cause: error });
  }
}

// ---- Verifying -------------------------------------------------------------------------------------------------------

async function verify(file: string, { values, io }: { values: Invocation['values']; io: Io }): Promise<number> {
  const { BackupSource, verifyBackup } = await import('../store/restore.js');
  const source = await BackupSource.open(file);
  const progress = new Progress({ io, quiet: values.json === true });
  try {
    const { header, totals, chain } = await verifyBackup(source, watchOf(progress, io));
    progress.clear();
    if (values.json === true) io.out(JSON.stringify(verifiedJson(file, { header, totals, chain }), null, 2));
    if (chain.fault !== undefined) throw chainError(chain.fault);
    if (values.json !== true) io.out(describe(file, { header, totals, chain }, io).join('\n'));
    return EXIT.ok;
  } finally {
    progress.clear();
    await source.close();
  }
}

/** What is read back is counted in records, which have no pace that says anything. */
export function watchOf(progress: Progress, { signal }: Pick<Io, 'signal'>): Watch {
  const onProgress = (what: Stage, done: number, total: number) =>
    progress.show({ what, fraction: total === 0 ? null : done / total, bytes: what === 'reading back' ? null : done });
  return { onProgress, signal };
}

export function chainError({ firstBadSeq, why }: NonNullable<ChainFinding['fault']>): SkosError {
  return new SkosError('SKOS_AUDIT_BROKEN', `in the backup, first bad entry ${firstBadSeq}: ${clean(why)}`);
}

// ---- Telling ---------------------------------------------------------------------------------------------------------

interface Described {
  readonly header: Pick<
    BackupHeader,
    'node' | 'atMs' | 'auditHead' | 'withKeys' | 'notIncluded' | 'program' | 'format'
  >;
  readonly totals: BackupTotals;
  readonly chain: ChainFinding;
}

/** What a file is, for people: of a backup just taken, of one that is verified, of one about to be restored. */
export function describe(
  file: string,
  { header, totals, chain }: Described,
  io: Pick<Io, 'color' | 'columns'>,
): string[] {
  const { bold, good, bad, warn } = paint(io.color);
  const of = header.node === null ? 'a node that it does not name' : clean(header.node);
  const size = `${quantityText(totals.fileBytes, 'bytes')}, ${quantityText(totals.recordBytes, 'bytes')} unpacked`;
  const whole =
    chain.fault === undefined
      ? good(`whole, ${plural(chain.entries, 'entry', 'entries')}, up to ${header.auditHead.seq}`)
      : bad(`broken at entry ${chain.fault.firstBadSeq}: ${clean(chain.fault.why)}`);
  const losses = chain.restarts.slice(-5).join(', ');
  const restarts = chain.restarts.length === 0 ? [] : [warn(`It states losses before entry ${losses}.`)];
  const keys = totals.keys === 0 ? [] : [warn(`It holds ${plural(totals.keys, 'private key')} of the audit chain.`)];
  return [
    bold(`${clean(file)}: backup of ${of}, ${clockText(header.atMs)}, by version ${clean(header.program)}`),
    `  ${plural(totals.records, 'record')}: ${size}`,
    `  audit chain: ${whole}`,
    ...restarts.map((text) => `  ${text}`),
    ...keys.map((text) => `  ${text}`),
    ...wrapped(`not in it: ${header.notIncluded.map(clean).join(', ')}`, { width: io.columns, indent: '  ' }),
    `  SHA-256 ${totals.sha256}`,
  ];
}

function takenText(file: string, { facts, totals, chain, untold }: Taken, io: Io): string[] {
  const { warn } = paint(io.color);
  const name = file === STDOUT ? 'standard output' : file;
  const missing =
    untold === undefined ? [] : [warn(`The audit chain does not say that it was taken: ${clean(untold)}`)];
  return [...describe(name, { header: facts, totals, chain }, io), ...missing];
}

function takenJson(file: string, { facts, totals, chain, untold }: Taken): object {
  return { file, ...facts, ...totals, chain: chainJson(chain), recorded: untold === undefined };
}

function verifiedJson(file: string, { header, totals, chain }: Described): object {
  return { file, ok: chain.fault === undefined, ...header, ...totals, chain: chainJson(chain) };
}

function chainJson({ entries, head, restarts, fault }: ChainFinding): object {
  return { ok: fault === undefined, entries, head, restarts, ...fault };
}
