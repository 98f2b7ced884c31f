/**
 * Difference of two line lists, as `diff` shows it: a longest common subsequence over what is left between the common
 * beginning and end. An allow-list has some hundred lines, so that the quadratic table is small.
 */

/** Beyond this many differing lines on either side the middle is shown as replaced as a whole. */
const MAX_TABLE_LINES = 2000;

/** Lines with "- ", "+ " or "  " before them. */
export function lineDiff(before: readonly string[], after: readonly string[]): string[] {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let end = 0;
  while (end < before.length - start && end < after.length - start && before.at(-1 - end) === after.at(-1 - end))
    end += 1;
  const middle = diffMiddle(before.slice(start, before.length - end), after.slice(start, after.length - end));
  const same = (lines: readonly string[]) => lines.map((line) => `  ${line}`);
  return [...same(before.slice(0, start)), ...middle, ...same(before.slice(before.length - end))];
}

function diffMiddle(before: readonly string[], after: readonly string[]): string[] {
  const whole = [...before.map((line) => `- ${line}`), ...after.map((line) => `+ ${line}`)];
  if (before.length > MAX_TABLE_LINES || after.length > MAX_TABLE_LINES) return whole;
  const common = commonLengths(before, after);
  const output: string[] = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      output.push(`  ${before[i]}`);
      i += 1;
      j += 1;
    } else if (j >= after.length || (i < before.length && at(common, i + 1, j) >= at(common, i, j + 1))) {
      output.push(`- ${before[i++]}`);
    } else output.push(`+ ${after[j++]}`);
  }
  return output;
}

/** [i][j]: length of the longest common subsequence of before[i…] and after[j…]. */
function commonLengths(before: readonly string[], after: readonly string[]): readonly Uint16Array[] {
  const table = Array.from({ length: before.length + 1 }, () => new Uint16Array(after.length + 1));
  for (let i = before.length - 1; i >= 0; i--) {
    const row = table[i];
    for (let j = after.length - 1; row !== undefined && j >= 0; j--) {
      row[j] =
        before[i] === after[j] ? at(table, i + 1, j + 1) + 1 : Math.max(at(table, i + 1, j), at(table, i, j + 1));
    }
  }
  return table;
}

function at(table: readonly Uint16Array[], i: number, j: number): number {
  return table[i]?.[j] ?? 0;
}
