/** `skos audit`: the hash-chained, signed record of what was done, why and by whom. */
import { exportChain } from './audit-file.js';
import { listEntries, showEntry } from './audit-list.js';
import { verifyChain } from './audit-verify.js';
import type { Command, Context, Invocation } from './command.js';
import { CONFIRM_HELP, CONFIRM_OPTION, confirm } from './confirm.js';
import { EXIT } from './exit-codes.js';
import { paint } from './format.js';
import { subcommand } from './subcommand.js';

const KNOWN = ['verify', 'list', 'show', 'export', 'rotate-key'] as const;

export const audit: Command = {
  name: 'audit',
  summary: 'verify, list or export the tamper-evident record',
  usage: [
    'audit verify [FILE|DIRECTORY] [--head SEQ:HASH] [--key KEY]',
    'audit list [--from SEQ] [--kind GLOB] [--who NAME] [--since TIME]',
    'audit show SEQ',
    'audit export FILE [--from SEQ] [--to SEQ] [--force]',
    'audit rotate-key [--confirm NODE]',
  ],
  details:
    'Every entry holds the hash of the one before it, and checkpoints are signed. verify recomputes all of it, for the running ' +
    'agent, for a data_dir of a stopped one (a copy is read) or for an exported file alone, and compares it with the heads that ' +
    'the journal holds. It names the first bad entry.',
  options: {
    head: { type: 'string', multiple: true },
    key: { type: 'string' },
    'no-journal': { type: 'boolean' },
    from: { type: 'string' },
    to: { type: 'string' },
    limit: { type: 'string' },
    kind: { type: 'string' },
    since: { type: 'string' },
    who: { type: 'string' },
    force: { type: 'boolean' },
    confirm: CONFIRM_OPTION,
    json: { type: 'boolean' },
  },
  optionHelp: {
    head: 'HEAD: SEQ:HASH that must be in the chain, as a peer told it; any number',
    key: 'KEY: key id, or a file with a key; signed by it, or by keys it led to',
    'no-journal': 'do not compare with the heads in the journal',
    from: 'SEQ: first entry (of a list: default the last ones; of an export: all)',
    to: 'SEQ: last entry of the export',
    limit: 'N: at most so many (default 20)',
    kind: 'GLOB: entries of this kind, such as action.*',
    since: 'TIME: entries of the last 10m, 2h, 3d',
    who: 'NAME: entries of agent, actuator, root, "uid 1000"',
    force: 'replace the file',
    confirm: CONFIRM_HELP,
    json: 'JSON',
  },
  examples: [
    ['skos audit verify', 'Recompute every hash; exit code 6 when the chain is broken.'],
    ['skos audit verify /mnt/disk/var/lib/skos', 'The record of a machine that is gone.'],
    ['skos audit list --kind "action.*" --since 1d', 'What was done since yesterday.'],
    ['skos audit export june.audit', 'A file that `skos audit verify june.audit` checks on any machine.'],
    ['sudo skos audit rotate-key', 'A new key; the former one hands over to it.'],
  ],

  run(invocation, context) {
    const [verb, operand] = subcommand(invocation.positionals, { command: 'audit', known: KNOWN });
    switch (verb) {
      case 'verify':
        return verifyChain(invocation, context, operand);
      case 'list':
        return listEntries(invocation, context);
      case 'show':
        return showEntry(invocation, context, operand);
      case 'export':
        return exportChain(invocation, context, operand);
      case 'rotate-key':
        return rotateKey(invocation, context);
    }
  },
};

async function rotateKey(invocation: Invocation, { io, agent }: Context): Promise<number> {
  const client = await agent();
  const { node } = await client.request('status', {});
  await confirm({ node, deed: 'to exchange the key of its audit chain' }, invocation, io);
  const { keyId, former, seq } = await client.request('audit.rotate', { confirm: node });
  if (invocation.values.json === true) io.out(JSON.stringify({ keyId, former, seq }, null, 2));
  else {
    const before = former === null ? 'there was none before' : `${former} handed over to it`;
    io.out(`${paint(io.color).good('New key')}: ${keyId}, in force since entry ${seq}; ${before}.`);
    io.out('Note its id elsewhere: skos audit verify --key compares with it.');
  }
  return EXIT.ok;
}
