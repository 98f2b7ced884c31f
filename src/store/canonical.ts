/**
 * Canonical JSON: one text for one value, so that a hash over it means something. It is the JSON Canonicalization
 * Scheme (RFC 8785): members sorted by their names' UTF-16 code units, no white space, numbers and strings as
 * ECMAScript writes them, UTF-8 when it becomes bytes. Only null, booleans, finite numbers, strings, arrays and plain
 * objects have a form; members that are undefined are left out, as in JSON.stringify.
 */

/** Deeper than anything that is recorded; it also ends a cycle. */
const MAX_DEPTH = 32;

/** Throws TypeError for what has no canonical form. */
export function canonicalJson(value: unknown, depth = 0): string {
  if (depth > MAX_DEPTH) throw new TypeError(`nested deeper than ${MAX_DEPTH}, or cyclic`);
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new TypeError(`${value} is not a finite number`);
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((each) => canonicalJson(each, depth + 1)).join(',')}]`;
  if (isPlainObject(value)) return canonicalObject(value, depth);
  throw new TypeError(`${typeof value} has no JSON form`);
}

function canonicalObject(value: Record<string, unknown>, depth: number): string {
  const members: string[] = [];
  for (const name of Object.keys(value).sort()) {
    const member = value[name];
    if (member !== undefined) members.push(`${JSON.stringify(name)}:${canonicalJson(member, depth + 1)}`);
  }
  return `{${members.join(',')}}`;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
