/**
 * What the schema cannot see: checks that need more than one key, or the meaning of an action's name.
 *
 * Each check looks at one section and reports issues with the path that an operator has to mend. A section that the
 * schema has already refused is left out, because nothing can be said about values that are not there.
 */
import { actionNames, parseAction } from '../core/action-names.js';
import type { Issue, Path } from '../core/shape.js';
import { suggest } from '../core/suggest.js';
import { BUILT_IN_RULES, SEVERITIES, type Severity } from '../core/vocabulary.js';
import { checkCleanup } from './check-cleanup.js';
import { checkListeners, checkMesh, checkRoutes, checkWireguard } from './check-network.js';
import { cgroupPath, checkUnits } from './check-units.js';
import type { Config, RuleConfig, TargetConfig } from './schema.js';

const LOOP_ACTIONS: readonly string[] = ['circuit_break', 'reset_chain', 'alert_human'];

type Report = (path: Path, message: string) => void;
interface Check {
  /** Top-level keys that it reads. */
  readonly reads: readonly (keyof Config)[];
  readonly run: (config: Config, report: Report) => void;
}

const CHECKS: readonly Check[] = [
  { reads: ['thermal'], run: checkThermal },
  { reads: ['storage'], run: checkStorage },
  { reads: ['storage', 'data_dir', 'hooks'], run: checkCleanup },
  { reads: ['rules'], run: checkRules },
  { reads: ['targets'], run: checkTargets },
  { reads: ['hooks'], run: checkHooks },
  { reads: ['targets', 'hooks', 'workloads'], run: checkUnits },
  { reads: ['repairs'], run: checkRepairs },
  { reads: ['maintenance'], run: checkMaintenance },
  {
    reads: ['thermal', 'storage', 'loop', 'mesh', 'auto_allow', 'rules', 'targets', 'hooks', 'workloads'],
    run: checkActions,
  },
  { reads: ['loop'], run: checkLoop },
  { reads: ['mqtt', 'http', 'mesh'], run: checkListeners },
  { reads: ['mesh', 'node'], run: checkMesh },
  { reads: ['wireguard'], run: checkWireguard },
  { reads: ['routes', 'wireguard', 'mesh'], run: checkRoutes },
];

/** `refused`: issues of the schema. */
export function checkAcross(config: Config, refused: readonly Issue[]): Issue[] {
  const issues: Issue[] = [];
  const bad = new Set(refused.map(({ path }) => path[0]));
  for (const { reads, run } of CHECKS) {
    if (reads.some((section) => bad.has(section))) continue;
    run(config, (path, message) => issues.push({ path, message }));
  }
  return issues;
}

// ---- Bounds --------------------------------------------------------------------------------------------------------

function checkThermal({ thermal }: Config, report: Report): void {
  if (thermal.thresholds !== null) checkAscending(thermal.thresholds, ['thermal', 'thresholds'], report);
}

function checkStorage({ storage }: Config, report: Report): void {
  checkAscending(storage.thresholds, ['storage', 'thresholds'], report);
  const clear = storage.thresholds.warning - storage.hysteresis;
  if (clear <= 0) {
    report(['storage', 'hysteresis'], `puts the clear bound of warning at ${clear} %, which can never be reached`);
  }
}

function checkAscending(thresholds: Readonly<Record<Severity, number>>, path: Path, report: Report): void {
  SEVERITIES.slice(1).forEach((severity, i) => {
    const lower = SEVERITIES[i] ?? 'warning';
    if (thresholds[severity] > thresholds[lower]) return;
    const said = `${thresholds[severity]} is not above ${lower} (${thresholds[lower]})`;
    report([...path, severity], `${said}; expected warning < critical < emergency`);
  });
}

// ---- Rules ---------------------------------------------------------------------------------------------------------

function checkRules({ rules }: Config, report: Report): void {
  const seen = new Map<string, number>();
  rules.forEach((rule, i) => {
    const path = ['rules', i];
    checkRule(rule, path, report);
    const before = seen.get(rule.name);
    if (before !== undefined) report([...path, 'name'], `"${rule.name}" is already the name of rules[${before}]`);
    else seen.set(rule.name, i);
  });
}

function checkRule(rule: RuleConfig, path: Path, report: Report): void {
  // `skos release thermal-cpu` must mean one thing.
  if (BUILT_IN_RULES.some((name) => name === rule.name)) {
    report([...path, 'name'], `"${rule.name}" is the name of a built-in rule; expected another`);
  }
  if (rule.channel === undefined && rule.class === undefined) {
    report(path, 'watches nothing; expected either channel or class');
  }
  if (rule.channel !== undefined && rule.class !== undefined) {
    report([...path, 'class'], 'stands beside channel; expected either channel or class');
  }
  if (rule.clear !== undefined && rule.clear >= rule.raise) {
    report([...path, 'clear'], `${rule.clear} is not inside raise (${rule.raise}); expected a smaller value`);
  }
  if (rule.standing && !rule.actions.some((action) => /^throttle_\d+$/.test(action))) {
    report([...path, 'standing'], 'needs something to hold; expected throttle_N among the actions of the rule');
  }
}

// ---- Targets and actions -------------------------------------------------------------------------------------------

function checkTargets({ targets }: Config, report: Report): void {
  const owners = new Map<string, string>();
  for (const [name, target] of Object.entries(targets)) {
    const path = ['targets', name];
    checkTarget(target, path, report);
    if (target.cgroup === undefined) continue;
    const cgroup = cgroupPath(target.cgroup);
    const owner = owners.get(cgroup);
    // Two names for one limit would each take the other's cap for the former value.
    if (owner !== undefined)
      report([...path, 'cgroup'], `is the same cgroup as targets.${owner}; expected one name for it`);
    else owners.set(cgroup, name);
  }
}

function checkTarget({ cgroup, unit }: TargetConfig, path: Path, report: Report): void {
  if (cgroup === undefined && unit === undefined) report(path, 'names nothing; expected either cgroup or unit');
  if (cgroup !== undefined && unit !== undefined) report([...path, 'unit'], 'stands beside cgroup; expected either');
  if (cgroup === undefined) return;
  const parts = cgroup.split('/').filter((part) => part !== '');
  if (parts.length === 0) report([...path, 'cgroup'], 'is the root of all cgroups; expected one below it');
  if (parts.some((part) => part === '..' || part === '.')) {
    report([...path, 'cgroup'], `"${cgroup}" contains "." or ".."; expected a plain path below the cgroup root`);
  }
}

function checkHooks({ hooks }: Config, report: Report): void {
  for (const name of Object.keys(hooks)) {
    const known = parseAction(name);
    if (typeof known === 'string' || isHookPoint(name)) continue;
    report(['hooks', name], `"${name}" is a built-in action; expected another name`);
  }
}

/** Built-in actions whose doing only the operator can define. */
function isHookPoint(name: string): boolean {
  return name === 'redistribute' || name === 'failover';
}

function checkActions(config: Config, report: Report): void {
  for (const { path, names } of actionLists(config)) {
    names.forEach((name, i) => {
      checkAction(name, config, (message) => report([...path, i], message));
    });
  }
}

function actionLists({ thermal, storage, loop, mesh, auto_allow, rules }: Config) {
  const lists: { path: Path; names: readonly string[] }[] = [{ path: ['auto_allow'], names: auto_allow }];
  for (const [section, { actions }] of Object.entries({ thermal, storage, loop, mesh })) {
    for (const [key, names] of Object.entries(actions)) lists.push({ path: [section, 'actions', key], names });
  }
  rules.forEach(({ actions }, i) => {
    lists.push({ path: ['rules', i, 'actions'], names: actions });
  });
  return lists;
}

function checkAction(text: string, { targets, hooks, workloads }: Config, report: (message: string) => void): void {
  const action = parseAction(text, hooks);
  if (typeof action === 'string') {
    report(`${action}${didYouMean(text, hooks)}`);
    return;
  }
  if (action.target === null) return;
  if (action.verb === 'restart_unit' && Object.hasOwn(workloads, action.target)) return;
  const target = Object.hasOwn(targets, action.target) ? targets[action.target] : undefined;
  if (target === undefined) {
    const close = suggest(action.target, Object.keys(targets));
    const hint = close === undefined ? 'expected an entry of targets' : `did you mean @${close}?`;
    report(`"${text}": there is no target "${action.target}"; ${hint}`);
  } else if (action.verb === 'restart_unit' && target.unit === undefined) {
    report(`"${text}": targets.${action.target} is a cgroup; expected a target with unit`);
  } else if (action.verb === 'restart_unit' && target.unit?.endsWith('.service') === false) {
    report(`"${text}": ${target.unit} cannot be restarted; expected a target whose unit is a .service`);
  }
}

/** Suggests with the number and target that were written: `throtle_50` → `throttle_50`. */
function didYouMean(text: string, hooks: Config['hooks']): string {
  const [, stem = text, digits = '', target = ''] = /^(.*?)(_\d+)?(@.*)?$/.exec(text) ?? [];
  const names = actionNames(hooks).map((name) => name.replace(/_N(?=@|$)/, '').replace('@TARGET', ''));
  const close = suggest(stem, names);
  if (close === undefined || close === stem) return '';
  return `; did you mean ${close}${digits}${target}?`;
}

// ---- Repairs -------------------------------------------------------------------------------------------------------

/** A budget of a day that is used up in an hour is meant otherwise, most often. */
function checkRepairs({ repairs }: Config, report: Report): void {
  const { per_hour: perHour, per_day: perDay, node_per_hour: nodePerHour, node_per_day: nodePerDay } = repairs;
  if (perDay < perHour) report(['repairs', 'per_day'], `${perDay} is less than per_hour (${perHour})`);
  if (nodePerDay < nodePerHour) {
    report(['repairs', 'node_per_day'], `${nodePerDay} is less than node_per_hour (${nodePerHour})`);
  }
}

function checkMaintenance({ maintenance }: Config, report: Report): void {
  maintenance.forEach(({ from, to, day, time, minutes }, i) => {
    const path = ['maintenance', i];
    const single = [from, to].filter((each) => each !== undefined).length;
    const weekly = [day, time, minutes].filter((each) => each !== undefined).length;
    if (!(single === 2 && weekly === 0) && !(single === 0 && weekly === 3)) {
      report(path, 'is no whole window; expected either from and to, or day, time and minutes');
      return;
    }
    if (from === undefined || to === undefined) return;
    // Date.parse() takes the 31st of February for a day in March; a month or an hour that there is not gives NaN.
    if (!isMoment(from)) report([...path, 'from'], `"${from}" is no moment of the calendar`);
    else if (!isMoment(to)) report([...path, 'to'], `"${to}" is no moment of the calendar`);
    else if (Date.parse(to) <= Date.parse(from)) report([...path, 'to'], `"${to}" is not after from ("${from}")`);
  });
}

function isMoment(written: string): boolean {
  const [year = 0, month = 0, day = 0] = written.slice(0, 10).split('-').map(Number);
  const isDay = new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day;
  return isDay && Number.isFinite(Date.parse(written));
}

/** A chain has no device and no unit: what can be done about one is said to its workload, or to people. */
function checkLoop({ loop }: Config, report: Report): void {
  for (const [condition, names] of Object.entries(loop.actions)) {
    names.forEach((name, i) => {
      if (LOOP_ACTIONS.includes(name)) return;
      report(
        ['loop', 'actions', condition, i],
        `"${name}" does nothing to a chain; expected ${LOOP_ACTIONS.join(', ')}`,
      );
    });
  }
}
