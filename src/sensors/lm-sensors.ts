/**
 * lm-sensors' own configuration: sensors3.conf and sensors.d, which operators already have.
 *
 * It says how a board wires its chips: label names an input, compute scales it, ignore hides what is not connected. set
 * writes limits into the chip and is not ours to do. Statements hold for the chips of the last `chip` line; of several
 * that fit, the last one counts. Grammar and meaning: sensors.conf(5), libsensors' conf-lex.l and conf-parse.y.
 *
 * A compute expression is folded into multiplier and offset, because the native sampler scales that way; an expression
 * that is not affine in `@` (it refers to another feature, or takes a logarithm) leaves the channel raw and is reported.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ErrorCode } from '../core/errors.js';
import type { ChipName, FeatureConf, SensorsConf } from '../core/ports.js';

/** Debian's own file has 11 kB; more is no configuration. */
const MAX_FILE_BYTES = 1024 * 1024;
const MAX_FILES = 256;
/** Nesting of parentheses: deeper expressions are nothing a person writes, and recursion must end. */
const MAX_DEPTH = 64;

const CODE: ErrorCode = 'SKOS_SENSORS_CONF';

export interface ConfIssue {
  readonly code: ErrorCode;
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

type Statement =
  | { readonly kind: 'label'; readonly feature: string; readonly label: string }
  | { readonly kind: 'ignore'; readonly feature: string }
  | { readonly kind: 'compute'; readonly feature: string; readonly result: Affine | string };

interface ChipSection {
  readonly patterns: readonly ChipPattern[];
  readonly statements: Statement[];
}

interface ChipPattern {
  /** undefined: any. */
  readonly prefix?: string;
  readonly bus?: string;
  readonly busNumber?: number;
  readonly address?: number;
}

/** value = multiplier × @ + offset. */
interface Affine {
  readonly multiplier: number;
  readonly offset: number;
}

export class LmSensorsConf implements SensorsConf {
  readonly issues: ConfIssue[] = [];
  readonly #sections: ChipSection[] = [];
  /** Adapter names that `bus` statements bind to bus numbers of the file. */
  readonly #adapters = new Map<number, string>();
  /** What the lines being parsed belong to; statements before the first chip line of a file concern no chip. */
  #section: ChipSection | undefined;

  /** Files in the order in which they count: later ones override earlier ones. */
  constructor(files: readonly { readonly name: string; readonly text: string }[]) {
    for (const { name, text } of files) this.#parseFile(name, text);
  }

  feature(chip: ChipName, feature: string): FeatureConf {
    let ignored = false;
    let label: string | undefined;
    let compute: Affine | string | undefined;
    for (const { patterns, statements } of this.#sections) {
      if (!patterns.some((pattern) => this.#matches(pattern, chip))) continue;
      for (const statement of statements) {
        if (statement.feature !== feature) continue;
        if (statement.kind === 'ignore') ignored = true;
        else if (statement.kind === 'label') label = statement.label;
        else compute = statement.result;
      }
    }
    return {
      ignored,
      ...(label === undefined ? {} : { label }),
      ...(compute === undefined ? {} : typeof compute === 'string' ? { notComputed: compute } : { compute }),
    };
  }

  #matches(pattern: ChipPattern, chip: ChipName): boolean {
    if (pattern.prefix !== undefined && pattern.prefix !== chip.prefix) return false;
    if (pattern.bus !== undefined && pattern.bus !== chip.bus) return false;
    if (pattern.address !== undefined && pattern.address !== chip.address) return false;
    return pattern.busNumber === undefined || this.#isBus(pattern.busNumber, chip);
  }

  /** The number of an I²C bus changes from boot to boot: where a bus statement gives the adapter's name, that counts. */
  #isBus(number: number, chip: ChipName): boolean {
    const adapter = chip.bus === 'i2c' ? this.#adapters.get(number) : undefined;
    return adapter === undefined ? number === chip.busNumber : adapter === chip.adapter;
  }

  #parseFile(file: string, text: string): void {
    this.#section = undefined;
    for (const { line, content } of logicalLines(text)) {
      try {
        this.#parseLine(content);
      } catch (error) {
        if (!(error instanceof ConfSyntaxError)) throw error;
        this.issues.push({ code: CODE, file, line, message: error.message });
      }
    }
  }

  #parseLine(content: string): void {
    if (content.trim() === '') return;
    const keyword = /^\s*([a-z]+)/.exec(content)?.[1] ?? '';
    const parser = new LineParser(content.slice(content.indexOf(keyword) + keyword.length));
    if (keyword === 'chip') this.#addSection(parser);
    else if (keyword === 'bus') this.#addBus(parser);
    else this.#addStatement(keyword, parser);
  }

  #addStatement(keyword: string, parser: LineParser): void {
    const statement = parseStatement(keyword, parser);
    if (this.#section === undefined) throw new ConfSyntaxError(`${keyword} before the first chip line`);
    if (statement !== undefined) this.#section.statements.push(statement);
  }

  #addSection(parser: LineParser): void {
    // Entered before its patterns are checked: the statements behind a bad chip line must not fall to the chip before.
    const patterns: ChipPattern[] = [];
    this.#section = { patterns, statements: [] };
    this.#sections.push(this.#section);
    do patterns.push(parseChipPattern(parser.name()));
    while (!parser.atEnd());
  }

  #addBus(parser: LineParser): void {
    const bus = /^i2c-(\d{1,3})$/.exec(parser.name());
    if (bus === null) throw new ConfSyntaxError('a bus is named "i2c-N"');
    this.#adapters.set(Number(bus[1]), parser.name());
    // lm-sensors 2 wrote the algorithm's name as a third word.
    if (!parser.atEnd()) parser.name();
    parser.end();
  }
}

/**
 * Reads sensors3.conf (or, as libsensors does, sensors.conf where that is absent) and sensors.d below `root`, which is
 * /etc. Absent files are no issue; a file that cannot be read is.
 */
export async function loadSensorsConf({ root = '/etc' }: { root?: string } = {}): Promise<LmSensorsConf> {
  const unread: ConfIssue[] = [];
  const files: { name: string; text: string }[] = [];
  const take = async (name: string): Promise<boolean> => {
    try {
      const content = await readFile(join(root, name));
      if (content.length > MAX_FILE_BYTES) throw new Error(`is larger than ${MAX_FILE_BYTES} bytes`);
      files.push({ name: join(root, name), text: content.toString('utf8') });
      return true;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return false;
      unread.push({ code: CODE, file: join(root, name), line: 0, message: `cannot be read: ${message}` });
      return true;
    }
  };
  if (!(await take('sensors3.conf'))) await take('sensors.conf');
  const extra = await readdir(join(root, 'sensors.d'), { withFileTypes: true }).catch(() => []);
  const names = extra.filter((entry) => !entry.name.startsWith('.') && !entry.isDirectory()).map(({ name }) => name);
  for (const name of names.sort().slice(0, MAX_FILES)) await take(join('sensors.d', name));
  const conf = new LmSensorsConf(files);
  conf.issues.unshift(...unread);
  return conf;
}

class ConfSyntaxError extends Error {}

/** Lines with their numbers; a backslash at the end joins the next one (not in a comment), which is blanked out here. */
function logicalLines(text: string): { line: number; content: string }[] {
  const lines: { line: number; content: string }[] = [];
  let pending: { line: number; content: string } | undefined;
  text.split('\n').forEach((raw, i) => {
    const content = withoutComment(raw.replace(/\r$/, ''));
    const current = pending ?? { line: i + 1, content: '' };
    const continued = content === raw.replace(/\r$/, '') && /\\\s*$/.test(content);
    current.content += continued ? content.replace(/\\\s*$/, ' ') : content;
    pending = continued ? current : undefined;
    if (!continued) lines.push(current);
  });
  if (pending !== undefined) lines.push(pending);
  return lines;
}

/** Up to the first `#` that is not within quotes. */
function withoutComment(line: string): string {
  const match = /^(?:[^"#\\]+|\\.|\\$|"(?:[^"\\]|\\.)*"?)*/.exec(line);
  return match?.[0] ?? line;
}

function parseStatement(keyword: string, parser: LineParser): Statement | undefined {
  switch (keyword) {
    case 'label': {
      const [feature, label] = [parser.name(), parser.name()];
      parser.end();
      return { kind: 'label', feature, label };
    }
    case 'ignore': {
      const feature = parser.name();
      parser.end();
      return { kind: 'ignore', feature };
    }
    case 'compute': {
      const feature = parser.name();
      const result = dependent(parser.expression());
      parser.symbol(',');
      parser.expression(); // From the real value back to the raw one: only `set` needs it.
      parser.end();
      return { kind: 'compute', feature, result };
    }
    case 'set':
      parser.name();
      parser.expression();
      parser.end();
      return undefined;
    default:
      throw new ConfSyntaxError(keyword === '' ? 'no keyword' : `unknown keyword "${keyword}"`);
  }
}

const BUSES_WITH_NUMBER = new Set(['i2c', 'spi', 'hid', 'scsi']);
const BUSES_WITHOUT_NUMBER = new Set(['isa', 'pci', 'virtual', 'acpi', 'mdio']);

/** prefix-bus-address, each part may be "*"; a prefix may hold dashes itself, so that it is read from the end. */
function parseChipPattern(text: string): ChipPattern {
  if (text === '*') return {};
  const parts = text.split('-');
  if (parts.length < 2) throw new ConfSyntaxError(`"${text}" is no chip name such as "lm78-*" or "lm78-isa-0290"`);
  const address = parts.pop() ?? '';
  const addressPart = address === '*' ? {} : { address: hexadecimal(address, text) };
  const bus = parts.at(-1) ?? '';
  if (parts.length >= 2 && BUSES_WITHOUT_NUMBER.has(bus)) {
    return { ...prefixPart(parts.slice(0, -1)), bus, ...addressPart };
  }
  const numbered = parts.at(-2) ?? '';
  if (parts.length >= 3 && BUSES_WITH_NUMBER.has(numbered)) {
    const numberPart = bus === '*' ? {} : { busNumber: decimal(bus, text) };
    return { ...prefixPart(parts.slice(0, -2)), bus: numbered, ...numberPart, ...addressPart };
  }
  if (address !== '*') throw new ConfSyntaxError(`"${text}" has an address but no known bus`);
  return prefixPart(parts);
}

function prefixPart(parts: readonly string[]): { prefix?: string } {
  const prefix = parts.join('-');
  return prefix === '*' ? {} : { prefix };
}

function hexadecimal(digits: string, where: string): number {
  if (!/^[0-9a-fA-F]{1,8}$/.test(digits))
    throw new ConfSyntaxError(`"${where}": "${digits}" is no hexadecimal address`);
  return Number.parseInt(digits, 16);
}

function decimal(digits: string, where: string): number {
  if (!/^\d{1,5}$/.test(digits)) throw new ConfSyntaxError(`"${where}": "${digits}" is no bus number`);
  return Number(digits);
}

const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/** Reads the rest of one line, left to right. */
class LineParser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  atEnd(): boolean {
    this.#skipBlanks();
    return this.#at >= this.#text.length;
  }

  end(): void {
    if (!this.atEnd()) throw new ConfSyntaxError(`"${this.#text.slice(this.#at)}" is too much on this line`);
  }

  symbol(character: string): void {
    if (!this.#accept(character)) throw new ConfSyntaxError(`expected "${character}"`);
  }

  /** A word of letters, digits and underscores, or a quoted string. */
  name(): string {
    const quoted = this.#match(/"((?:[^"\\]|\\.)*)"/y);
    if (quoted !== undefined) return (quoted[1] ?? '').replace(/\\(.)/g, (_, c: string) => ESCAPES[c] ?? c);
    const word = this.#match(/\w+/y);
    if (word === undefined) throw new ConfSyntaxError('expected a name, or a string in double quotes');
    return word[0];
  }

  /** Folded; a sentence when the expression is well-formed but not affine in "@". */
  expression(): Affine | string {
    let left = this.#term();
    for (;;) {
      if (this.#accept('+')) left = combine(left, this.#term(), add);
      else if (this.#accept('-')) left = combine(left, scale(this.#term(), -1), add);
      else return left;
    }
  }

  #term(): Affine | string {
    let left = this.#factor();
    for (;;) {
      if (this.#accept('*')) left = combine(left, this.#factor(), multiply);
      else if (this.#accept('/')) left = combine(left, this.#factor(), divide);
      else return left;
    }
  }

  #factor(): Affine | string {
    if (++this.#depth > MAX_DEPTH) throw new ConfSyntaxError('the expression is nested too deeply');
    try {
      return this.#primary();
    } finally {
      this.#depth--;
    }
  }

  #primary(): Affine | string {
    if (this.#accept('-')) return scale(this.#factor(), -1);
    // e to the power of, and the natural logarithm.
    if (this.#accept('^')) return onConstant(this.#factor(), Math.exp);
    if (this.#accept('`')) return onConstant(this.#factor(), Math.log);
    if (this.#accept('@')) return { multiplier: 1, offset: 0 };
    if (this.#accept('(')) {
      const inner = this.expression();
      this.symbol(')');
      return inner;
    }
    const number = this.#match(/(?:\d*\.)?\d+(?![\w.])/y);
    if (number !== undefined) return { multiplier: 0, offset: Number(number[0]) };
    if (/\d/.test(this.#text[this.#at] ?? '')) throw new ConfSyntaxError('expected a number such as 10, 10.4 or .4');
    return `it refers to another feature, ${this.name()}`;
  }

  #accept(character: string): boolean {
    this.#skipBlanks();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    this.#skipBlanks();
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match;
  }

  #skipBlanks(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
  }
}

type Operation = (a: Affine, b: Affine) => Affine | string;

/** A part that is not affine spoils the whole; the first reason is kept. */
function combine(a: Affine | string, b: Affine | string, operation: Operation): Affine | string {
  if (typeof a === 'string') return a;
  if (typeof b === 'string') return b;
  return operation(a, b);
}

function add(a: Affine, b: Affine): Affine {
  return { multiplier: a.multiplier + b.multiplier, offset: a.offset + b.offset };
}

function scale(a: Affine | string, by: number): Affine | string {
  return typeof a === 'string' ? a : { multiplier: a.multiplier * by, offset: a.offset * by };
}

function multiply(a: Affine, b: Affine): Affine | string {
  if (a.multiplier === 0) return scale(b, a.offset);
  if (b.multiplier === 0) return scale(a, b.offset);
  return 'it multiplies "@" by itself';
}

function divide(a: Affine, b: Affine): Affine | string {
  if (b.multiplier !== 0) return 'it divides by "@"';
  return b.offset === 0 ? 'it divides by zero' : scale(a, 1 / b.offset);
}

/** A constant would be shown for a sensor that is broken or gone: it is not a reading. */
function dependent(result: Affine | string): Affine | string {
  return typeof result !== 'string' && result.multiplier === 0 ? 'it does not depend on "@"' : result;
}

function onConstant(a: Affine | string, f: (x: number) => number): Affine | string {
  if (typeof a === 'string') return a;
  if (a.multiplier !== 0) return 'it takes a logarithm or a power of "@"';
  const value = f(a.offset);
  return Number.isFinite(value) ? { multiplier: 0, offset: value } : 'it is not a finite number';
}
