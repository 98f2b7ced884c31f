/**
 * failover_route: `route add NAME` adds a route of the configuration, `route remove NAME` takes away what was added, and nothing
 * else. The unit skos-act-route@NAME runs the first when it starts and the second when it stops, which is the end of the lease.
 *
 * The routes that are there stay: the new one goes before them by its lesser metric, so that its removal leaves exactly what was. It
 * bears a protocol number of its own, by which it is told from every other. What shall be added is noted before it is, so that a run
 * that was killed in between is undone as well; what somebody has changed since is theirs, and left alone.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RouteConfig } from '../config/schema.js';
import { readIfThere, writeAtomically } from '../core/atomic-file.js';
import { SkosError } from '../core/errors.js';
import type { Act, ActContext, Outcome } from './act.js';
import { type RunCommand, said } from './command.js';

const DIRECTORY = '/run/skos-act-route';
/** Of rtm_protocol, where all above RTPROT_STATIC (4) are for programs to choose; no routing daemon has this one. */
const PROTOCOL = 119;
const TIMEOUT_MS = 5_000;

/** As `ip` takes it, in words of its own. */
interface Spec {
  readonly family: '-4' | '-6';
  readonly destination: string;
  readonly hop: readonly string[];
  readonly metric: number;
  readonly table: number;
}

interface Found {
  readonly metric: number;
  readonly protocol: string;
  readonly via: string | undefined;
  readonly dev: string | undefined;
}

export const route: Act = {
  // The lease has its own record: no report is waited for.
  reportName: () => null,

  async run(context: ActContext): Promise<Outcome> {
    const [verb, name = ''] = context.args;
    if (!/^[a-z0-9][a-z0-9_-]{0,31}$/.test(name))
      throw new SkosError('SKOS_ACT_ARGUMENT', `"${name}" is no name of a route`);
    if (verb === 'add') return add(name, context);
    if (verb === 'remove') return remove(name, context);
    throw new SkosError('SKOS_ACT_ARGUMENT', `"${verb}" is neither add nor remove`);
  },
};

async function add(name: string, context: ActContext): Promise<Outcome> {
  const { routes } = await context.config();
  const config = Object.hasOwn(routes, name) ? routes[name] : undefined;
  if (config === undefined) throw new SkosError('SKOS_ACT_ARGUMENT', `there is no route ${name}`);
  const undone = await remove(name, context); // Of a run that was not ended, perhaps by another configuration.
  if (!undone.ok) return undone;
  const spec = specOf(config);
  const words = wordsOf(spec);
  const what = words.join(' ');
  const refusal = refusalOf(spec, await routesTo(spec, context.run));
  if (refusal !== undefined)
    throw new SkosError('SKOS_ACT_REFUSED', `route ${name} (${what}) was not added: ${refusal}`);
  const state = stateFile(name, context.env);
  await mkdir(directoryOf(context.env), { recursive: true, mode: 0o700 });
  await writeAtomically(state, JSON.stringify(spec), 0o600);
  const result = await context.run('ip', [spec.family, 'route', 'add', ...words], { timeoutMs: TIMEOUT_MS });
  if (result.status === 0) return { ok: true, summary: `added the route ${name}: ${what}` };
  await rm(state, { force: true });
  return { ok: false, summary: `the route ${name} (${what}) was not added: ${said('ip', result)}` };
}

async function remove(name: string, { run, env }: ActContext): Promise<Outcome> {
  const state = stateFile(name, env);
  const noted = await readIfThere(state);
  if (noted === undefined) return { ok: true, summary: `the route ${name} was not added: nothing to take away` };
  const spec = JSON.parse(noted) as Spec; // Root's own, in a directory of root.
  const result = await run('ip', [spec.family, 'route', 'del', ...wordsOf(spec)], { timeoutMs: TIMEOUT_MS });
  const isGone = /No such process|Cannot find device/.test(result.stderr);
  if (result.status !== 0 && !isGone) {
    return { ok: false, summary: `the route ${name} was not taken away: ${said('ip', result)}` };
  }
  await rm(state, { force: true });
  const how = isGone ? 'is gone or changed by somebody else: nothing was done' : 'was taken away';
  return { ok: true, summary: `the route ${name} ${how}` };
}

function specOf({ destination, via, dev, metric, table }: RouteConfig): Spec {
  const hop = [...(via === undefined ? [] : ['via', via]), ...(dev === undefined ? [] : ['dev', dev])];
  const isV6 = `${destination}${via ?? ''}`.includes(':');
  return { family: isV6 ? '-6' : '-4', destination, hop, metric, table };
}

function wordsOf({ destination, hop, metric, table }: Spec): string[] {
  return [destination, ...hop, 'metric', String(metric), 'table', String(table), 'proto', String(PROTOCOL)];
}

/** Those to exactly this network. */
async function routesTo({ family, destination, table }: Spec, run: RunCommand): Promise<Found[]> {
  const args = ['-j', '-N', family, 'route', 'show', 'exact', destination, 'table', String(table)];
  const result = await run('ip', args, { timeoutMs: TIMEOUT_MS });
  // A table that never had a route is none to the kernel.
  if (result.status !== 0 && /FIB table does not exist/.test(result.stderr)) return [];
  if (result.status !== 0) throw new SkosError('SKOS_ACT_REFUSED', `the routes cannot be read: ${said('ip', result)}`);
  const rows: unknown = result.stdout.trim() === '' ? [] : JSON.parse(result.stdout);
  return Array.isArray(rows) ? rows.map(foundOf) : [];
}

function foundOf(row: Record<string, unknown>): Found {
  const text = (key: string) => (typeof row[key] === 'string' ? row[key] : undefined);
  return {
    metric: typeof row.metric === 'number' ? row.metric : 0,
    protocol: String(row.protocol ?? ''),
    via: text('gateway'),
    dev: text('dev'),
  };
}

/** Why it must not be added. A route that changes nothing would look like a cure. */
function refusalOf({ metric }: Spec, found: readonly Found[]): string | undefined {
  const same = found.find((each) => each.metric === metric);
  if (same !== undefined) return `another one with metric ${metric} is there (${placeOf(same)})`;
  const better = found.find((each) => each.metric < metric);
  return better === undefined
    ? undefined
    : `the route over ${placeOf(better)} has metric ${better.metric} and would still be taken`;
}

function placeOf({ via, dev }: Found): string {
  return via ?? dev ?? 'another place';
}

function directoryOf(env: ActContext['env']): string {
  return env.SKOS_ROUTE_DIR || DIRECTORY;
}

function stateFile(name: string, env: ActContext['env']): string {
  return join(directoryOf(env), `${name}.json`);
}
