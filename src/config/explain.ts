/**
 * What `skos config explain` prints: every key with what it takes, its default, the value in force and where that was
 * written. Made from the schema itself, so that it cannot disagree with what is accepted.
 */
import { SkosError } from '../core/errors.js';
import type { Path, Shape } from '../core/shape.js';
import { suggest } from '../core/suggest.js';
import type { LoadedConfig } from './load.js';
import { configShape } from './schema.js';

export interface ExplainedKey {
  /** "thermal.keep"; "rules[].raise" and "targets.NAME.unit" stand for every entry. */
  readonly key: string;
  readonly doc: string;
  /** It only holds other keys. */
  readonly section: boolean;
  /** What it takes, in words. */
  readonly expected: string;
  /** As JSON; undefined: the key is required where its entry is written, or stays absent. */
  readonly default?: string;
  /** As JSON; undefined for keys of entries, which have no value of their own. */
  readonly value?: string;
  /** "FILE:LINE", "environment NAME" or "default". */
  readonly origin?: string;
}

/** The keys of a section, or one key; all without `key`. SKOS_CLI_USAGE with "did you mean" when there is none. */
export function explainConfig(loaded: LoadedConfig, key?: string): ExplainedKey[] {
  const all: ExplainedKey[] = [];
  walk(configShape, { path: [], key: '', value: loaded.config }, loaded, all);
  if (key === undefined) return all;
  const keys = new Set(all.map((each) => each.key));
  const wanted = generalKey(key, keys);
  const found = all.filter((each) => isAtOrBelow(each.key, wanted));
  if (found.length > 0) return found;
  const close = suggest(wanted, [...keys]);
  const hint = close === undefined ? 'see `skos config explain` for all keys' : `did you mean ${close}?`;
  throw new SkosError('SKOS_CLI_USAGE', `there is no key "${key}"; ${hint}`);
}

interface Spot {
  readonly path: Path;
  readonly key: string;
  /** Its value in force; undefined for what stands for every entry of a list or mapping. */
  readonly value: unknown;
}

function walk(shape: Shape<unknown>, spot: Spot, loaded: LoadedConfig, output: ExplainedKey[]): void {
  if (spot.key !== '') output.push(explained(shape, spot, loaded));
  for (const [name, member] of Object.entries(shape.members ?? {})) {
    walk(member, memberSpot(spot, name), loaded, output);
  }
  const entry = Array.isArray(shape.fallback?.()) ? '[]' : '.NAME';
  for (const [name, member] of Object.entries(shape.element?.members ?? {})) {
    walk(member, { path: [], key: `${spot.key}${entry}.${name}`, value: undefined }, loaded, output);
  }
}

function memberSpot({ path, key, value }: Spot, name: string): Spot {
  const own = isMapping(value) ? value[name] : undefined;
  return { path: [...path, name], key: key === '' ? name : `${key}.${name}`, value: own };
}

function explained(shape: Shape<unknown>, { path, key, value }: Spot, loaded: LoadedConfig): ExplainedKey {
  const doc = shape.doc ?? '';
  const fallback = shape.fallback?.();
  // A section has no value of its own: its members have.
  if (shape.members !== undefined && isMapping(fallback)) return { key, doc, section: true, expected: 'a section' };
  return {
    key,
    doc,
    section: false,
    expected: shape.expected,
    ...(fallback === undefined ? {} : { default: JSON.stringify(fallback) }),
    ...(value === undefined ? {} : { value: JSON.stringify(value), origin: loaded.originOf(path) }),
  };
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** "targets.demo.cgroup" → "targets.NAME.cgroup", "rules[0].raise" → "rules[].raise": as the keys are listed. */
function generalKey(key: string, keys: ReadonlySet<string>): string {
  const general = key.replaceAll(/\[\d*\]/g, '[]');
  if (keys.has(general)) return general;
  const words = general.split('.');
  for (const i of words.keys()) {
    const candidate = words.with(i, 'NAME').join('.');
    if (i > 0 && keys.has(candidate)) return candidate;
  }
  return general;
}

function isAtOrBelow(key: string, wanted: string): boolean {
  return key === wanted || key.startsWith(`${wanted}.`) || key.startsWith(`${wanted}[]`);
}
