/** `skos actions`: what was done, proposed or not possible, with former → written → read-back value of each target, and what it read after the release. */
import type { ActionEffect, ActionJob, ActionRecord } from '../core/ports.js';
import { type Command, type Io, textOption } from './command.js';
import { EXIT } from './exit-codes.js';
import { clean, type Paint, paint, percentText, spanText } from './format.js';
import { countOption } from './number-option.js';
import { tableLines, wrapped } from './table.js';

export const actions: Command = {
  name: 'actions',
  summary: 'what was done or proposed, and what came of it',
  usage: ['actions [--limit N] [--json]'],
  details:
    'Of each target: cap, then as the kernel writes it: former → written → read back (one value where these agree) → after the release; and the outcome.',
  options: { limit: { type: 'string' }, json: { type: 'boolean' } },
  optionHelp: { limit: 'N: at most so many (default 20)', json: 'a JSON array' },
  examples: [
    ['skos actions', 'The last twenty, newest first.'],
    ['skos actions --json | jq .[0].effects', 'For scripts.'],
  ],

  async run({ values }, { io, agent }) {
    const limit = countOption(textOption(values, 'limit'), 'limit') ?? 20;
    const answer = await (await agent()).request('actions', { limit });
    if (values.json === true) io.out(JSON.stringify(answer, null, 2));
    else io.out(answer.length === 0 ? 'No actions.' : answer.map((action) => actionText(action, io)).join('\n'));
    return EXIT.ok;
  },
};

export function actionText(action: ActionRecord, io: Pick<Io, 'color' | 'columns' | 'wallMs'>): string {
  const colors = paint(io.color);
  const row = [
    { text: action.action, paint: colors.bold },
    { text: action.state, paint: statePaint(action, colors) },
    { text: action.severity },
    { text: timeText(action, io.wallMs()) },
  ];
  return [
    ...tableLines({ columns: [{}, {}, {}, {}], rows: [row], width: io.columns }),
    colors.dim(`  ${clean(action.actionId)}`),
    ...wrapped(`rule ${clean(action.rule)}, ${clean(action.channel)}`, { width: io.columns, indent: '  ' }),
    ...wrapped(clean(action.reason), { width: io.columns, indent: '  ' }),
    ...effectLines(action.effects, io),
    ...jobLines(action.jobs ?? [], io),
  ].join('\n');
}

function statePaint({ state }: ActionRecord, { good, warn, bad, dim }: Paint): (text: string) => string {
  if (['active', 'running', 'verifying'].includes(state)) return warn;
  if (state === 'released' || state === 'helped') return good;
  return ['failed', 'foreign_change', 'unhelpful'].includes(state) ? bad : dim;
}

function timeText({ startedAtMs, endedAtMs }: ActionRecord, now: number): string {
  const began = `${spanText(now - startedAtMs)} ago`;
  return endedAtMs === null ? began : `${began}, lasted ${spanText(endedAtMs - startedAtMs)}`;
}

function jobLines(jobs: readonly ActionJob[], { columns }: Pick<Io, 'columns'>): string[] {
  const rows = jobs.map(({ job, state, exit, summary }) => [
    { text: clean(job) },
    { text: exit === null || exit === 0 ? state : `${state}, exit status ${exit}` },
    { text: clean(summary) },
  ]);
  return tableLines({ columns: [{ shrinkTo: 16 }, {}, { shrinkTo: 16 }], rows, width: columns, indent: 2 });
}

/** Targets that went the same way share a line: a node has a cpufreq policy per CPU. */
function effectLines(effects: readonly ActionEffect[], { columns }: Pick<Io, 'columns'>): string[] {
  const groups = new Map<string, ActionEffect[]>();
  for (const effect of effects) {
    const key = JSON.stringify([
      effect.capPpm,
      effect.outcome,
      effect.former,
      effect.written,
      effect.readBack,
      effect.readAfter,
    ]);
    groups.set(key, [...(groups.get(key) ?? []), effect]);
  }
  const rows = [...groups.values()].map((group) => effectRow(group));
  return tableLines({
    columns: [{ shrinkTo: 20 }, { align: 'right' }, { shrinkTo: 16 }, {}],
    rows,
    width: columns,
    indent: 2,
  });
}

function effectRow([first, ...others]: readonly ActionEffect[]) {
  if (first === undefined) return [];
  const names = others.length === 0 ? first.target : `${first.target} and ${others.length} more`;
  // What was written and what reads back differ only on a discrete knob.
  const steps =
    first.written === first.readBack ? [first.former, first.readBack] : [first.former, first.written, first.readBack];
  const held = steps.map((value) => value ?? '–');
  const values = [...held, ...(first.readAfter === undefined ? [] : [first.readAfter])].map(clean);
  const texts = [clean(names), percentText(first.capPpm), values.join(' → '), clean(first.outcome)];
  return texts.map((text) => ({ text }));
}
