/**
 * Loading: the file, conf.d/*.yaml beside it in the order of their names, the environment; then the schema and the
 * checks across keys. All that is wrong is reported at once, each with its place, and nothing is returned but a config
 * that is right: who holds a Config need not check it again.
 */
import { readdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { reason, SkosError } from '../core/errors.js';
import type { Issue, Path } from '../core/shape.js';
import { checkAcross } from './check.js';
import { applyEnvironment, type Environment } from './environment.js';
import { type Config, type ConfigFile, configShape } from './schema.js';
import { type Found, find, merge, type Place, plain, type Raw } from './tree.js';
import { parseYaml, readFileText } from './yaml-file.js';

const DEFAULT_CONFIG_FILE = '/etc/skos/skos.yaml';
export const DROP_IN_DIRECTORY = 'conf.d';
/** Drop-ins of a packaged node are a handful; a directory with more is the wrong one. */
const MAX_DROP_INS = 256;
/** Enough to mend a file in one go; a file with more is of another program. */
const MAX_REPORTED_ISSUES = 50;
/** RFC 1035's label, which is also what NODE_NAME of the schema takes. */
const MAX_NODE_NAME_LENGTH = 63;
const NO_EFFECT = 'has no effect yet';
/** Public names that are taken and checked although nothing obeys them yet, or not all of them. Whoever writes one is told. */
const WITHOUT_EFFECT: readonly (readonly [path: Path, what: string])[] = [
  [['role'], NO_EFFECT],
  [['http'], NO_EFFECT],
];

export interface LoadOptions {
  /** Named by the operator; it must exist. Absent: $SKOS_CONFIG, else the default file, which may be missing. */
  readonly file?: string | undefined;
  readonly env: Environment;
  /** For tests; absent: the machine's. */
  readonly hostName?: string;
}

export interface LoadedConfig {
  readonly config: Config;
  /** The main file, whether or not it exists; drop-ins lie in conf.d beside it. */
  readonly mainFile: string;
  /** Those that were read, in order. */
  readonly files: readonly string[];
  /** What the operator should know though nothing is wrong. */
  readonly notices: readonly string[];
  /** Where a key's value in force was written: "FILE:LINE", "environment NAME", or "default". */
  originOf(path: Path): string;
}

interface Refusal {
  readonly at: Place;
  readonly text: string;
}

export async function loadConfig(options: LoadOptions): Promise<LoadedConfig> {
  const read = await readFiles(options);
  const environment = applyEnvironment(read.raw, options.env);
  const refusals: Refusal[] = environment.issues.map(({ at, message }) => ({ at, text: message }));
  const issues: Issue[] = [];
  const value = configShape.check(plain(environment.raw), [], issues);
  const node = nodeNameOf(value, options, read.notices);
  const config: Config = { ...value, node };
  if (!issues.some(({ path }) => path.length === 0)) issues.push(...checkAcross(config, issues));
  refusals.push(...issues.map((issue) => refusalOf(issue, environment.raw)));
  if (refusals.length > 0) throw new SkosError('SKOS_CONFIG_INVALID', listed(refusals, read.files));
  read.notices.push(...withoutEffect(environment.raw));
  return {
    config: deepFreeze(config),
    mainFile: read.mainFile,
    files: read.files,
    notices: read.notices,
    originOf: (path) => origin(find(environment.raw, path)),
  };
}

// ---- Files ---------------------------------------------------------------------------------------------------------

interface ReadFiles {
  readonly raw: Raw;
  readonly mainFile: string;
  readonly files: string[];
  readonly notices: string[];
}

async function readFiles({ file, env }: LoadOptions): Promise<ReadFiles> {
  const named = file ?? (env.SKOS_CONFIG || undefined);
  const mainFile = named ?? DEFAULT_CONFIG_FILE;
  const notices: string[] = [];
  const dropIns = await dropInsBeside(mainFile, notices);
  const files: string[] = [];
  const refusals: Refusal[] = [];
  let raw: Raw = { kind: 'mapping', at: { file: mainFile, line: 1, column: 1 }, entries: new Map() };
  for (const path of [mainFile, ...dropIns]) {
    const read = await readFileText(path);
    if (read.outcome === 'unreadable') throw new SkosError('SKOS_CONFIG_UNREADABLE', `${path}: ${read.why}`);
    if (read.outcome === 'absent') {
      if (path === mainFile && named === undefined) continue;
      throw new SkosError('SKOS_CONFIG_UNREADABLE', `${path}: there is no such file`);
    }
    files.push(path);
    if (read.othersMayWrite) notices.push(`${path} may be written by anybody on this machine: chmod o-w ${path}`);
    const parsed = parseYaml(path, read.text);
    if ('raw' in parsed) raw = merge(raw, parsed.raw);
    else refusals.push(...parsed.issues.map(({ at, message }) => ({ at, text: message })));
  }
  if (refusals.length > 0) throw new SkosError('SKOS_CONFIG_SYNTAX', listed(refusals, files));
  return { raw, mainFile, files, notices };
}

async function dropInsBeside(mainFile: string, notices: string[]): Promise<string[]> {
  const directory = join(dirname(mainFile), DROP_IN_DIRECTORY);
  const names = (await namesIn(directory)).filter((name) => !name.startsWith('.'));
  for (const name of names.filter((each) => !each.endsWith('.yaml'))) {
    notices.push(`${join(directory, name)} is not read: its name does not end in .yaml`);
  }
  const dropIns = names.filter((name) => name.endsWith('.yaml'));
  if (dropIns.length > MAX_DROP_INS) {
    throw new SkosError('SKOS_CONFIG_UNREADABLE', `${directory}: holds more than ${MAX_DROP_INS} files`);
  }
  // By code unit, as `LC_ALL=C ls` shows them: the order must not depend on a locale.
  return dropIns.sort((a, b) => (a < b ? -1 : 1)).map((name) => join(directory, name));
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw new SkosError('SKOS_CONFIG_UNREADABLE', `${directory}: ${reason(error)}`, { cause: error });
  }
}

// ---- Node name -----------------------------------------------------------------------------------------------------

function nodeNameOf(value: ConfigFile, { hostName }: LoadOptions, notices: string[]): string {
  if (typeof value.node === 'string') return value.node;
  const name = nodeNameFromHost(hostName ?? hostname());
  if (name === 'localhost' || name === 'node') {
    notices.push(`the host name says little, so that this node is called "${name}": set node (or NODE_NAME)`);
  }
  return name;
}

/** First label, lower case; what the schema does not take becomes "-". */
export function nodeNameFromHost(host: string): string {
  const label = host.split('.')[0] ?? '';
  const name = label
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, '-')
    .slice(0, MAX_NODE_NAME_LENGTH)
    .replaceAll(/^[_-]+|[_-]+$/g, '');
  return name === '' ? 'node' : name;
}

function withoutEffect(raw: Raw): string[] {
  return WITHOUT_EFFECT.flatMap(([path, what]) => {
    const { exact, at } = find(raw, path);
    return exact ? [`${placeText(at)}: ${pathText(path)} ${what}`] : [];
  });
}

// ---- Messages ------------------------------------------------------------------------------------------------------

function refusalOf({ path, message, atKey }: Issue, raw: Raw): Refusal {
  const found = find(raw, path);
  // A missing or unknown key is shown at a key: of itself, or of the mapping that lacks it.
  const at = (atKey === true || !found.exact ? found.keyAt : undefined) ?? found.at;
  const key = pathText(path);
  return { at, text: key === '' ? message : `${key}: ${message}` };
}

/** "rules[0].for.samples"; a name that is no plain word is quoted. */
function pathText(path: Path): string {
  return path
    .map((step, i) => {
      if (typeof step === 'number') return `[${step}]`;
      const word = /^[A-Za-z0-9_-]+$/.test(step) ? step : JSON.stringify(step);
      return i === 0 ? word : `.${word}`;
    })
    .join('');
}

/** In the order of the files and lines; the environment comes last, as it is applied. */
function listed(refusals: readonly Refusal[], files: readonly string[]): string {
  const lines = [...refusals]
    .sort(({ at: a }, { at: b }) => {
      const order = fileOrder(a, files) - fileOrder(b, files);
      return order !== 0 || !('file' in a) || !('file' in b) ? order : a.line - b.line || a.column - b.column;
    })
    .map(({ at, text }) => `${placeText(at)}: ${text}`);
  const shown = lines.slice(0, MAX_REPORTED_ISSUES);
  if (lines.length > shown.length) shown.push(`… and ${lines.length - shown.length} more`);
  return shown.join('\n');
}

function fileOrder(at: Place, files: readonly string[]): number {
  return 'file' in at ? files.indexOf(at.file) : files.length;
}

function placeText(at: Place): string {
  return 'variable' in at ? `environment ${at.variable}` : `${at.file}:${at.line}:${at.column}`;
}

function origin({ exact, at }: Found): string {
  if (!exact) return 'default';
  return 'variable' in at ? `environment ${at.variable}` : `${at.file}:${at.line}`;
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const each of Object.values(value)) deepFreeze(each);
  return Object.freeze(value);
}
