/**
 * regenerate_wireguard_config: makes the configuration of an interface anew from its template and the keys that are stored, and
 * restarts its unit. For a file that somebody or something has damaged; the keys stay what the peers know.
 *
 * Template, keys and the place of the file are named by the configuration; all of them must belong to root alone. What was there
 * before is kept beside it with the time in its name, and is put back when the unit does not start with the new one. Before anything is
 * written the new file must pass `wg-quick strip`. No key is ever told: neither in the report nor in the journal.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { lineDiff } from '../cli/line-diff.js';
import { wireguardUnit } from '../config/jobs.js';
import type { Config } from '../config/schema.js';
import { restore, syncDirectory, writeAtomically } from '../core/atomic-file.js';
import { SkosError, systemCode } from '../core/errors.js';
import type { Act, ActContext, Outcome } from './act.js';
import { said } from './command.js';

/** A template and keys of a thousand peers. */
const MAX_FILE_BYTES = 512 * 1024;
/** The five latest: enough to see when it went wrong, and no heap of keys. */
const MAX_KEPT = 5;
const SECRET_MODE = 0o600;
const STRIP_TIMEOUT_MS = 10_000;
const RESTART_TIMEOUT_MS = 60_000;
const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;

interface Plan {
  readonly unit: string;
  readonly file: string;
  /** What it shall be. */
  readonly text: string;
  /** What it is; undefined when it is missing. */
  readonly former: string | undefined;
}

/** Says what it would change, and changes nothing. */
export const regenerateWireguardList: Act = {
  reportName: ([name = '']) => `regenerate_wireguard_config.${named(name)}.list`,

  async run(context: ActContext): Promise<Outcome> {
    const { file, unit, text, former } = await planOf(context);
    if (former === text) return { ok: true, summary: `${file} is as the template makes it: nothing would change` };
    const items = changes(former, text);
    const what = former === undefined ? 'make' : 'replace';
    return { ok: true, summary: `would ${what} ${file} (${items.length} lines differ) and restart ${unit}`, items };
  },
};

export const regenerateWireguard: Act = {
  reportName: ([name = '']) => `regenerate_wireguard_config.${named(name)}`,

  async run(context: ActContext): Promise<Outcome> {
    const plan = await planOf(context);
    const { file, unit, text, former } = plan;
    if (former === text) return { ok: true, summary: `${file} is as the template makes it: nothing was changed` };
    const items = changes(former, text);
    const kept = former === undefined ? undefined : await keep(file, former, context.clock.wallMs());
    await writeAtomically(file, text, SECRET_MODE);
    const why = await restarted(unit, context);
    if (why === undefined) {
      await prune(file);
      const summary = `made ${file} anew from its template and restarted ${unit}`;
      return { ok: true, summary, items, details: { kept: kept ?? null } };
    }
    await putBack(plan);
    // It is in its place again: copies of it would push out those of better days, or fill the disk.
    if (kept !== undefined) await rm(kept, { force: true });
    const again = await restarted(unit, context);
    const end = again === undefined ? 'runs again' : `does not start with it either: ${again}`;
    return {
      ok: false,
      summary: `${unit} did not start (${why}); the former ${file} was put back and ${end}`,
    };
  },
};

function named(name: string): string {
  if (/^[a-z0-9][a-z0-9_-]{0,14}$/.test(name)) return name;
  throw new SkosError('SKOS_ACT_ARGUMENT', `"${name}" is no name of an interface`);
}

async function planOf({ args: [name = ''], config, run }: ActContext): Promise<Plan> {
  const { template, keys, file, unit } = placeOf(name, await config());
  const stored = keys === undefined ? new Map<string, string>() : keysOf(await readSafe(keys, { secret: true }), keys);
  const text = rendered(await readSafe(template, { secret: false }), { stored, template });
  checkConfig(text, template);
  const directory = await mkdtemp(join(tmpdir(), 'skos-wireguard-'));
  try {
    // wg-quick takes the interface's name from that of the file.
    const staged = join(directory, `${name}.conf`);
    await writeAtomically(staged, text, SECRET_MODE);
    const { status, stderr } = await run('wg-quick', ['strip', staged], { timeoutMs: STRIP_TIMEOUT_MS });
    if (status !== 0)
      throw refused(template, `wg-quick does not take what is made of it: ${stderr.trim().slice(0, 200)}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  return { unit, file, text, former: await formerOf(file) };
}

function placeOf(name: string, { wireguard }: Config) {
  const each = Object.hasOwn(wireguard.interfaces, name) ? wireguard.interfaces[name] : undefined;
  if (each?.template === undefined) {
    throw new SkosError('SKOS_ACT_ARGUMENT', `wireguard.interfaces has no ${name} with a template`);
  }
  const { template, keys, config = `/etc/wireguard/${name}.conf` } = each;
  return { template, keys, file: config, unit: wireguardUnit(name, each) };
}

function refused(file: string, why: string): SkosError {
  return new SkosError('SKOS_ACT_REFUSED', `${file}: ${why}`);
}

/** Nobody but its owner, who is us, may have written it; of keys nobody else may have read them. */
async function readSafe(file: string, { secret }: { secret: boolean }): Promise<string> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      throw refused(file, `it cannot be opened (${systemCode(error)})`);
    },
  );
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw refused(file, 'it is no plain file');
    if (stats.uid !== process.getuid?.()) throw refused(file, 'it belongs to another user: chown root');
    if ((stats.mode & 0o022) !== 0) throw refused(file, 'others may write it: chmod go-w');
    if (secret && (stats.mode & 0o077) !== 0) throw refused(file, 'others may read the keys in it: chmod 0600');
    if (stats.size > MAX_FILE_BYTES) throw refused(file, `it is larger than ${MAX_FILE_BYTES / 1024} KiB`);
    return await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}

/** A link would be replaced by a file, and what it led to left as it is. */
async function formerOf(file: string): Promise<string | undefined> {
  const isThere = await lstat(file).then(
    () => true,
    (error: unknown) => {
      if (systemCode(error) === 'ENOENT') return false;
      throw refused(file, systemCode(error));
    },
  );
  return isThere ? readSafe(file, { secret: false }) : undefined;
}

function keysOf(text: string, file: string): Map<string, string> {
  const stored = new Map<string, string>();
  text.split('\n').forEach((line, i) => {
    if (/^\s*(#.*)?$/.test(line)) return;
    const [, name, key] = /^\s*([A-Za-z0-9_-]{1,64})\s*=\s*(\S+)\s*$/.exec(line) ?? [];
    if (name === undefined || key === undefined || !KEY.test(key))
      throw refused(file, `line ${i + 1} is no \`NAME = KEY\``);
    stored.set(name, key);
  });
  return stored;
}

function rendered(
  template: string,
  { stored, template: file }: { stored: ReadonlyMap<string, string>; template: string },
): string {
  const text = template.replaceAll(/\{\{\s*([^{}\s]*)\s*\}\}/g, (_, name: string) => {
    const key = stored.get(name);
    if (key === undefined) throw refused(file, `no key "${withoutSecrets(name).slice(0, 64)}" is stored`);
    return key;
  });
  return text.endsWith('\n') ? text : `${text}\n`;
}

/** What wg-quick does not look at before it has taken the interface down. */
function checkConfig(text: string, file: string): void {
  let section = '';
  let interfaces = 0;
  let privateKeys = 0;
  text.split('\n').forEach((line, i) => {
    const at = (why: string) => refused(file, `line ${i + 1} ${why}`);
    const bare = line.replace(/#.*/, '').trim();
    if (bare === '') return;
    const [, head] = /^\[(\w+)\]$/.exec(bare) ?? [];
    if (head !== undefined) {
      section = head.toLowerCase();
      if (section === 'interface') interfaces += 1;
      else if (section !== 'peer') throw at(`has an unknown section [${head}]`);
      return;
    }
    const [, name = '', value = ''] = /^([A-Za-z]+)\s*=\s*(.*)$/.exec(bare) ?? [];
    if (name === '' || section === '') throw at('is neither a section nor a setting in one');
    const setting = name.toLowerCase();
    if (/^(privatekey|publickey|presharedkey)$/.test(setting) && !KEY.test(value)) throw at(`has no key for ${name}`);
    if (setting === 'privatekey') privateKeys += 1;
    // It would write the running state over the file when the unit stops, and so undo this.
    if (setting === 'saveconfig' && /true/i.test(value)) throw at('sets SaveConfig, which would write over the file');
  });
  if (interfaces !== 1 || privateKeys !== 1) throw refused(file, 'it must make one [Interface] with one PrivateKey');
}

/** The lines that differ, "- " and "+ " before them, without what may be a key or a piece of one; a digest tells two apart. */
function changes(former: string | undefined, text: string): string[] {
  const lines = (of: string) => of.trimEnd().split('\n').map(withoutSecrets);
  return lineDiff(former === undefined ? [] : lines(former), lines(text)).filter((line) => !line.startsWith('  '));
}

/** Also in a comment, and in a file that is damaged: whatever is long enough, and not on the line of a public key. */
function withoutSecrets(line: string): string {
  if (/^\s*PublicKey\s*=\s*\S*\s*$/i.test(line)) return line;
  return line.replaceAll(/[A-Za-z0-9+/=]{16,}/g, (piece) => {
    if (piece === 'PersistentKeepalive') return piece;
    return `(hidden ${createHash('sha256').update(piece).digest('hex').slice(0, 8)})`;
  });
}

async function keep(file: string, former: string, wallMs: number): Promise<string> {
  const time = new Date(wallMs).toISOString().replaceAll(/[-:.]/g, '');
  const kept = `${file}.skos-${time}`;
  await writeAtomically(kept, former, SECRET_MODE);
  return kept;
}

async function prune(file: string): Promise<void> {
  const prefix = `${basename(file)}.skos-`;
  const names = (await readdir(dirname(file))).filter(
    (name) => name.startsWith(prefix) && /^\d{8}T\d{9}Z$/.test(name.slice(prefix.length)),
  );
  for (const name of names.sort().slice(0, -MAX_KEPT)) await rm(join(dirname(file), name), { force: true });
}

async function putBack({ file, former }: Plan): Promise<void> {
  if (former === undefined) {
    await restore(file, undefined);
    await syncDirectory(dirname(file));
  } else await writeAtomically(file, former, SECRET_MODE);
}

/** Why not; undefined when it was. */
async function restarted(unit: string, { run }: ActContext): Promise<string | undefined> {
  const result = await run('systemctl', ['restart', '--', unit], { timeoutMs: RESTART_TIMEOUT_MS });
  return result.status === 0 ? undefined : said('systemctl', result);
}
