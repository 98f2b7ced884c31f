/**
 * The environment over the file. Each variable becomes a value at its path, placed in the raw
 * tree with the variable's name, so that the schema checks it like any other and an issue names the variable.
 *
 * An empty variable counts as unset: EnvironmentFile= and container tools write `NAME=` for "no value".
 */
import type { Severity } from '../core/vocabulary.js';
import { TABLE_CELSIUS } from './thermal-bounds.js';
import { find, type Place, place, plain, type Raw } from './tree.js';

export type Environment = Readonly<Record<string, string | undefined>>;

interface Variable {
  readonly name: string;
  readonly path: readonly string[];
  /** What the schema shall see. What cannot be converted is handed on as it is, so that the schema refuses it. */
  readonly convert: (text: string) => unknown;
}

const VARIABLES: readonly Variable[] = [
  { name: 'NODE_NAME', path: ['node'], convert: (text) => text },
  { name: 'MQTT_URL', path: ['mqtt', 'url'], convert: (text) => text },
  { name: 'HEARTBEAT_TIMEOUT', path: ['heartbeat', 'timeout'], convert: decimal },
  { name: 'MONITOR_INTERVAL', path: ['monitor', 'interval'], convert: decimal },
  { name: 'LOG_LEVEL', path: ['log', 'level'], convert: logLevel },
];

const THRESHOLDS: readonly { readonly name: string; readonly severity: Severity }[] = [
  { name: 'WARNING_TEMP', severity: 'warning' },
  { name: 'CRITICAL_TEMP', severity: 'critical' },
  { name: 'EMERGENCY_TEMP', severity: 'emergency' },
];

/** Names as other loggers write them. */
const LOG_LEVEL_ALIASES: Readonly<Record<string, string>> = { warning: 'warn', critical: 'fatal' };

export interface EnvironmentIssue {
  readonly at: Place;
  readonly message: string;
}

export function applyEnvironment(raw: Raw, env: Environment): { raw: Raw; issues: readonly EnvironmentIssue[] } {
  const issues: EnvironmentIssue[] = [];
  if (given(env, 'NATS_URL') !== undefined) {
    issues.push({
      at: { variable: 'NATS_URL' },
      message: 'is no longer read; did you mean MQTT_URL? (NATS JetStream speaks MQTT: MQTT_URL=mqtt://host:1883)',
    });
  }
  let output = raw;
  for (const { name, path, convert } of VARIABLES) {
    const text = given(env, name);
    if (text !== undefined) output = place(output, path, scalar(name, convert(text)));
  }
  return { raw: applyThresholds(output, env), issues };
}

function given(env: Environment, name: string): string | undefined {
  const text = env[name]?.trim();
  return text === '' ? undefined : text;
}

function scalar(variable: string, value: unknown): Raw {
  return { kind: 'scalar', at: { variable }, value };
}

/** Any of the three makes the bounds absolute: the others are the file's, or else the table's. */
function applyThresholds(raw: Raw, env: Environment): Raw {
  const set = THRESHOLDS.filter(({ name }) => given(env, name) !== undefined);
  if (set.length === 0) return raw;
  let output = withMapping(raw, set[0]?.name ?? '');
  for (const { name, severity } of THRESHOLDS) {
    const path = ['thermal', 'thresholds', severity];
    const text = given(env, name);
    if (text !== undefined) output = place(output, path, scalar(name, decimal(text)));
    else if (!find(output, path).exact)
      output = place(output, path, scalar(set[0]?.name ?? '', TABLE_CELSIUS[severity]));
  }
  return output;
}

/** `thresholds: null` in the file must give way before single thresholds can be placed. */
function withMapping(raw: Raw, variable: string): Raw {
  const path = ['thermal', 'thresholds'];
  const thermal = (plain(raw) as { thermal?: { thresholds?: unknown } } | null)?.thermal;
  if (thermal?.thresholds !== null && thermal?.thresholds !== undefined) return raw;
  return place(raw, path, { kind: 'mapping', at: { variable }, entries: new Map() });
}

function decimal(text: string): unknown {
  return /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

function logLevel(text: string): string {
  const level = text.toLowerCase();
  return LOG_LEVEL_ALIASES[level] ?? level;
}
