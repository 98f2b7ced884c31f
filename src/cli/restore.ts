/**
 * `skos restore`: puts a backup in the place of this node's record.
 *
 * It takes away what the node remembers, so it is as careful as arming: everything is verified first, it shows what would go and
 * what would come, asks for the node's name, and keeps what it replaces. How it is done so that a kill leaves one or the other
 * is said in store/restore.ts.
 */
import { SkosError } from '../core/errors.js';
import type { Restored, Standing, VerifiedBackup } from '../store/restore.js';
import { chainError, describe, watchOf } from './backup.js';
import { type Command, type Context, type Invocation, type Io, textOption, uninterrupted } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, quantityText } from './format.js';
import { Progress } from './progress.js';
import { wrapped } from './table.js';

/** Lazily: it opens databases, which no other command does. */
const restoring = () => import('../store/restore.js');

export const restore: Command = {
  name: 'restore',
  summary: 'replace what the node remembers by a backup',
  usage: ['restore FILE [--confirm NODE] [--from-node NAME] [--json]'],
  details:
    'Risk: HIGH. The agent must be stopped. Verifies the whole file before anything is touched, shows what comes and what ' +
    'goes, and asks for the node’s name. The replaced database is kept beside the new one. Killed at any moment, either the old or the new one is there. The audit chain says at ' +
    'the next start that it went back, by whom and from which file. Needs root or the owner of data_dir.',
  options: { confirm: CONFIRM_OPTION, 'from-node': { type: 'string' }, json: { type: 'boolean' } },
  optionHelp: {
    confirm: CONFIRM_HELP,
    'from-node': 'NAME: the backup is of that other node, and is meant to become the record of this one',
    json: 'an object, and no progress',
  },
  examples: [
    ['sudo systemctl stop skos-agent && sudo skos restore nova.skos', "Shows, asks for the node's name, restores."],
    ['sudo skos restore nova.skos --confirm nova', 'Without a question.'],
  ],

  async run(invocation, context) {
    const [file] = invocation.positionals;
    if (file === undefined) throw new SkosError('SKOS_CLI_USAGE', 'skos restore needs the name of a file');
    const { BackupSource } = await restoring();
    const source = await BackupSource.open(file);
    try {
      return await run(source, invocation, context);
    } finally {
      await source.close();
    }
  },
};

type Source = Awaited<ReturnType<Awaited<ReturnType<typeof restoring>>['BackupSource']['open']>>;

async function run(source: Source, invocation: Invocation, { io, config }: Context): Promise<number> {
  const { asOwnerOf, requireStopped, restoreBackup, standing, verifyBackup } = await restoring();
  const { values } = invocation;
  const { node, data_dir: dataDir } = (await config()).config;
  const asOwner = <T>(work: () => Promise<T>) => asOwnerOf(dataDir, io.euid, work);
  const now = await asOwner(async () => {
    await requireStopped(dataDir);
    return standing(dataDir);
  });
  const progress = new Progress({ io, quiet: values.json === true });
  const watch = watchOf(progress, io);
  try {
    const verified = await verifyBackup(source, watch);
    progress.clear();
    requireNode(verified, { node, fromNode: textOption(values, 'from-node') });
    if (verified.chain.fault !== undefined) throw chainError(verified.chain.fault);
    if (values.json !== true) io.out(previewText({ file: source.path, node, dataDir, verified, now }, io));
    await confirm({ node, deed: 'to replace what it remembers' }, invocation, io);
    const sudoUser = io.euid === 0 ? (io.env.SUDO_USER ?? null) : null;
    const who = io.euid === 0 ? 'root' : `uid ${io.euid}`;
    const given = { source, verified, dataDir, who, sudoUser, atMs: io.wallMs(), watch };
    let done: Restored | undefined;
    await uninterrupted(io, async () => {
      done = await asOwner(() => restoreBackup(given));
    });
    progress.clear();
    if (done === undefined) return EXIT.failed;
    io.out(
      values.json === true ? JSON.stringify(restoredJson(verified, done), null, 2) : restoredText(done, dataDir, io),
    );
    return EXIT.ok;
  } finally {
    progress.clear();
  }
}

/** A record of another node would lie about this one, unless somebody says that he knows. */
function requireNode(
  { header }: VerifiedBackup,
  { node, fromNode }: { node: string; fromNode: string | undefined },
): void {
  const expected = fromNode ?? node;
  if (header.node === expected || (header.node === null && fromNode === undefined)) return;
  const of = header.node === null ? 'does not say of which node it is' : `is of "${clean(header.node)}"`;
  throw new SkosError('SKOS_RESTORE_NODE', `the backup ${of}; expected "${clean(expected)}"`);
}

interface Preview {
  readonly file: string;
  readonly node: string;
  readonly dataDir: string;
  readonly verified: VerifiedBackup;
  readonly now: Standing;
}

function previewText({ file, node, dataDir, verified, now }: Preview, io: Io): string {
  const { bold, bad } = paint(io.color);
  const head = now.head === null ? 'no audit entry is known' : `audit entry ${now.head.seq} was its last`;
  const size = now.bytes === 0 ? 'nothing' : `${quantityText(now.bytes, 'bytes')}, ${head}`;
  const keys = verified.header.withKeys
    ? 'The keys of the audit chain are replaced too, and kept in the same way.'
    : 'The keys of the audit chain stay as they are.';
  return [
    `${bad('Risk: HIGH')}. What ${node} remembers is replaced by what this file holds:`,
    ...describe(file, verified, io),
    bold(`What ${node} has now, in ${clean(dataDir)}: ${size}`),
    ...wrapped(`It is kept there under the name db.replaced-TIME, its raw samples as raw-log.replaced-TIME. ${keys}`, {
      width: io.columns,
      indent: '  ',
    }),
  ].join('\n');
}

function restoredText({ replaced }: Restored, dataDir: string, { color }: Io): string {
  const { good } = paint(color);
  const kept =
    replaced.length === 0 ? 'There was nothing to keep.' : `Kept in ${clean(dataDir)}: ${replaced.join(', ')}`;
  return [`${good('Restored')}. ${kept}`, 'Start the agent: systemctl start skos-agent'].join('\n');
}

function restoredJson({ header, totals }: VerifiedBackup, { stamp, replaced, keys }: Restored): object {
  const { node, atMs, auditHead } = header;
  return { restored: true, node, takenAtMs: atMs, auditHead, sha256: totals.sha256, stamp, replaced, keys };
}
