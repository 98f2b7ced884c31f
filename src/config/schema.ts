/**
 * The configuration: one strict schema that holds the defaults. Names are public; every key has a
 * default, so that an empty file runs. Checks that need more than one key are in check.ts.
 *
 * Units here are what people write: degrees Celsius, percent, seconds. They become canonical integers where rules are
 * made (thermal-bounds.ts, rule-bounds.ts, antibodies/), nowhere else.
 */
import { DEVICE_CLASSES } from '../core/channel.js';
import {
  boolean,
  described,
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
import { LOG_LEVELS, MODES, SEVERITIES, WINDOW_DAYS } from '../core/vocabulary.js';

const NODE_NAME = /^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$/;
/** `throttle_50`, or `limit_50@name` for an action on an entry of `targets`. Which ones exist is checked in check.ts. */
const ACTION = /^[a-z][a-z0-9_]{0,47}(@[a-z0-9][a-z0-9_-]{0,55})?$/;
/** 56: with "freeze/" before it a target's name must fit the 64 characters of an id in the allow-list. */
const TARGET_NAME = /^[a-z0-9][a-z0-9_-]{0,55}$/;
/** What `hooks` defines is called as an action, so that its names look like actions. */
const HOOK_NAME = /^[a-z][a-z0-9_]{0,47}$/;
/** Any quantity in any unit; beyond it, canonical integers would no longer be exact to what the actuator can hold. */
const LARGEST_BOUND = 1e15;
/** Each becomes two targets of the allow-list, which holds 512 with those of the machine. */
const MAX_TARGETS = 64;
/** A person writes these by hand; more is a generated file that deserves a second look. */
const MAX_RULES = 256;
/** On one rung. */
const MAX_ACTIONS = 16;
/** Each is a unit, and jobs of the allow-list. */
const MAX_INTERFACES = 16;
/** Of all interfaces together and of the mesh as many may be pinged, each a job of the allow-list, which holds 256. */
const MAX_TUNNEL_PEERS = 32;
/** Each is a target of the allow-list. */
const MAX_ROUTES = 32;

/** Of one action: an attempt each minute is no repair. The lists of attempts that are kept are as long as the longest budget. */
const MAX_PER_HOUR = 60;
const MAX_PER_DAY = 200;
/** Of all actions together. */
export const MAX_NODE_PER_DAY = 500;
/** Written by hand; more is a calendar that deserves a second look. */
const MAX_WINDOWS = 64;
/** A weekly window begins today or yesterday; a longer one is two. */
const MAX_WINDOW_MINUTES = 24 * 60;

/** NVIDIA's catalogue ends below 200. */
const MAX_XIDS = 256;

const mode = oneOf(...MODES);
const severity = oneOf(...SEVERITIES);
const nodeName = string({
  pattern: NODE_NAME,
  expected: 'a node name: lower-case letters, digits, "-" and "_", at most 63',
});
const name = string({
  pattern: /^[a-z0-9][a-z0-9_-]{0,62}$/,
  expected: 'a name: lower-case letters, digits, "-" and "_", at most 63',
});
const action = string({ pattern: ACTION, expected: 'an action such as throttle_50 or limit_20@target' });
const actions = list(action, { max: MAX_ACTIONS });
const listenAddress = string({
  pattern: /^(\[[0-9a-fA-F:]+\]|[^\s:[\]]+):\d{1,5}$/,
  expected: 'an address and port such as "127.0.0.1:1883"',
});
const file = string({ pattern: /^\/[^\0\n]*$/, expected: 'an absolute path' });
const unit = string({
  pattern: /^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,239}\.(service|scope|slice)$/,
  expected: 'a systemd unit such as x.service',
});
const seconds = number({ min: 0, max: 86_400 });
const celsius = number({ min: -60, max: 250 });
const percent = number({ min: 0, max: 100 });
const hysteresis = number({ min: 0.1, max: 100 });
const samples = number({ min: 1, max: 1000, integer: true });

const duration = section(
  {
    seconds: withDefault(seconds, 0, 'Seconds above the raise bound before it counts.'),
    samples: withDefault(samples, 2, 'Consecutive samples above the raise bound before it counts.'),
  },
  'How long a bound must be exceeded: both the time and the samples.',
);
const keep = withDefault(seconds, 10, 'Seconds below the clear bound before one rung is released.');

/** Of one list of storage.cleanup; each is walked on its own. */
const MAX_PLACES = 32;
/** Of one place; every file that is found is compared with all of them. */
const MAX_EXCLUSIONS = 32;

/** What it may name at all is in cleanup-places.ts. */
const age = string({ pattern: /^[1-9]\d{0,3}[mhdw]$/, expected: 'an age such as 90m, 12h, 7d or 4w' });
const size = string({ pattern: /^[1-9]\d{0,5}[MGT]$/, expected: 'a size such as 500M or 2G' });
const namePattern = string({
  pattern: /^[^/\p{Cc}[\]{}\\]{1,128}$/u,
  expected: 'a file name with * and ? in it, without "/", such as "*.tmp"',
});
const exclusion = string({
  pattern: /^[^\p{Cc}[\]{}\\]{1,256}$/u,
  expected: 'a name, or a path below the place, with * and ? in it',
});
const placeMembers = {
  path: described(
    file,
    'The directory; itself it stays. Links in it are not followed, other file systems not entered.',
  ),
  pattern: described(optional(namePattern), 'Only files whose name is like this; absent: all.'),
  exclude: withDefault(
    list(exclusion, { max: MAX_EXCLUSIONS }),
    [],
    'What stays: a name anywhere in it, or with "/" a path below it. A directory stays with what is in it.',
  ),
};
const place = object({
  ...placeMembers,
  age: described(age, 'Only what was neither read, written nor changed for this long; at least 10m.'),
});
const logPlace = object({
  journal: described(
    optional(
      object({
        size: described(optional(size), 'Archived journal files go until no more than this is left.'),
        age: described(optional(age), 'Archived journal files that are older go.'),
      }),
    ),
    "The system's journal.",
  ),
  logrotate: described(
    optional(file),
    'A configuration of logrotate that is carried out at once, at most once a day; path says where it may write.',
  ),
  ...placeMembers,
  path: described(
    optional(file),
    'A directory with log files that go when they are old, or that logrotate may write to.',
  ),
  age: described(optional(age), 'Of the files in path.'),
});

const thermal = section(
  {
    thresholds: withDefault(
      nullable(
        object({
          warning: described(celsius, 'Raise bound of the first rung, °C.'),
          critical: described(celsius, 'Raise bound of the second rung, °C.'),
          emergency: described(celsius, 'Raise bound of the third rung, °C.'),
        }),
      ),
      null,
      'Absolute bounds in °C. null: the margin to the limit that the device states, else 75 / 85 / 95.',
    ),
    actions: section(
      {
        warning: withDefault(actions, ['throttle_10'], 'On the first rung.'),
        critical: withDefault(actions, ['throttle_50', 'redistribute'], 'On the second rung, beside the first.'),
        emergency: withDefault(
          actions,
          ['shutdown_non_essential', 'failover'],
          'On the third rung, beside the others.',
        ),
      },
      'What is done on each rung; rungs are cumulative.',
    ),
    hysteresis: withDefault(hysteresis, 5, '°C between a raise bound and its clear bound.'),
    blind: withDefault(
      number({ min: 2, max: 3_600 }),
      30,
      'Seconds without a reading after which a GPU that was under load counts as hot: its caps are due.',
    ),
    for: duration,
    keep,
  },
  'CPU and GPU temperatures.',
);

const places = list(place, { max: MAX_PLACES });

const storage = section(
  {
    thresholds: section(
      {
        warning: withDefault(percent, 80, 'Raise bound of the first rung, %.'),
        critical: withDefault(percent, 90, 'Raise bound of the second rung, %.'),
        emergency: withDefault(percent, 95, 'Raise bound of the third rung, %.'),
      },
      'Usage in % of bytes or of inodes.',
    ),
    actions: section(
      {
        warning: withDefault(actions, ['cleanup_temp'], 'On the first rung.'),
        critical: withDefault(actions, ['cleanup_logs', 'archive_old_data'], 'On the second rung, beside the first.'),
        emergency: withDefault(actions, ['emergency_cleanup', 'alert_human'], 'On the third rung, beside the others.'),
      },
      'What is done on each rung; rungs are cumulative.',
    ),
    hysteresis: withDefault(hysteresis, 5, 'Points between a raise bound and its clear bound.'),
    for: duration,
    keep,
    cleanup: section(
      {
        temp: withDefault(places, [], 'What cleanup_temp may delete; empty: nothing.'),
        logs: withDefault(list(logPlace, { max: MAX_PLACES }), [], 'What cleanup_logs may delete; empty: nothing.'),
        caches: withDefault(places, [], 'What emergency_cleanup may delete; empty: nothing.'),
        archive: withDefault(places, [], 'What archive_old_data may move; empty: nothing.'),
        archive_to: withDefault(
          nullable(file),
          null,
          'The directory that archive_old_data moves files to, each below it under its whole path; null: nowhere.',
        ),
      },
      'What may be deleted or moved: nothing that is not named here. `skos config compile` as root makes it take effect.',
    ),
  },
  'Usage of mounted file systems, in % of bytes and of inodes.',
);

const bound = number({ min: -LARGEST_BOUND, max: LARGEST_BOUND });
const rule = object({
  name: described(name, 'Its name in alerts, in `skos release NAME` and in the record.'),
  channel: described(
    optional(string({ pattern: /^[a-z0-9_~*?/-]{1,256}$/, expected: 'a channel id or glob such as "hwmon/*/temp1"' })),
    'Channels that it watches: an id or a glob over ids, as `skos sensors` prints them; derived ones only where it ends ' +
      'as they do (`*_slope`). Either this or class.',
  ),
  class: described(optional(oneOf(...DEVICE_CLASSES)), 'Every temperature of this class. Either this or channel.'),
  raise: described(bound, 'Fires above this: °C, % or the base unit that `skos sensors` prints.'),
  clear: described(optional(bound), 'Over below this. Absent: 5 °C or 5 points below raise, 5 % for other units.'),
  for: duration,
  keep,
  severity: withDefault(severity, 'warning', 'How serious it is.'),
  actions: withDefault(actions, [], 'What is done while it stands.'),
  mode: described(optional(mode), 'Of this rule alone; absent: the mode of the node.'),
  standing: withDefault(boolean, false, 'Compile it into a standing order, which holds with the agent dead.'),
});

const target = object({
  cgroup: described(
    optional(
      string({ pattern: /^[\x21-\x7e]{1,300}$/, expected: 'a cgroup path without blanks, at most 300 characters' }),
    ),
    'Path below the cgroup root, such as system.slice/batch.service.',
  ),
  unit: described(optional(unit), 'A systemd unit. Either this or cgroup.'),
});

const windowMoment = string({
  pattern: /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)?$/,
  expected: 'a moment such as 2026-01-31T22:00 (local time), or with Z or +01:00 behind it',
});
const maintenanceWindow = object({
  name: described(name, 'Its name in the reasons of what waits for its end.'),
  from: described(optional(windowMoment), 'Begin of a single window. Either from and to, or day, time and minutes.'),
  to: described(optional(windowMoment), 'Its end.'),
  day: described(optional(oneOf(...WINDOW_DAYS)), 'Day of a weekly window, or daily.'),
  time: described(
    optional(string({ pattern: /^([01]\d|2[0-3]):[0-5]\d$/, expected: 'a time of day such as "22:30"' })),
    'When it begins, in the time zone of the node.',
  ),
  minutes: described(optional(number({ min: 1, max: MAX_WINDOW_MINUTES, integer: true })), 'How long it lasts.'),
});

const certificates = {
  ca: described(file, 'Certificate of the authority that signs the peers, PEM.'),
  cert: described(file, 'Certificate of this node, PEM.'),
  key: described(file, 'Private key of this node, PEM.'),
};
const peer = object({
  url: described(
    string({ pattern: /^mqtts?:\/\/[^\s/?#]+$/, expected: 'mqtts://host:port (mqtt:// on loopback only)' }),
    "The peer's mesh listener.",
  ),
  ca: optional(certificates.ca),
  cert: optional(certificates.cert),
  key: optional(certificates.key),
});

/**
 * Of the kernel's 15 characters those that may stand in the id of a job: without upper case, and without the dot that ends a job's name
 * there.
 */
const INTERFACE_NAME = /^[a-z0-9][a-z0-9_-]{0,14}$/;
const PEER_NAME = /^[a-z0-9][a-z0-9_-]{0,31}$/;
const ROUTE_NAME = /^[a-z0-9][a-z0-9_-]{0,31}$/;
const ipAddress = string({
  pattern: /^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)$/,
  expected: 'an IP address',
  max: 45,
});
const tunnelPeer = object({
  key: described(
    string({ pattern: /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, expected: 'a public key as `wg show` prints it' }),
    'Its public key.',
  ),
  address: described(optional(ipAddress), 'Its address inside the tunnel, which ping_peer asks too.'),
});

const wireguard = section(
  {
    stale: withDefault(
      number({ min: 130, max: 86_400 }),
      180,
      'Seconds after its last handshake at which a tunnel counts as down. WireGuard makes one every 120 s of traffic, and ' +
        'after 180 s carries nothing without one.',
    ),
    escalate: withDefault(number({ min: 10, max: 86_400 }), 120, 'Seconds beyond that, for each further action.'),
    keep: withDefault(seconds, 10, 'Seconds with a fresh handshake before one rung is released.'),
    interfaces: withDefault(
      record(
        object({
          unit: described(optional(unit), 'The unit that makes it; absent: wg-quick@NAME.service.'),
          peers: withDefault(
            record(tunnelPeer, {
              key: PEER_NAME,
              keyExpected: 'a name: lower-case letters, digits, "-" and "_", at most 32',
              max: MAX_TUNNEL_PEERS,
            }),
            {},
            'Peers that must always have a fresh handshake, by name. Others count where their persistent keepalive makes one ' +
              'within `stale`.',
          ),
          template: described(
            optional(file),
            'What regenerate_wireguard_config makes the configuration of, {{NAME}} standing for a key; absent: nothing.',
          ),
          keys: described(optional(file), 'Keys for the template, a line `NAME = KEY` each; root alone may read it.'),
          config: described(optional(file), 'The configuration that is made; absent: /etc/wireguard/NAME.conf.'),
        }),
        {
          key: INTERFACE_NAME,
          keyExpected: 'the name of an interface: lower-case letters, digits, "-" and "_", at most 15',
          max: MAX_INTERFACES,
        },
      ),
      {},
      'Interfaces that are watched; none: nothing is.',
    ),
  },
  'WireGuard tunnels.',
);

const route = object({
  peers: described(
    list(nodeName, { max: MAX_TUNNEL_PEERS }),
    'Peers, of the mesh or of a tunnel, whose loss calls for it.',
  ),
  destination: described(
    string({
      pattern: /^(default|[0-9]{1,3}(\.[0-9]{1,3}){3}(\/[0-9]{1,2})?|[0-9a-fA-F:]*:[0-9a-fA-F:.]*(\/[0-9]{1,3})?)$/,
      expected: 'a network such as 10.0.0.0/24, or default',
      max: 49,
    }),
    'Network that is reached by it.',
  ),
  via: described(optional(ipAddress), 'Next hop. This, dev, or both.'),
  dev: described(
    optional(string({ pattern: /^[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}$/, expected: 'the name of an interface' })),
    'Interface. This, via, or both.',
  ),
  metric: described(
    number({ min: 1, max: 4_294_967_294, integer: true }),
    'Of the routes to one network that with the least metric is taken: less than that of the route whose place it takes.',
  ),
  table: withDefault(number({ min: 1, max: 4_294_967_295, integer: true }), 254, 'Routing table; 254 is main.'),
  keep: withDefault(
    seconds,
    600,
    'Seconds for which it stays though the peer is heard again, which may be by this very route.',
  ),
});

/** Beside the agent's socket, wherever that is, unless the operator names a place. */
export const DEFAULT_ACTUATOR_SOCKET = '/run/skos/actuator.sock';

const DEFAULT_GPU_SOCKET = '/run/skos-gpu/gpu.sock';

export const configShape = object({
  node: withDefault(nullable(nodeName), null, 'Name of this node; null is the host name.'),
  role: withDefault(
    oneOf('gpu', 'backup', 'storage'),
    'gpu',
    'What the node is for in the mesh; nothing acts on it yet.',
  ),
  mode: withDefault(mode, 'observe', 'observe and propose never act; `skos arm` sets auto.'),
  data_dir: withDefault(file, '/var/lib/skos', 'Where the record is kept: samples, alerts, actions, audit chain.'),
  sampling: section(
    {
      rate_hz: withDefault(number({ min: 0.1, max: 1000 }), 10, 'Temperatures; slower things have their own rates.'),
      deadline_ms: withDefault(
        number({ min: 10, max: 60_000, integer: true }),
        1000,
        'A read that takes longer is hung; its driver is set aside.',
      ),
    },
    'How often sensors are read.',
  ),
  store: section(
    {
      flush_seconds: withDefault(
        number({ min: 1, max: 300 }),
        8,
        'How much of the raw samples a kill or a power cut may take. 64 channels at 1 Hz write 48 MB a day at 8, 22 at 30.',
      ),
      raw_hours: withDefault(number({ min: 0.5, max: 720 }), 6, 'How long every single sample is kept.'),
      second_days: withDefault(
        number({ min: 0.1, max: 400 }),
        7,
        'How long least, mean and greatest of each second are kept.',
      ),
      minute_days: withDefault(number({ min: 1, max: 4_000 }), 400, 'How long those of each minute are kept.'),
      max_mib: withDefault(
        number({ min: 32, max: 5_120, integer: true }),
        500,
        'Size of the database in MiB. Beyond it the oldest raw samples go first, then seconds, then minutes.',
      ),
    },
    'What is kept below data_dir, and for how long. Takes effect at the next start.',
  ),
  mqtt: section(
    {
      listen: withDefault(
        listenAddress,
        '127.0.0.1:1883',
        'For local tools: loopback only; without a token (`skos token`) they may subscribe only.',
      ),
      prefix: withDefault(
        string({ pattern: /^[a-z0-9_-]{1,32}$/, expected: 'one topic level: lower-case letters, digits, "-" and "_"' }),
        'skos',
        'First level of every topic.',
      ),
      url: withDefault(
        nullable(string({ pattern: /^mqtts?:\/\/[^\s/?#]+$/, expected: 'a broker such as mqtt://localhost:1883' })),
        null,
        'Join this broker instead of embedding one.',
      ),
    },
    'The local broker.',
  ),
  http: section(
    { listen: withDefault(listenAddress, '127.0.0.1:9735', 'Reserved: nothing listens there yet.') },
    'The HTTP API.',
  ),
  actuator: section(
    {
      mode: withDefault(
        oneOf('auto', 'socket', 'child', 'off'),
        'auto',
        'auto: the socket if present, else a child when root, else off, said aloud.',
      ),
      socket: withDefault(file, DEFAULT_ACTUATOR_SOCKET, 'Socket of the installed skos-actuator.'),
      lease: withDefault(number({ min: 2, max: 600 }), 30, 'Seconds for which a cap stands without the agent.'),
    },
    'The privileged part that moves limits.',
  ),
  gpu: section(
    {
      mode: withDefault(
        oneOf('auto', 'socket', 'child', 'off'),
        'auto',
        'auto: the socket if present, else a child under `skos run`, else off, said aloud.',
      ),
      socket: withDefault(file, DEFAULT_GPU_SOCKET, 'Socket of the installed skos-gpu.'),
      nvml: withDefault(
        string({ pattern: /^[\x21-\x7e]{1,255}$/, expected: 'the name or path of a library' }),
        'libnvidia-ml.so.1',
        'The NVML library that skos-gpu loads when it runs as a child; installed, its unit says it.',
      ),
    },
    'The part that reads GPU drivers.',
  ),
  log: section(
    { level: withDefault(oneOf(...LOG_LEVELS), 'info', '`skos log level` changes it for a while.') },
    'The log.',
  ),
  heartbeat: section(
    {
      timeout: withDefault(
        number({ min: 1, max: 86_400 }),
        30,
        'Seconds before an antibody or a peer counts as offline.',
      ),
    },
    'Signs of life.',
  ),
  monitor: section(
    { interval: withDefault(number({ min: 0.01, max: 60 }), 0.1, 'Seconds between looks of the antibodies.') },
    'The tick.',
  ),
  thermal,
  storage,
  xid: withDefault(
    record(
      object({
        severity: described(
          optional(oneOf('none', ...SEVERITIES)),
          'How serious it is here; none: recorded, no alert. Absent: as NVIDIA’s catalogue and the driver say.',
        ),
        action: described(
          optional(string({ pattern: /^\P{Cc}{1,200}$/u, expected: 'one line of text, at most 200 characters' })),
          'What the alert says is to be done.',
        ),
      }),
      { key: /^[1-9]\d{0,3}$/, keyExpected: 'the number of an XID, such as "79"', max: MAX_XIDS },
    ),
    {},
    'Your own word on NVIDIA’s XIDs, by number; it overrides the catalogue and the driver.',
  ),
  loop: section(
    {
      max_depth: withDefault(number({ min: 1, max: 1_000_000, integer: true }), 10, 'Depth of a chain.'),
      max_iterations: withDefault(number({ min: 1, max: 1_000_000_000, integer: true }), 100, 'Iterations of a chain.'),
      max_steps_per_second: withDefault(
        number({ min: 0.1, max: 100_000 }),
        100,
        'Steps a second of one chain; a burst of a second’s worth passes.',
      ),
      repeats: withDefault(
        number({ min: 2, max: 1_000, integer: true }),
        5,
        'So often the same state of a chain within the window is a loop.',
      ),
      window: withDefault(number({ min: 1, max: 86_400 }), 60, 'Seconds in which equal states are counted.'),
      actions: section(
        {
          depth: withDefault(actions, ['circuit_break'], 'When a chain is deeper.'),
          iterations: withDefault(actions, ['reset_chain'], 'When a chain has iterated more often.'),
          rate: withDefault(actions, ['circuit_break'], 'When a chain takes its steps faster.'),
          repeats: withDefault(actions, ['circuit_break'], 'When a chain is in the same state again and again.'),
        },
        'What is done about a runaway chain: circuit_break, reset_chain, alert_human.',
      ),
      repair_repeats: withDefault(
        number({ min: 2, max: 100, integer: true }),
        6,
        'So often the same repair for the same trouble, with the same result, is a loop: it is not tried again until reset.',
      ),
      repair_window: withDefault(
        number({ min: 60, max: 604_800 }),
        21_600,
        'Seconds in which equal repairs are counted.',
      ),
    },
    'Runaway loops: synthesis chains that workloads report over MQTT, and SKOS’s own repairs.',
  ),
  repairs: section(
    {
      verify: withDefault(
        number({ min: 1, max: 3_600 }),
        60,
        'Seconds that a repair has to help; longer, and it counts as one that did not.',
      ),
      timeout: withDefault(
        number({ min: 1, max: 7_200, integer: true }),
        900,
        'Seconds that a unit which an action starts may take.',
      ),
      per_hour: withDefault(
        number({ min: 1, max: MAX_PER_HOUR, integer: true }),
        4,
        'Attempts of one action in any hour.',
      ),
      per_day: withDefault(number({ min: 1, max: MAX_PER_DAY, integer: true }), 12, 'And in any 24 hours.'),
      node_per_hour: withDefault(
        number({ min: 1, max: MAX_NODE_PER_DAY, integer: true }),
        12,
        'Attempts of all actions together in any hour.',
      ),
      node_per_day: withDefault(number({ min: 1, max: MAX_NODE_PER_DAY, integer: true }), 48, 'And in any 24 hours.'),
      interval: withDefault(
        number({ min: 1, max: 86_400 }),
        60,
        'Seconds between the end of an attempt and the next of the same action; doubled with each that fails in a row.',
      ),
      back_off: withDefault(number({ min: 1, max: 86_400 }), 3_600, 'Seconds that the doubled interval grows to.'),
    },
    'What restarts, deletes or moves something: never a cap.',
  ),
  maintenance: withDefault(
    list(maintenanceWindow, { max: MAX_WINDOWS }),
    [],
    'While one of these is open no repair begins by itself; caps, alerts and what you approve are not touched.',
  ),
  memory: section(
    {
      raise: withDefault(
        boolean,
        true,
        'What did not help on a rung before may begin a ladder on a higher one; false: it is only remembered.',
      ),
    },
    'What the node has learnt of its actions.',
  ),
  auto_allow: withDefault(actions, [], 'Restartable and irreversible actions that may run without approval.'),
  rules: withDefault(list(rule, { max: MAX_RULES }), [], 'Rules of your own.'),
  targets: withDefault(
    record(target, {
      key: TARGET_NAME,
      keyExpected: 'a name: lower-case letters, digits, "-" and "_", at most 56',
      max: MAX_TARGETS,
    }),
    {},
    'What actions may limit, freeze or restart, by name: limit_20@NAME.',
  ),
  hooks: withDefault(
    record(object({ unit: described(unit, 'The oneshot unit that is started.') }), {
      key: HOOK_NAME,
      keyExpected: 'a hook name: lower-case letters, digits and "_", at most 48',
    }),
    {},
    'Actions of your own, and what redistribute and failover do: the unit that is started.',
  ),
  workloads: withDefault(
    record(
      object({
        unit: described(unit, 'The unit that runs it.'),
        essential: withDefault(boolean, true, 'false: shutdown_non_essential may freeze and stop it.'),
        movable: withDefault(boolean, false, 'true: redistribute may move it.'),
        hosts: withDefault(list(nodeName), [], 'Nodes that can run it.'),
      }),
      { key: TARGET_NAME, keyExpected: 'a name: lower-case letters, digits, "-" and "_", at most 56' },
    ),
    {},
    'What runs on this node.',
  ),
  mesh: section(
    {
      listen: withDefault(nullable(listenAddress), null, 'Where peers connect, with mutual TLS; null: nowhere.'),
      tls: withDefault(nullable(object(certificates)), null, 'What mesh.listen presents and trusts.'),
      peers: withDefault(
        record(peer, { key: NODE_NAME, keyExpected: 'a node name' }),
        {},
        'Other nodes by name, each with the url of its mesh listener and certificate files.',
      ),
      actions: section(
        {
          tunnel_down: withDefault(
            actions,
            ['restart_wireguard', 'regenerate_wireguard_config'],
            'When a WireGuard tunnel is down.',
          ),
          peer_unreachable: withDefault(actions, ['ping_peer', 'failover_route'], 'When a peer cannot be reached.'),
        },
        'What is done about a broken mesh: the first action at once, the second when that was not enough, then the others.',
      ),
      escalate: withDefault(
        number({ min: 1, max: 86_400 }),
        30,
        'Seconds beyond heartbeat.timeout, for each further action about a silent peer.',
      ),
      keep: withDefault(seconds, 10, 'Seconds in which a peer is heard before one rung is released.'),
    },
    'The peers.',
  ),
  wireguard,
  routes: withDefault(
    record(route, {
      key: ROUTE_NAME,
      keyExpected: 'a name: lower-case letters, digits, "-" and "_", at most 32',
      max: MAX_ROUTES,
    }),
    {},
    'Routes that failover_route adds while a peer is lost, and takes away again.',
  ),
});

/** As written, with the defaults filled in. */
export type ConfigFile = Infer<typeof configShape>;
export type RuleConfig = ConfigFile['rules'][number];
export type TargetConfig = ConfigFile['targets'][string];
export type CleanupConfig = ConfigFile['storage']['cleanup'];
export type PlaceConfig = CleanupConfig['temp'][number];
export type LogPlaceConfig = CleanupConfig['logs'][number];
export type PeerConfig = ConfigFile['mesh']['peers'][string];
export type InterfaceConfig = ConfigFile['wireguard']['interfaces'][string];
export type RouteConfig = ConfigFile['routes'][string];

/** What programs are given: parsed once, checked, environment applied, frozen. */
export interface Config extends ConfigFile {
  readonly node: string;
}
