/**
 * `skos doctor`: what was found, what was not and why, which other program has a hand on the same things, and for each the next step.
 * It works with a running agent and without one, and changes nothing.
 */
import { Machine } from '../control/machine.js';
import type { Finding, FindingState } from '../sensors/finding.js';
import { FileTree } from '../sensors/tree.js';
import { allowListFile } from './allow-list.js';
import type { Command, Context, Io } from './command.js';
import { agentFindings } from './doctor-agent.js';
import { gpuFindings } from './doctor-gpus.js';
import { look } from './doctor-machine.js';
import { sensorFindings } from './doctor-sensors.js';
import { systemFindings } from './doctor-system.js';
import { EXIT } from './exit-codes.js';
import { clean, paint, plural } from './format.js';
import { wrapped } from './table.js';

/** Area of a check → heading, in this order. */
const SECTIONS: Readonly<Record<string, string>> = {
  agent: 'Agent',
  sensors: 'Sensors',
  gpu: 'GPUs',
  system: 'System',
  controllers: 'Other controllers',
};

const MARKS: Readonly<Record<FindingState, string>> = { ok: '✓', note: '–', problem: '✗' };
const MIN_WIDTH = 40;

export const doctor: Command = {
  name: 'doctor',
  summary: 'what was found, what was not and why, and what to do',
  usage: ['doctor [--json]'],
  details:
    'Works without an agent too; changes nothing. Ends with 0 when nothing essential is missing: notes are worth ' +
    'knowing, problems keep the node from being guarded. Where no temperature is found, lm-sensors is asked (sensors -j).',
  options: { json: { type: 'boolean' } },
  optionHelp: { json: 'a JSON array of {check, state: ok|note|problem, what, next}' },
  examples: [
    ['sudo skos doctor', 'As root it sees what belongs to root.'],
    ['skos doctor --json | jq \'.[] | select(.state == "problem")\'', 'For scripts.'],
  ],

  async run({ values }, context) {
    const findings = await examine(context);
    context.io.out(values.json === true ? JSON.stringify(findings, null, 2) : doctorText(findings, context.io));
    return findings.some(({ state }) => state === 'problem') ? EXIT.problems : EXIT.ok;
  },
};

async function examine(context: Context): Promise<Finding[]> {
  const { env } = context.io;
  const machine = new Machine(env);
  const trees = {
    sysfs: machine.sysfs,
    proc: machine.proc,
    cgroup: machine.cgroup,
    dev: new FileTree(machine.roots.dev),
    root: new FileTree(env.SKOS_HOST_ROOT || '/'),
  };
  const { seen, findings } = await look(context, trees, machine);
  return [
    ...findings,
    ...(await agentFindings(seen, await allowListFile(context, undefined))),
    ...(await sensorFindings(seen, env)),
    ...(await gpuFindings(seen, env)),
    ...(await systemFindings(seen, context.io)),
  ];
}

export function doctorText(findings: readonly Finding[], io: Pick<Io, 'color' | 'columns'>): string {
  const { bold } = paint(io.color);
  const sections = Object.entries(SECTIONS).map(([area, heading]) => {
    const members = findings.filter(({ check }) => check.split('.')[0] === area);
    return members.length === 0 ? [] : [bold(heading), ...members.flatMap((each) => findingLines(each, io))];
  });
  return [...sections.flat(), summary(findings)].join('\n');
}

function findingLines({ state, what, next }: Finding, io: Pick<Io, 'color' | 'columns'>): string[] {
  const { good, dim, bad } = paint(io.color);
  const mark = { ok: good, note: dim, problem: bad }[state](MARKS[state]);
  const width = Math.max(MIN_WIDTH, io.columns);
  const [first = '', ...rest] = wrapped(clean(what), { width, indent: '    ' });
  const step = next === undefined ? [] : wrapped(`next: ${clean(next)}`, { width, indent: '    ', hanging: '      ' });
  return [`  ${mark} ${first.trimStart()}`, ...rest, ...step];
}

function summary(findings: readonly Finding[]): string {
  const count = (wanted: FindingState) => findings.filter(({ state }) => state === wanted).length;
  const problems = count('problem');
  return `${problems === 0 ? 'No problem' : plural(problems, 'problem')}, ${plural(count('note'), 'note')}.`;
}
