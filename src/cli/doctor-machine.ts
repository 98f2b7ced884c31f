/** The machine as `skos doctor` looks at it: its trees, and what the running agent says of it, or why there is none. */
import { hostname } from 'node:os';
import type { Config } from '../config/schema.js';
import { configShape } from '../config/schema.js';
import type { Machine } from '../control/machine.js';
import type { ChannelJson } from '../core/channel.js';
import { reason, SkosError } from '../core/errors.js';
import type { GpuStatus, Tree } from '../core/ports.js';
import type { Status } from '../core/protocol.js';
import type { Finding } from '../sensors/finding.js';
import type { Context } from './command.js';
import { plural } from './format.js';
import { readOnce } from './machine.js';

export interface Trees {
  readonly sysfs: Tree;
  readonly proc: Tree;
  readonly dev: Tree;
  readonly cgroup: Tree;
  /** The root file system ($SKOS_HOST_ROOT, else /): modules, libraries, what other programs leave. */
  readonly root: Tree;
}

export interface AgentSaid {
  readonly status: Status;
  readonly gpu: GpuStatus;
}

export interface Seen {
  readonly trees: Trees;
  readonly config: Config;
  /** undefined: no agent answers. */
  readonly agent: AgentSaid | undefined;
  readonly channels: readonly ChannelJson[];
  /** What was not found and why, one line each. */
  readonly notFound: readonly string[];
}

/** Everything that the checks look at, and the findings about getting it. Never rejects for what an operator could mend. */
export async function look(
  context: Context,
  trees: Trees,
  machine: Machine,
): Promise<{ seen: Seen; findings: Finding[] }> {
  const { config, findings: onConfig } = await configuration(context);
  const asked = await askAgent(context);
  const findings = [...onConfig, asked.finding];
  if (asked.said !== undefined) {
    const { channels, ...agent } = asked.said;
    return { seen: { trees, config, agent, channels, notFound: agent.status.notFound }, findings };
  }
  const once = await withoutAgent(context, config, machine);
  const seen = { trees, config, agent: undefined, channels: once.channels, notFound: once.notFound };
  return { seen, findings: [...findings, ...once.findings] };
}

async function configuration({ config }: Context): Promise<{ config: Config; findings: Finding[] }> {
  try {
    const { config: loaded, files, mainFile, notices } = await config();
    const what = files.length === 0 ? `no ${mainFile}, so the defaults hold` : files.join(', ');
    const told = notices.map((notice) => ({ check: 'agent.config', state: 'note' as const, what: notice }));
    return {
      config: loaded,
      findings: [{ check: 'agent.config', state: 'ok', what: `configuration: ${what}` }, ...told],
    };
  } catch (error) {
    if (!(error instanceof SkosError)) throw error;
    const [first = '', ...rest] = error.message.split('\n');
    const more = rest.length === 0 ? '' : `, and ${plural(rest.length, 'more fault')}`;
    const what = `the configuration is refused (${error.code}): ${first}${more}`;
    const finding = { check: 'agent.config', state: 'problem', what, next: error.next } as const;
    return { config: { ...configShape.check({}, [], []), node: hostname() }, findings: [finding] };
  }
}

interface Asked {
  readonly said?: AgentSaid & { readonly channels: readonly ChannelJson[] };
  readonly finding: Finding;
}

async function askAgent({ agent, io }: Context): Promise<Asked> {
  try {
    // What it says of a configuration that cannot be used stands among the findings already.
    const client = await agent();
    const status = await client.request('status', {});
    const [channels, gpu] = await Promise.all([client.request('sensors', {}), client.request('gpu', {})]);
    const what = `skos ${status.version} runs as ${status.node} (pid ${status.pid}), mode ${status.mode}${status.armed ? ', armed' : ''}`;
    return { said: { status, gpu, channels }, finding: { check: 'agent.running', state: 'ok', what } };
  } catch (error) {
    if (!(error instanceof SkosError)) throw error;
    const check = 'agent.running';
    if (error.code === 'SKOS_SOCKET_DENIED') {
      const what = `an agent runs, but user ${io.euid} may not ask it; what follows is seen without it`;
      return { finding: { check, state: 'note', what, next: error.next } };
    }
    const isThere = error.code !== 'SKOS_SOCKET_UNAVAILABLE' && error.code !== 'SKOS_SOCKET_DEADLINE';
    const what = isThere
      ? `an agent is there, but fails to answer (${error.code}): ${error.message}`
      : `no agent answers, nothing guards this node: ${error.message}`;
    return { finding: { check, state: 'problem', what, next: error.next } };
  }
}

/** Discovered and read here, as `skos sensors --once` does; where the addon is not built, discovered only. */
async function withoutAgent(
  { io }: Context,
  config: Config,
  machine: Machine,
): Promise<{ channels: readonly ChannelJson[]; notFound: readonly string[]; findings: Finding[] }> {
  try {
    const { channels, skipped } = await readOnce({ config, env: io.env, wallMs: io.wallMs });
    return { channels, notFound: skipped, findings: [] };
  } catch (error) {
    const next = error instanceof SkosError ? error.next : 'report it with the message';
    const what = `the sensors cannot be read: ${reason(error)}`;
    const { skipped } = await machine.discover(config);
    const notFound = skipped.map((each) => `${each.source}: ${each.what}: ${each.why}`);
    return { channels: [], notFound, findings: [{ check: 'sensors.read', state: 'problem', what, next }] };
  }
}
