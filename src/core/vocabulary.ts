/** Words of the public contract that several layers share. */
export const MODES = ['observe', 'propose', 'auto'] as const;
export type Mode = (typeof MODES)[number];

/** In ascending order: a later severity is a higher rung of the ladder. */
export const SEVERITIES = ['warning', 'critical', 'emergency'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** When a maintenance window opens; the days behind `daily` as Date counts them. */
export const WINDOW_DAYS = ['daily', 'sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
export type WindowDay = (typeof WINDOW_DAYS)[number];

/** What is done to a unit, as systemctl says it. */
export const UNIT_VERBS = ['start', 'stop', 'restart'] as const;
export type UnitVerb = (typeof UNIT_VERBS)[number];

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const ALERT_STATES = ['ok', 'pending', 'firing', 'recovering', 'flapping'] as const;
export type AlertState = (typeof ALERT_STATES)[number];

/** `agent_type` of the antibodies, and of the operator's own rules. */
export const ANTIBODY_TYPES = [
  'thermal_sentinel',
  'storage_watcher',
  'mesh_healer',
  'loop_breaker',
  'hardware_watcher',
  'operator_rules',
] as const;
export type AntibodyType = (typeof ANTIBODY_TYPES)[number];

/**
 * What became of an action. `active`: a lease is held. `released`: it was taken back. `pending`: asked for, not answered
 * yet. `undo_pending`: release asked for, the device does not take it yet. Of what is not a lease: `running`, then `verifying` whether
 * it helps, then `helped`, `unhelpful` or, where there is nothing to verify, `done`.
 */
export const ACTION_STATES = [
  'observed',
  'proposed',
  'unavailable',
  'barred',
  'pending',
  'active',
  'failed',
  'undo_pending',
  'released',
  'foreign_change',
  'abandoned',
  'running',
  'verifying',
  'helped',
  'unhelpful',
  'done',
] as const;
export type ActionState = (typeof ACTION_STATES)[number];

/** Rules that the antibodies make themselves. The operator's own may not take these names: `skos release` tells by them. */
export const BUILT_IN_RULES = [
  'thermal-cpu',
  'thermal-gpu',
  'thermal-memory',
  'thermal-disk',
  'gpu-throttle',
  'gpu-blind',
  'fan-failure',
  'storage',
  'storage-filling',
  'storage-read-only',
  'disk-health',
  'wireguard',
  'mesh-peer',
  'mesh-one-way',
  'gpu-xid',
  'gpu-driver',
  'machine-check',
  'pcie',
  'oom',
  'storage-error',
  'kernel',
  'store',
  'chain',
] as const;
export type BuiltInRule = (typeof BUILT_IN_RULES)[number];

/** Stands among the breakers while wall time is not believed; no action is written so. */
export const WALL_CLOCK = 'wall-clock';
