/**
 * The configuration: one strict schema that holds the defaults. POLICIES.md's names are public; every key has a
 * default, so that an empty file runs. Checks that need more than one key are in check.ts.
 *
 * Units here are what people write: degrees Celsius, percent, seconds. They become canonical integers where rules are
 * made (antibodies/), nowhere else.
 */
import { DEVICE_CLASSES } from '../core/channel.js';
import {
  boolean,
  type Infer,
  list,
  nullable,
  number,
  object,
  oneOf,
  optional,
  record,
  section,
  string,
  withDefault,
} from '../core/shape.js';
import { LOG_LEVELS, MODES, SEVERITIES } from '../core/vocabulary.js';

const NODE_NAME = /^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$/;
/** `throttle_50`, or `limit_50@name` for an action on an entry of `targets`. */
const ACTION = /^[a-z][a-z0-9_]{0,47}(@[a-z0-9][a-z0-9_-]{0,62})?$/;

const mode = oneOf(...MODES);
const severity = oneOf(...SEVERITIES);
export const nodeName = string({
  pattern: NODE_NAME,
  expected: 'a node name: lower-case letters, digits, "-" and "_", at most 63',
});
const name = string({
  pattern: /^[a-z0-9][a-z0-9_-]{0,62}$/,
  expected: 'a name: lower-case letters, digits, "-" and "_", at most 63',
});
const action = string({ pattern: ACTION, expected: 'an action such as throttle_50 or limit_20@target' });
const actions = list(action, { max: 16 });
const listenAddress = string({
  pattern: /^(\[[0-9a-fA-F:]+\]|[^\s:]+):\d{1,5}$/,
  expected: 'an address and port such as "127.0.0.1:1883"',
});
const file = string({ pattern: /^\/[^\0]*$/, expected: 'an absolute path' });
const unit = string({ pattern: /^[A-Za-z0-9:_.\\@-]+\.(service|scope|slice)$/, expected: 'a systemd unit such as x.service' });
const seconds = number({ min: 0, max: 86_400 });
const celsius = number({ min: -60, max: 250 });
const percent = number({ min: 0, max: 100 });

const thermal = section(
  {
    thresholds: withDefault(
      nullable(object({ warning: celsius, critical: celsius, emergency: celsius })),
      null,
      'Absolute bounds in °C. null: the margin to the limit that the device states, else 75 / 85 / 95.',
    ),
    actions: section({
      warning: withDefault(actions, ['throttle_10']),
      critical: withDefault(actions, ['throttle_50', 'redistribute']),
      emergency: withDefault(actions, ['shutdown_non_essential', 'failover']),
    }),
    hysteresis: withDefault(number({ min: 0.1, max: 100 }), 5, '°C between a raise bound and its clear bound.'),
    for: section({ seconds: withDefault(seconds, 0), samples: withDefault(number({ min: 1, max: 1000, integer: true }), 2) }),
    keep: withDefault(seconds, 10, 'Seconds below the clear bound before one rung is released.'),
  },
  'CPU and GPU temperatures.',
);

const storage = section(
  {
    thresholds: section({
      warning: withDefault(percent, 80),
      critical: withDefault(percent, 90),
      emergency: withDefault(percent, 95),
    }),
    actions: section({
      warning: withDefault(actions, ['cleanup_temp']),
      critical: withDefault(actions, ['cleanup_logs', 'archive_old_data']),
      emergency: withDefault(actions, ['emergency_cleanup', 'alert_human']),
    }),
    hysteresis: withDefault(number({ min: 0.1, max: 100 }), 5, 'Points between a raise bound and its clear bound.'),
    for: section({ seconds: withDefault(seconds, 0), samples: withDefault(number({ min: 1, max: 1000, integer: true }), 2) }),
    keep: withDefault(seconds, 10),
    cleanup: section({
      temp: withDefault(list(string()), []),
      logs: withDefault(list(string()), []),
      caches: withDefault(list(string()), []),
      archive_to: withDefault(nullable(file), null),
    }),
  },
  'Usage of mounted file systems, in % of bytes and of inodes.',
);

const rule = object({
  name,
  channel: optional(string({ pattern: /^[a-z0-9_~*?/-]{1,256}$/, expected: 'a channel id or glob such as "hwmon/*/temp1"' })),
  class: optional(oneOf(...DEVICE_CLASSES)),
  raise: number(),
  clear: optional(number()),
  for: section({ seconds: withDefault(seconds, 0), samples: withDefault(number({ min: 1, max: 1000, integer: true }), 2) }),
  keep: withDefault(seconds, 10),
  severity: withDefault(severity, 'warning'),
  actions: withDefault(actions, []),
  mode: optional(mode),
  standing: withDefault(boolean, false),
});

const target = object({ cgroup: optional(string({ pattern: /^[^\0]{1,1024}$/, expected: 'a cgroup path' })), unit: optional(unit) });

const peer = object({
  url: string({ pattern: /^mqtts?:\/\/[^\s/]+$/, expected: 'mqtts://host:port (mqtt:// on loopback only)' }),
  ca: optional(file),
  cert: optional(file),
  key: optional(file),
});

export const configShape = object({
  node: withDefault(nullable(nodeName), null, 'Name of this node; null is the host name.'),
  role: withDefault(oneOf('gpu', 'backup', 'storage'), 'gpu'),
  mode: withDefault(mode, 'observe', '`skos arm` sets auto.'),
  data_dir: withDefault(file, '/var/lib/skos', 'LevelDB, keys, recordings.'),
  sampling: section({
    rate_hz: withDefault(number({ min: 0.1, max: 1000 }), 10, 'Temperatures; slower things have their own rates.'),
    deadline_ms: withDefault(number({ min: 10, max: 60_000, integer: true }), 1000, 'A read that takes longer is hung.'),
  }),
  mqtt: section({
    listen: withDefault(listenAddress, '127.0.0.1:1883', 'For local tools: loopback only, subscribe only.'),
    prefix: withDefault(string({ pattern: /^[a-z0-9_-]{1,32}$/, expected: 'one topic level' }), 'skos'),
    url: withDefault(nullable(string({ pattern: /^mqtts?:\/\/\S+$/, expected: 'mqtt://host:port' })), null, 'Join this broker instead of embedding one.'),
  }),
  http: section({ listen: withDefault(listenAddress, '127.0.0.1:9735') }),
  actuator: section({
    mode: withDefault(oneOf('auto', 'socket', 'child', 'off'), 'auto'),
    socket: withDefault(file, '/run/skos/actuator.sock'),
  }),
  log: section({ level: withDefault(oneOf(...LOG_LEVELS), 'info') }),
  heartbeat: section({
    timeout: withDefault(number({ min: 1, max: 86_400 }), 30, 'Seconds before an antibody or a peer counts as offline.'),
  }),
  monitor: section({ interval: withDefault(number({ min: 0.01, max: 60 }), 0.1, 'Seconds between looks of the antibodies.') }),
  thermal,
  storage,
  loop: section({
    max_depth: withDefault(number({ min: 1, max: 1_000_000, integer: true }), 10),
    max_iterations: withDefault(number({ min: 1, max: 1_000_000_000, integer: true }), 100),
    actions: section({ depth: withDefault(actions, ['circuit_break']), iterations: withDefault(actions, ['reset_chain']) }),
  }),
  auto_allow: withDefault(actions, [], 'Restartable and irreversible actions that may run without approval.'),
  rules: withDefault(list(rule, { max: 256 }), []),
  targets: withDefault(record(target, { key: /^[a-z0-9][a-z0-9_-]{0,62}$/, keyExpected: 'a name in lower case' }), {}),
  hooks: withDefault(record(object({ unit })), {}),
  workloads: withDefault(
    record(
      object({
        unit,
        essential: withDefault(boolean, true),
        movable: withDefault(boolean, false),
        hosts: withDefault(list(nodeName), []),
      }),
    ),
    {},
  ),
  mesh: section({
    listen: withDefault(nullable(listenAddress), null),
    tls: withDefault(nullable(object({ ca: file, cert: file, key: file })), null, 'What mesh.listen presents and trusts.'),
    peers: withDefault(record(peer, { key: NODE_NAME, keyExpected: 'a node name' }), {}),
    actions: section({
      tunnel_down: withDefault(actions, ['restart_wireguard', 'regenerate_wireguard_config']),
      peer_unreachable: withDefault(actions, ['ping_peer', 'failover_route']),
    }),
  }),
});

/** As written, with the defaults filled in. */
export type ConfigFile = Infer<typeof configShape>;
export type RuleConfig = ConfigFile['rules'][number];
export type TargetConfig = ConfigFile['targets'][string];
export type PeerConfig = ConfigFile['mesh']['peers'][string];

/** What programs are given: parsed once, checked, environment applied, frozen. */
export interface Config extends ConfigFile {
  readonly node: string;
}
