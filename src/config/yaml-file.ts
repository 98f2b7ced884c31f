/**
 * One configuration file: bounded reading, strict YAML 1.2, every node with its line and column.
 *
 * Stricter than YAML: duplicate keys, keys that are no plain words, unknown tags and more aliases than a person writes are
 * refused, because each of them is a way to mean something else than what one reads.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { reason } from '../core/errors.js';
import type { Entry, Place, Raw } from './tree.js';

/** A hand-written config has a few KiB; beyond this it is the wrong file. */
export const MAX_FILE_BYTES = 1024 * 1024;
/** The schema is six levels deep. Deeper input is not ours, and would exhaust the stack. */
const MAX_DEPTH = 32;
/** Each alias repeats what its anchor holds: this, with MAX_NODES, keeps "a billion laughs" out. */
const MAX_ALIASES = 100;
/** Nodes of one file after aliases are expanded; the largest honest file (256 rules) has some 5,000. */
const MAX_NODES = 50_000;

export interface FileIssue {
  readonly at: Place;
  readonly message: string;
}
export type Parsed = { readonly raw: Raw; readonly issues: readonly [] } | { readonly issues: readonly FileIssue[] };

export type FileText =
  | { readonly outcome: 'text'; readonly text: string; readonly othersMayWrite: boolean }
  | { readonly outcome: 'absent' }
  | { readonly outcome: 'unreadable'; readonly why: string };

/** Never blocks: a FIFO or device in the place of the file is refused. */
export async function readFileText(file: string): Promise<FileText> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    return await textOf(handle);
  } catch (error) {
    return isAbsent(error) ? { outcome: 'absent' } : { outcome: 'unreadable', why: reason(error) };
  } finally {
    await handle?.close();
  }
}

async function textOf(handle: FileHandle): Promise<FileText> {
  const stat = await handle.stat();
  if (!stat.isFile()) return { outcome: 'unreadable', why: 'not a regular file' };
  if (stat.size > MAX_FILE_BYTES) return { outcome: 'unreadable', why: `larger than ${MAX_FILE_BYTES} bytes` };
  const bytes = await handle.readFile();
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return { outcome: 'text', text, othersMayWrite: (stat.mode & 0o002) !== 0 };
  } catch {
    // The decoder's own message says nothing more.
    return { outcome: 'unreadable', why: 'not UTF-8 text' };
  }
}

function isAbsent(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** `file` is only what places are named by. Never throws. */
export function parseYaml(file: string, text: string): Parsed {
  const lines = new LineCounter();
  const placeOf = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  let document: Document.Parsed;
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, version: '1.2' });
  } catch (error) {
    // The parser recurses: some thousand opening brackets exhaust its stack.
    const message = error instanceof RangeError ? 'is nested too deeply' : reason(error);
    return { issues: [{ at: { file, line: 1, column: 1 }, message }] };
  }
  const problems = [...document.errors, ...document.warnings];
  if (problems.length > 0) {
    return { issues: problems.map(({ pos, message }) => ({ at: placeOf(pos[0]), message: oneLine(message) })) };
  }
  return new Conversion(document, placeOf).run(file);
}

function oneLine(message: string): string {
  return message.replaceAll(/\s+/g, ' ').trim();
}

/** Thrown to leave the recursion at once: what exceeds a bound must not be walked to its end. */
class Unusable extends Error {
  constructor(
    message: string,
    readonly at: Place,
  ) {
    super(message);
  }
}

class Conversion {
  private readonly issues: FileIssue[] = [];
  private nodes = 0;
  private aliases = 0;

  constructor(
    private readonly document: Document.Parsed,
    private readonly placeOf: (offset: number) => Place,
  ) {}

  run(file: string): Parsed {
    const start: Place = { file, line: 1, column: 1 };
    try {
      const { contents } = this.document;
      const empty = contents === null || (isScalar(contents) && contents.value === null);
      const raw: Raw = empty ? { kind: 'mapping', at: start, entries: new Map() } : this.convert(contents, start, 0);
      return this.issues.length === 0 ? { raw, issues: [] } : { issues: this.issues };
    } catch (error) {
      if (error instanceof Unusable) return { issues: [...this.issues, { at: error.at, message: error.message }] };
      throw error;
    }
  }

  private convert(node: Node | null, around: Place, depth: number): Raw {
    const at = node?.range ? this.placeOf(node.range[0]) : around;
    this.nodes += 1;
    if (this.nodes > MAX_NODES) throw new Unusable(`holds more than ${MAX_NODES} values`, at);
    if (depth > MAX_DEPTH) throw new Unusable(`is nested more than ${MAX_DEPTH} levels deep`, at);
    if (isAlias(node)) {
      this.aliases += 1;
      if (this.aliases > MAX_ALIASES) throw new Unusable(`uses more than ${MAX_ALIASES} aliases`, at);
      const target = node.resolve(this.document);
      if (target === undefined) throw new Unusable(`*${node.source} names no anchor`, at);
      return this.convert(target, at, depth + 1);
    }
    if (isMap(node)) return { kind: 'mapping', at, entries: this.entries(node.items, at, depth) };
    if (isSeq(node))
      return { kind: 'list', at, items: node.items.map((item) => this.convert(item as Node, at, depth + 1)) };
    return { kind: 'scalar', at, value: isScalar(node) ? node.value : null };
  }

  private entries(items: readonly { key: unknown; value: unknown }[], at: Place, depth: number): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    for (const { key, value } of items) {
      const keyAt = isScalar(key) && key.range ? this.placeOf(key.range[0]) : at;
      if (!isScalar(key) || typeof key.value === 'object') {
        this.issues.push({ at: keyAt, message: 'a key must be one plain word' });
        continue;
      }
      entries.set(String(key.value), { keyAt, raw: this.convert(value as Node | null, keyAt, depth + 1) });
    }
    return entries;
  }
}
