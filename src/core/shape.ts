/**
 * Shapes: strict, typed checks of data that comes from outside (config, socket messages, MQTT payloads).
 *
 * Written here rather than taken from a validation library because those cost 6.5–9 MB of resident memory, and because
 * a config error must name its line: every issue carries the path of keys, from which config/ finds the line.
 * A shape never coerces, except that an absent key takes its default. Unknown keys are issues with "did you mean".
 */
import { suggest } from './suggest.js';

export type Path = readonly (string | number)[];

export interface Issue {
  readonly path: Path;
  /** What is wrong and what was expected. */
  readonly message: string;
  /** The key itself is at fault (unknown), not its value: the line is the key's. */
  readonly atKey?: boolean;
}

export interface Shape<T> {
  /** What this accepts, in words for people: "an integer from 1 to 65535". */
  readonly expected: string;
  /** Returns the value; reports to `issues` what is wrong (the returned value is then not to be used). */
  check(input: unknown, path: Path, issues: Issue[]): T;
  /** For an absent key; undefined means that the key is required. */
  readonly fallback?: () => T;
  /** A sentence for `skos config explain`. */
  readonly doc?: string;
  /** The members of an object shape, for `skos config explain`. */
  readonly members?: Readonly<Record<string, Shape<unknown>>>;
  /** The shape of each value of a record or list. */
  readonly element?: Shape<unknown>;
}

export type Infer<S> = S extends Shape<infer T> ? T : never;

/** Largest piece of a wrong value that a message repeats. */
const MAX_SHOWN_LENGTH = 60;

function shown(input: unknown): string {
  const text = input === undefined ? 'nothing' : (JSON.stringify(input, bigIntAsText) ?? String(input));
  return text.length > MAX_SHOWN_LENGTH ? `${text.slice(0, MAX_SHOWN_LENGTH)}…` : text;
}

/** JSON knows no bigint and would throw. */
function bigIntAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}

function leaf<T>(expected: string, accepts: (input: unknown) => input is T): Shape<T> {
  return {
    expected,
    check(input, path, issues) {
      if (!accepts(input)) issues.push({ path, message: `${shown(input)} is not ${expected}` });
      return input as T;
    },
  };
}

export interface NumberBounds {
  readonly min?: number;
  readonly max?: number;
  readonly integer?: boolean;
}

export function number({ min = -Infinity, max = Infinity, integer = false }: NumberBounds = {}): Shape<number> {
  const noun = integer ? 'an integer' : 'a number';
  const bounds =
    min === -Infinity && max === Infinity
      ? noun
      : max === Infinity
        ? `${noun}, at least ${min}`
        : min === -Infinity
          ? `${noun}, at most ${max}`
          : `${noun} from ${min} to ${max}`;
  return leaf(
    bounds,
    (input): input is number =>
      typeof input === 'number' &&
      Number.isFinite(input) &&
      input >= min &&
      input <= max &&
      (!integer || Number.isInteger(input)),
  );
}

export function string({ pattern, expected, max = 4096 }: { pattern?: RegExp; expected?: string; max?: number } = {}) {
  return leaf(
    expected ?? 'a string',
    (input): input is string =>
      typeof input === 'string' && input.length <= max && (pattern === undefined || pattern.test(input)),
  );
}

export const boolean: Shape<boolean> = leaf('true or false', (input): input is boolean => typeof input === 'boolean');

export const anything: Shape<unknown> = leaf('anything', (input): input is unknown => input !== undefined);

export function oneOf<const T extends string>(...words: readonly T[]): Shape<T> {
  const expected = `one of ${words.join(', ')}`;
  return {
    expected,
    check(input, path, issues) {
      if (typeof input !== 'string' || !words.includes(input as T)) {
        const close = typeof input === 'string' ? suggest(input, words) : undefined;
        const hint = close === undefined ? '' : `; did you mean ${close}?`;
        issues.push({ path, message: `${shown(input)} is not ${expected}${hint}` });
      }
      return input as T;
    },
  };
}

export function nullable<T>(inner: Shape<T>): Shape<T | null> {
  return {
    ...inner,
    expected: `${inner.expected}, or null`,
    check: (input, path, issues) => (input === null ? null : inner.check(input, path, issues)),
    ...(inner.fallback === undefined ? {} : { fallback: inner.fallback }),
  } as Shape<T | null>;
}

export function list<T>(element: Shape<T>, { max = 1000 }: { max?: number } = {}): Shape<readonly T[]> {
  return {
    expected: `a list of ${element.expected}`,
    element,
    check(input, path, issues) {
      if (!Array.isArray(input) || input.length > max) {
        issues.push({ path, message: `${shown(input)} is not a list of at most ${max} of ${element.expected}` });
        return [];
      }
      return input.map((each, index) => element.check(each, [...path, index], issues));
    },
  };
}

export function record<T>(element: Shape<T>, { key = /^[^\0]{1,256}$/, keyExpected = 'a name', max = 1000 } = {}) {
  const shape: Shape<Readonly<Record<string, T>>> = {
    expected: `a mapping of names to ${element.expected}`,
    element,
    check(input, path, issues) {
      if (!isObject(input)) {
        issues.push({ path, message: `${shown(input)} is not a mapping` });
        return {};
      }
      const size = Object.keys(input).length;
      if (size > max) issues.push({ path, message: `has ${size} entries; expected at most ${max}` });
      const output: Record<string, T> = Object.create(null) as Record<string, T>;
      for (const [name, value] of Object.entries(input)) {
        if (!key.test(name))
          issues.push({ path: [...path, name], message: `${shown(name)} is not ${keyExpected}`, atKey: true });
        output[name] = element.check(value, [...path, name], issues);
      }
      return output;
    },
  };
  return shape;
}

type Members = Readonly<Record<string, Shape<unknown>>>;
type ObjectOf<M extends Members> = { readonly [K in keyof M]: Infer<M[K]> };

/**
 * A mapping with exactly these keys. An absent key takes its shape's fallback; without one it is required.
 * `open` lets unknown keys pass unseen: for payloads to which newer versions may add fields.
 */
export function object<M extends Members>(members: M, { open = false }: { open?: boolean } = {}): Shape<ObjectOf<M>> {
  const names = Object.keys(members);
  return {
    expected: `a mapping with ${names.join(', ')}`,
    members,
    check(input, path, issues) {
      if (!isObject(input)) {
        issues.push({ path, message: `${shown(input)} is not a mapping` });
        return {} as ObjectOf<M>;
      }
      if (!open) reportUnknownKeys(input, { names, path, issues });
      const output: Record<string, unknown> = {};
      for (const name of names) {
        const shape = members[name] as Shape<unknown>;
        const value = Object.hasOwn(input, name) ? input[name] : undefined;
        if (value !== undefined) output[name] = shape.check(value, [...path, name], issues);
        else if (shape.fallback !== undefined) output[name] = shape.fallback();
        else issues.push({ path: [...path, name], message: `is missing; expected ${shape.expected}` });
      }
      return output as ObjectOf<M>;
    },
  };
}

function reportUnknownKeys(
  input: Record<string, unknown>,
  { names, path, issues }: { names: readonly string[]; path: Path; issues: Issue[] },
): void {
  for (const key of Object.keys(input)) {
    if (names.includes(key)) continue;
    const close = suggest(key, names);
    const hint = close === undefined ? `known keys: ${names.join(', ')}` : `did you mean ${close}?`;
    issues.push({ path: [...path, key], message: `unknown key ${shown(key)}; ${hint}`, atKey: true });
  }
}

function isObject(input: unknown): input is Record<string, unknown> {
  return typeof input === 'object' && input !== null && !Array.isArray(input);
}

/** The default for an absent key, and optionally a sentence for `skos config explain`. */
export function withDefault<T>(shape: Shape<T>, fallback: T, doc?: string): Shape<T> {
  return { ...shape, fallback: () => structuredClone(fallback), ...(doc === undefined ? {} : { doc }) };
}

/** An object whose members all have defaults: absent, it is made of them. */
export function section<M extends Members>(members: M, doc?: string): Shape<ObjectOf<M>> {
  const shape = object(members);
  return { ...shape, fallback: () => shape.check({}, [], []), ...(doc === undefined ? {} : { doc }) };
}

/** An optional member: absent stays undefined. */
export function optional<T>(shape: Shape<T>): Shape<T | undefined> {
  return { ...shape, fallback: () => undefined } as Shape<T | undefined>;
}

/** The same shape with a sentence for `skos config explain`; where there is no default to state. */
export function described<T>(shape: Shape<T>, doc: string): Shape<T> {
  return { ...shape, doc };
}

/** Checks and returns the value, or the issues. */
export function parse<T>(
  shape: Shape<T>,
  input: unknown,
): { value: T; issues: [] } | { value?: never; issues: Issue[] } {
  const issues: Issue[] = [];
  const value = shape.check(input, [], issues);
  return issues.length === 0 ? { value, issues: [] } : { issues };
}
