/**
 * Plain tables that fit the terminal: columns as wide as they need, one of them shortened when the line would not fit.
 * Cells are plain text; colour is applied after padding, so that it does not count.
 */
export interface Column {
  readonly align?: 'left' | 'right';
  /** Shortened with "…" down to this width when the line does not fit. */
  readonly shrinkTo?: number;
}

export interface Cell {
  readonly text: string;
  readonly paint?: (text: string) => string;
}

export interface TableOptions {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
  readonly width: number;
  readonly indent?: number;
}

const GAP = '  ';

/** One line per row, without trailing blanks. */
export function tableLines({ columns, rows, width, indent = 0 }: TableOptions): string[] {
  const widths = fittedWidths(columns, rows, width - indent);
  return rows.map((row) => {
    const cells = columns.flatMap((column, i) => {
      const each = widths[i] ?? 0;
      return each === 0 ? [] : [padded(row[i] ?? { text: '' }, column, each)]; // An empty column takes no gap either.
    });
    return (' '.repeat(indent) + cells.join(GAP)).trimEnd();
  });
}

function fittedWidths(columns: readonly Column[], rows: TableOptions['rows'], width: number): number[] {
  const widths = columns.map((_, i) => Math.max(0, ...rows.map((row) => visibleLength(row[i]?.text ?? ''))));
  const used = widths.filter((each) => each > 0).length;
  let excess = widths.reduce((sum, each) => sum + each, 0) + GAP.length * Math.max(0, used - 1) - width;
  // The last shrinkable column gives way first: what identifies a row stands at its left.
  for (const [i, { shrinkTo }] of [...columns.entries()].reverse()) {
    const own = widths[i] ?? 0;
    if (excess <= 0 || shrinkTo === undefined || own <= shrinkTo) continue;
    widths[i] = Math.max(shrinkTo, own - excess);
    excess -= own - (widths[i] ?? 0);
  }
  return widths;
}

function padded({ text, paint = (plain) => plain }: Cell, { align = 'left' }: Column, width: number): string {
  const shown = shortened(text, width);
  const blanks = ' '.repeat(Math.max(0, width - visibleLength(shown)));
  return align === 'left' ? paint(shown) + blanks : blanks + paint(shown);
}

export function shortened(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join('')}…`;
}

/** What tells the channels of a device apart stands at the end of their ids. */
export function elided(text: string, width: number): string {
  if (text.length <= width) return text;
  const head = Math.floor((width - 1) / 3);
  return `${text.slice(0, head)}…${text.slice(text.length - (width - 1 - head))}`;
}

/** Colours of format.ts. */
const ESCAPE = String.fromCharCode(27);
const PAINT = new RegExp(`${ESCAPE}\\[\\d+m`, 'g');

/** Code points without colours: every character that we print ourselves is one column wide. */
export function visibleLength(text: string): number {
  return [...text.replaceAll(PAINT, '')].length;
}

export interface WrapOptions {
  readonly width: number;
  readonly indent?: string;
  /** Indent of the second and later lines. */
  readonly hanging?: string;
}

/** Breaks text at blanks; a word longer than a line stands alone and whole, because it is an id to be copied. */
export function wrapped(text: string, { width, indent = '', hanging = indent }: WrapOptions): string[] {
  const lines: string[] = [];
  const margin = () => (lines.length === 0 ? indent : hanging);
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && visibleLength(`${margin()}${line} ${word}`) > width) {
      lines.push(margin() + line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(margin() + line);
  return lines;
}
