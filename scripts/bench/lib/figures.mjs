/**
 * How every benchmark reports: a table with the limit beside each figure, or with --json one object
 * { name, figures: [{ name, value, unit, limit }] }. A limit of null is a figure that others are compared with.
 */

/** Prints, and returns whether every figure is within its limit. */
export function report(name, figures, { json = process.argv.includes('--json') } = {}) {
  process.stdout.write(json ? `${JSON.stringify({ name, figures })}\n` : table(name, figures));
  return figures.every(isWithin);
}

function isWithin({ value, limit }) {
  return limit === null || value <= limit;
}

function table(name, figures) {
  const rows = figures.map((figure) => [
    figure.name,
    shown(figure.value),
    figure.limit === null ? '' : `<= ${shown(figure.limit)}`,
    figure.unit,
    figure.limit === null ? '' : isWithin(figure) ? 'ok' : 'OVER',
  ]);
  const all = [['figure', 'value', 'limit', 'unit', ''], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const lines = all.map((row) =>
    row
      .map((cell, column) =>
        column === 1 || column === 2 ? cell.padStart(widths[column]) : cell.padEnd(widths[column]),
      )
      .join('  ')
      .trimEnd(),
  );
  return `${name}\n${lines.map((line) => `  ${line}\n`).join('')}`;
}

/** Three significant digits read well beside a limit. */
function shown(value) {
  if (!Number.isFinite(value)) return String(value);
  return Math.abs(value) >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** The middle one; benchmarks on a shared machine are repeated, and means follow the worst disturbance. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
