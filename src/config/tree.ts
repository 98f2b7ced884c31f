/**
 * The raw configuration with the place of every key and value: what several files and the environment add up to, before
 * the schema sees it. Kept as a tree, so that merging is one recursion and every issue can name its file and line.
 */
import type { Path } from '../core/shape.js';

/** Where something was written. */
export type Place =
  | { readonly file: string; readonly line: number; readonly column: number }
  | { readonly variable: string };

export type Raw =
  | { readonly kind: 'mapping'; readonly at: Place; readonly entries: ReadonlyMap<string, Entry> }
  | { readonly kind: 'list'; readonly at: Place; readonly items: readonly Raw[] }
  | { readonly kind: 'scalar'; readonly at: Place; readonly value: unknown };

export interface Entry {
  /** Place of the key. */
  readonly keyAt: Place;
  readonly raw: Raw;
}

/** Mappings merge, everything else is replaced by what comes later. */
export function merge(earlier: Raw, later: Raw): Raw {
  if (earlier.kind !== 'mapping' || later.kind !== 'mapping') return later;
  const entries = new Map(earlier.entries);
  for (const [key, entry] of later.entries) {
    const before = entries.get(key);
    entries.set(key, before === undefined ? entry : { keyAt: entry.keyAt, raw: merge(before.raw, entry.raw) });
  }
  return { kind: 'mapping', at: later.at, entries };
}

/** Plain data for the schema. Mappings have no prototype, so that a key `__proto__` is a key like any other. */
export function plain(raw: Raw): unknown {
  if (raw.kind === 'scalar') return raw.value;
  if (raw.kind === 'list') return raw.items.map(plain);
  const output: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [key, { raw: value }] of raw.entries) output[key] = plain(value);
  return output;
}

/** A value put at a path as the environment does; what stands in the way stays, and the schema will complain of it. */
export function place(raw: Raw, path: readonly string[], value: Raw): Raw {
  const [key, ...rest] = path;
  if (key === undefined) return merge(raw, value);
  if (raw.kind !== 'mapping') return raw;
  const before = raw.entries.get(key)?.raw ?? { kind: 'mapping', at: value.at, entries: new Map() };
  const entries = new Map(raw.entries);
  entries.set(key, { keyAt: value.at, raw: place(before, rest, value) });
  return { ...raw, entries };
}

export interface Found {
  readonly keyAt?: Place | undefined;
  readonly at: Place;
  /** The whole path was written; otherwise this is the nearest mapping or list around it. */
  readonly exact: boolean;
}

/** Where a path was written, or the nearest thing around it. */
export function find(root: Raw, path: Path): Found {
  let found: Found = { keyAt: undefined, at: root.at, exact: path.length === 0 };
  let raw = root;
  for (const [depth, step] of path.entries()) {
    const child = childOf(raw, step);
    if (child === undefined) break;
    raw = child.raw;
    found = { keyAt: child.keyAt, at: raw.at, exact: depth === path.length - 1 };
  }
  return found;
}

function childOf(raw: Raw, step: string | number): { keyAt?: Place; raw: Raw } | undefined {
  if (raw.kind === 'mapping') return raw.entries.get(String(step));
  const item = raw.kind === 'list' ? raw.items[Number(step)] : undefined;
  return item === undefined ? undefined : { raw: item };
}
