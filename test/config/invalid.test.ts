/**
 * Every kind of invalid configuration: refused with its code, its place and a hint. One row each; `at` is line:column.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadConfig } from '../../src/config/load.js';
import { SkosError } from '../../src/core/errors.js';

interface Case {
  readonly title: string;
  readonly yaml: string | Buffer;
  readonly env?: Readonly<Record<string, string>>;
  readonly code?: string;
  /** "line:column" in the file, or "environment NAME". */
  readonly at: string;
  /** Text that the line of the message holds: the key, what was expected, the suggestion. */
  readonly says: readonly string[];
}

const TUNNEL_KEY = `${'A'.repeat(43)}=`;

const CASES: readonly Case[] = [
  { title: 'an unknown top-level key', yaml: 'moed: auto\n', at: '1:1', says: ['moed', 'did you mean mode?'] },
  {
    title: 'an unknown key with no neighbour',
    yaml: 'xyzzy: 1\n',
    at: '1:1',
    says: ['unknown key', 'known keys: node, role'],
  },
  {
    title: 'an unknown nested key',
    yaml: 'thermal:\n  hysteresys: 5\n',
    at: '2:3',
    says: ['did you mean hysteresis?'],
  },
  { title: 'a key of another section', yaml: 'sampling:\n  keep: 5\n', at: '2:3', says: ['unknown key "keep"'] },
  { title: 'a merge key', yaml: 'a: &a {keep: 3}\nthermal:\n  <<: *a\n', at: '3:3', says: ['unknown key "<<"'] },
  { title: '__proto__ as a key', yaml: '__proto__: {mode: auto}\n', at: '1:1', says: ['unknown key "__proto__"'] },
  {
    title: 'constructor as a target',
    yaml: 'rules: [{name: a, class: cpu, raise: 1, actions: ["freeze@constructor"]}]\n',
    at: '1:51',
    says: ['no target "constructor"'],
  },
  {
    title: 'a wrong word',
    yaml: 'mode: atuo\n',
    at: '1:7',
    says: ['mode', 'one of observe, propose, auto', 'did you mean auto?'],
  },
  { title: 'a word in the wrong case', yaml: 'mode: AUTO\n', at: '1:7', says: ['did you mean auto?'] },
  { title: 'a list where a word belongs', yaml: 'mode: [auto]\n', at: '1:7', says: ['["auto"] is not one of'] },
  {
    title: 'a window that is half single and half weekly',
    yaml: 'maintenance:\n  - { name: a, from: 2026-01-01T00:00, day: mon }\n',
    at: '2:5',
    says: ['is no whole window', 'either from and to, or day, time and minutes'],
  },
  {
    title: 'a window that ends before it begins',
    yaml: 'maintenance:\n  - { name: a, from: 2026-01-02T00:00, to: 2026-01-01T00:00 }\n',
    at: '2:44',
    says: ['is not after from'],
  },
  {
    title: 'a window on a day that there is not',
    yaml: 'maintenance:\n  - { name: a, from: 2026-02-30T00:00Z, to: 2026-03-02T00:00Z }\n',
    at: '2:22',
    says: ['no moment of the calendar'],
  },
  {
    title: 'a time of day that there is not',
    yaml: 'maintenance:\n  - { name: a, day: mon, time: 24:00, minutes: 10 }\n',
    at: '2:32',
    says: ['a time of day such as "22:30"'],
  },
  {
    title: 'a budget of a day that is less than that of an hour',
    yaml: 'repairs: { per_hour: 20 }\n',
    at: '1:1',
    says: ['12 is less than per_hour (20)'],
  },
  {
    title: 'text where a number belongs',
    yaml: 'thermal:\n  keep: soon\n',
    at: '2:9',
    says: ['"soon" is not a number from 0 to 86400'],
  },
  { title: 'a quoted number', yaml: 'sampling: { rate_hz: "10" }\n', at: '1:22', says: ['a number from 0.1 to 1000'] },
  {
    title: 'a number out of range',
    yaml: 'sampling: { rate_hz: 5000 }\n',
    at: '1:22',
    says: ['5000', 'from 0.1 to 1000'],
  },
  { title: 'not a number', yaml: 'thermal: { keep: .nan }\n', at: '1:18', says: ['a number from 0 to 86400'] },
  { title: 'an infinite number', yaml: 'thermal: { keep: .inf }\n', at: '1:18', says: ['a number from 0 to 86400'] },
  {
    title: 'a fraction of a sample',
    yaml: 'thermal: { for: { samples: 1.5 } }\n',
    at: '1:28',
    says: ['an integer from 1 to 1000'],
  },
  { title: 'a number as the node name', yaml: 'node: 12\n', at: '1:7', says: ['12 is not a node name'] },
  { title: 'an upper-case node name', yaml: 'node: Nova\n', at: '1:7', says: ['"Nova" is not a node name'] },
  { title: 'a node name with a wildcard', yaml: 'node: "no/#"\n', at: '1:7', says: ['a node name'] },
  { title: 'a relative path', yaml: 'data_dir: skos\n', at: '1:11', says: ['an absolute path'] },
  { title: 'a section that is a word', yaml: 'thermal: hot\n', at: '1:10', says: ['"hot" is not a mapping'] },
  {
    title: 'a section left empty',
    yaml: 'thermal:\nmode: auto\n',
    at: '1:',
    says: ['thermal', 'null is not a mapping'],
  },
  { title: 'a file that is a list', yaml: '- mode: auto\n', at: '1:1', says: ['is not a mapping'] },
  { title: 'a file that is one word', yaml: 'auto\n', at: '1:1', says: ['"auto" is not a mapping'] },
  {
    title: 'a missing threshold',
    yaml: 'thermal:\n  thresholds: { warning: 70, critical: 80 }\n',
    at: '2:3',
    says: ['thermal.thresholds.emergency', 'is missing'],
  },
  {
    title: 'thresholds that do not ascend',
    yaml: 'thermal:\n  thresholds: { warning: 70, critical: 90, emergency: 90 }\n',
    at: '2:55',
    says: ['not above critical (90)', 'warning < critical < emergency'],
  },
  {
    title: 'storage thresholds upside down',
    yaml: 'storage:\n  thresholds:\n    warning: 97\n',
    at: '2:',
    says: ['storage.thresholds.critical', 'warning < critical'],
  },
  {
    title: 'a hysteresis that never clears',
    yaml: 'storage: { hysteresis: 80 }\n',
    at: '1:24',
    says: ['can never be reached'],
  },
  { title: 'a hysteresis of nothing', yaml: 'thermal: { hysteresis: 0 }\n', at: '1:24', says: ['from 0.1 to 100'] },
  {
    title: 'an unknown action',
    yaml: 'thermal: { actions: { warning: [throtle_10] } }\n',
    at: '1:33',
    says: ['thermal.actions.warning[0]', 'did you mean throttle_10?'],
  },
  {
    title: 'an action with a swapped letter and a target',
    yaml: 'auto_allow: ["fereze@demo"]\n',
    at: '1:14',
    says: ['did you mean freeze@demo?'],
  },
  { title: 'throttling everything away', yaml: 'auto_allow: [throttle_100]\n', at: '1:14', says: ['from 1 to 99'] },
  { title: 'throttling nothing', yaml: 'auto_allow: [throttle_0]\n', at: '1:14', says: ['from 1 to 99'] },
  { title: 'a limit without a target', yaml: 'auto_allow: [limit_20]\n', at: '1:14', says: ['needs a target'] },
  {
    title: 'a limit on no known target',
    yaml: 'auto_allow: ["limit_20@dmo"]\ntargets: { demo: { cgroup: a } }\n',
    at: '1:14',
    says: ['no target "dmo"', 'did you mean @demo?'],
  },
  {
    title: 'restarting a cgroup',
    yaml: 'auto_allow: ["restart_unit@a"]\ntargets: { a: { cgroup: b } }\n',
    at: '1:14',
    says: ['expected a target with unit'],
  },
  {
    title: 'an action in no form',
    yaml: 'auto_allow: ["rm -rf /"]\n',
    at: '1:14',
    says: ['an action such as throttle_50'],
  },
  {
    title: 'too many actions on a rung',
    yaml: `auto_allow: [${Array(17).fill('alert_human').join(', ')}]\n`,
    at: '1:13',
    says: ['a list of at most 16'],
  },
  {
    title: 'a rule that watches nothing',
    yaml: 'rules:\n  - name: a\n    raise: 5\n',
    at: '2:5',
    says: ['rules[0]', 'either channel or class'],
  },
  {
    title: 'a rule that watches two things',
    yaml: 'rules:\n  - { name: a, raise: 5, class: cpu, channel: "x/y/z" }\n',
    at: '2:33',
    says: ['either channel or class'],
  },
  {
    title: 'a rule without a name',
    yaml: 'rules:\n  - { raise: 5, class: cpu }\n',
    at: '2:5',
    says: ['rules[0].name', 'is missing'],
  },
  {
    title: 'a rule without a bound',
    yaml: 'rules:\n  - { name: a, class: cpu }\n',
    at: '2:5',
    says: ['rules[0].raise', 'is missing'],
  },
  {
    title: 'a clear bound outside',
    yaml: 'rules:\n  - { name: a, class: cpu, raise: 5, clear: 5 }\n',
    at: '2:45',
    says: ['5 is not inside raise (5)'],
  },
  {
    title: 'a bound beyond all measure',
    yaml: 'rules: [{ name: a, class: cpu, raise: 1e300 }]\n',
    at: '1:39',
    says: ['rules[0].raise'],
  },
  {
    title: 'two rules of one name',
    yaml: 'rules:\n  - { name: a, class: cpu, raise: 5 }\n  - { name: a, class: gpu, raise: 5 }\n',
    at: '3:13',
    says: ['already the name of rules[0]'],
  },
  {
    title: 'a rule with a built-in name',
    yaml: 'rules: [{ name: thermal-cpu, class: cpu, raise: 5 }]\n',
    at: '1:17',
    says: ['built-in rule'],
  },
  {
    title: 'a rule of an unknown class',
    yaml: 'rules: [{ name: a, class: cpus, raise: 5 }]\n',
    at: '1:27',
    says: ['did you mean cpu?'],
  },
  {
    title: 'a glob with a space',
    yaml: 'rules: [{ name: a, channel: "h w", raise: 5 }]\n',
    at: '1:29',
    says: ['a channel id or glob'],
  },
  {
    title: 'a standing order that holds nothing',
    yaml: 'rules: [{ name: a, class: cpu, raise: 5, standing: true, actions: [alert_human] }]\n',
    at: '1:52',
    says: ['expected throttle_N'],
  },
  { title: 'a target that names nothing', yaml: 'targets:\n  a: {}\n', at: '2:6', says: ['either cgroup or unit'] },
  {
    title: 'a target that names two things',
    yaml: 'targets:\n  a: { cgroup: b, unit: c.service }\n',
    at: '2:25',
    says: ['expected either'],
  },
  { title: 'a cgroup that climbs out', yaml: 'targets:\n  a: { cgroup: ../b }\n', at: '2:16', says: ['".."'] },
  { title: 'a cgroup with a blank', yaml: 'targets:\n  a: { cgroup: "b c" }\n', at: '2:16', says: ['without blanks'] },
  {
    title: 'a cgroup with a line break',
    yaml: 'targets:\n  a: { cgroup: "b\\ntarget x" }\n',
    at: '2:16',
    says: ['without blanks'],
  },
  {
    title: 'the root of all cgroups',
    yaml: 'targets:\n  a: { cgroup: / }\n',
    at: '2:16',
    says: ['expected one below it'],
  },
  {
    title: 'two names for one cgroup',
    yaml: 'targets:\n  a: { cgroup: /b/c }\n  d: { cgroup: b//c/ }\n',
    at: '3:16',
    says: ['the same cgroup as targets.a'],
  },
  {
    title: 'a target with an impossible name',
    yaml: 'targets:\n  "a b": { cgroup: c }\n',
    at: '2:3',
    says: ['targets."a b"', 'a name'],
  },
  {
    title: 'a unit under two names',
    yaml: 'targets:\n  a: { unit: x.service }\n  b: { unit: x.service }\n',
    at: '3:14',
    says: ['targets.a too'],
  },
  {
    title: 'a unit and its cgroup',
    yaml: 'targets:\n  a: { unit: x.service }\n  b: { cgroup: system.slice/x.service }\n',
    at: '3:16',
    says: ['x.service', 'targets.a'],
  },
  {
    title: 'a unit without which nothing is taken back',
    yaml: 'workloads:\n  a: { unit: skos-actuator.service }\n',
    at: '2:14',
    says: ['skos-actuator.service', 'another unit'],
  },
  {
    title: 'a cgroup without which nothing is taken back',
    yaml: 'targets:\n  a: { cgroup: skos.slice/skos-actuator.service }\n',
    at: '2:16',
    says: ['skos-actuator.service', 'another cgroup'],
  },
  {
    title: 'the slice of all services, however it is spelled',
    yaml: 'targets:\n  a: { cgroup: /system.slice/ }\n',
    at: '2:16',
    says: ['system.slice', 'another cgroup'],
  },
  {
    title: 'a workload and its cgroup',
    yaml: 'workloads:\n  w: { unit: x.service }\ntargets:\n  b: { cgroup: system.slice/x.service }\n',
    at: '4:16',
    says: ['x.service', 'workloads.w'],
  },
  {
    title: 'a hook that cannot be started',
    yaml: 'hooks:\n  drain: { unit: x.slice }\n',
    at: '2:18',
    says: ['expected a .service'],
  },
  {
    title: 'a name that makes too long an id',
    yaml: `workloads:\n  ${'a'.repeat(48)}: { unit: x.service }\n`,
    at: '2:53',
    says: ['48 characters', 'at most 47'],
  },
  {
    title: 'a unit that is no unit',
    yaml: 'targets:\n  a: { unit: sshd }\n',
    at: '2:14',
    says: ['a systemd unit such as x.service'],
  },
  {
    title: 'a hook that hides an action',
    yaml: 'hooks:\n  alert_human: { unit: a.service }\n',
    at: '2:16',
    says: ['a built-in action'],
  },
  {
    title: 'an XID that is no number',
    yaml: 'xid:\n  seventy: { severity: none }\n',
    at: '2:3',
    says: ['xid.seventy', 'the number of an XID'],
  },
  {
    title: 'an XID as severe as nothing is',
    yaml: 'xid:\n  "79": { severity: fatal }\n',
    at: '2:21',
    says: ['xid.79.severity'],
  },
  {
    title: 'MQTT open to the network',
    yaml: 'mqtt: { listen: "0.0.0.0:1883" }\n',
    at: '1:17',
    says: ['not a loopback address', 'mesh.listen'],
  },
  {
    title: 'MQTT on a name like localhost',
    yaml: 'mqtt: { listen: "127.0.0.1.example.org:1883" }\n',
    at: '1:17',
    says: ['not a loopback address'],
  },
  {
    title: 'a port beyond 65535',
    yaml: 'http: { listen: "127.0.0.1:65536" }\n',
    at: '1:17',
    says: ['port 65536 is not from 1 to 65535'],
  },
  { title: 'port 0', yaml: 'http: { listen: "127.0.0.1:0" }\n', at: '1:17', says: ['port 0 is not'] },
  {
    title: 'an address without a port',
    yaml: 'mqtt: { listen: 127.0.0.1 }\n',
    at: '1:17',
    says: ['an address and port such as'],
  },
  {
    title: 'two listeners on one port',
    yaml: 'http: { listen: "127.0.0.1:1883" }\n',
    at: '1:17',
    says: ['taken by mqtt.listen'],
  },
  { title: 'a prefix with a slash', yaml: 'mqtt: { prefix: a/b }\n', at: '1:17', says: ['one topic level'] },
  {
    title: 'a peer in the clear',
    yaml: 'mesh: { peers: { lyra: { url: "mqtt://10.0.0.2:1883" } } }\n',
    at: '1:31',
    says: ['mqtts://'],
  },
  {
    title: 'a peer with half its certificates',
    yaml: 'mesh:\n  peers:\n    lyra: { url: "mqtts://10.0.0.2:8883", ca: /a }\n',
    at: '3:11',
    says: ['mesh.peers.lyra', 'lacks cert, key'],
  },
  {
    title: 'a peer on no port',
    yaml: 'mesh: { peers: { lyra: { url: "mqtt://127.0.0.1:99999" } } }\n',
    at: '1:31',
    says: ['port 99999'],
  },
  {
    title: 'a node that is its own peer',
    yaml: 'node: nova\nmesh: { peers: { nova: { url: "mqtt://127.0.0.1:2" } } }\n',
    at: '2:24',
    says: ['this node itself'],
  },
  {
    title: 'a mesh listener without certificates',
    yaml: 'mesh: { listen: "0.0.0.0:8883" }\n',
    at: '1:17',
    says: ['needs mesh.tls'],
  },
  {
    title: 'a mesh certificate alone',
    yaml: 'mesh: { tls: { ca: /a } }\n',
    at: '1:9',
    says: ['mesh.tls.cert', 'is missing'],
  },
  { title: 'a tab as indentation', yaml: 'thermal:\n\tkeep: 3\n', code: 'SKOS_CONFIG_SYNTAX', at: '2:', says: ['tab'] },
  {
    title: 'a duplicate key',
    yaml: 'mode: observe\nmode: auto\n',
    code: 'SKOS_CONFIG_SYNTAX',
    at: '2:1',
    says: ['unique'],
  },
  { title: 'an open bracket', yaml: 'rules: [\n', code: 'SKOS_CONFIG_SYNTAX', at: '', says: [''] },
  {
    title: 'two documents',
    yaml: 'mode: auto\n---\nmode: observe\n',
    code: 'SKOS_CONFIG_SYNTAX',
    at: '2:1',
    says: ['document'],
  },
  { title: 'an unknown tag', yaml: 'mode: !secret auto\n', code: 'SKOS_CONFIG_SYNTAX', at: '1:7', says: ['secret'] },
  { title: 'an alias to nothing', yaml: 'mode: *none\n', code: 'SKOS_CONFIG_SYNTAX', at: '1:7', says: ['none'] },
  { title: 'a mapping as a key', yaml: '{ {a: b}: c }\n', code: 'SKOS_CONFIG_SYNTAX', at: '1:', says: ['plain word'] },
  { title: 'an anchor that holds itself', yaml: 'a: &a [*a]\n', code: 'SKOS_CONFIG_SYNTAX', at: '1:', says: [''] },
  { title: 'a billion laughs', yaml: laughs(), code: 'SKOS_CONFIG_SYNTAX', at: '', says: ['more than'] },
  {
    title: 'a thousand nested brackets',
    yaml: '['.repeat(1000) + ']'.repeat(1000),
    code: 'SKOS_CONFIG_SYNTAX',
    at: '1:',
    says: ['nested'],
  },
  {
    title: 'a hundred thousand nested brackets',
    yaml: '['.repeat(100_000),
    code: 'SKOS_CONFIG_SYNTAX',
    at: '1:',
    says: [''],
  },
  {
    title: 'bytes that are not UTF-8',
    yaml: Buffer.from([0x6d, 0xff, 0xfe]),
    code: 'SKOS_CONFIG_UNREADABLE',
    at: '',
    says: ['UTF-8'],
  },
  {
    title: 'a file beyond one MiB',
    yaml: Buffer.alloc(1024 * 1024 + 1, '#'),
    code: 'SKOS_CONFIG_UNREADABLE',
    at: '',
    says: ['larger than'],
  },
  {
    title: 'NATS_URL',
    yaml: '',
    env: { NATS_URL: 'nats://localhost:4222' },
    at: 'environment NATS_URL',
    says: ['MQTT_URL'],
  },
  {
    title: 'MQTT_URL with the scheme of NATS',
    yaml: '',
    env: { MQTT_URL: 'nats://localhost:4222' },
    at: 'environment MQTT_URL',
    says: ['mqtt://'],
  },
  {
    title: 'a time-out that is a word',
    yaml: '',
    env: { HEARTBEAT_TIMEOUT: 'soon' },
    at: 'environment HEARTBEAT_TIMEOUT',
    says: ['"soon"', 'from 1 to 86400'],
  },
  {
    title: 'a time-out in hexadecimal',
    yaml: '',
    env: { HEARTBEAT_TIMEOUT: '0x10' },
    at: 'environment HEARTBEAT_TIMEOUT',
    says: ['"0x10"'],
  },
  {
    title: 'an interval of nothing',
    yaml: '',
    env: { MONITOR_INTERVAL: '0' },
    at: 'environment MONITOR_INTERVAL',
    says: ['0.01'],
  },
  {
    title: 'a temperature with its unit',
    yaml: '',
    env: { WARNING_TEMP: '75C' },
    at: 'environment WARNING_TEMP',
    says: ['"75C"'],
  },
  {
    title: 'a warning above the critical default',
    yaml: '',
    env: { WARNING_TEMP: '90' },
    at: 'environment WARNING_TEMP',
    says: ['thermal.thresholds.critical', 'not above warning (90)'],
  },
  {
    title: 'an unknown log level',
    yaml: '',
    env: { LOG_LEVEL: 'verbose' },
    at: 'environment LOG_LEVEL',
    says: ['one of trace'],
  },
  {
    title: 'a node name from the environment',
    yaml: 'node: nova\n',
    env: { NODE_NAME: 'No va' },
    at: 'environment NODE_NAME',
    says: ['a node name'],
  },
  {
    title: 'an interface that could not stand in the id of a job',
    yaml: 'wireguard:\n  interfaces: { Wg.0: {} }\n',
    at: '2:17',
    says: ['the name of an interface'],
  },
  {
    title: 'a public key that is none',
    yaml: 'wireguard:\n  interfaces: { wg0: { peers: { lyra: { key: abc } } } }\n',
    at: '2:46',
    says: ['a public key as `wg show` prints it'],
  },
  {
    title: 'a bound that a sound tunnel would exceed',
    yaml: 'wireguard: { stale: 100 }\n',
    at: '1:21',
    says: ['a number from 130'],
  },
  {
    title: 'one name for peers of two tunnels',
    yaml: `wireguard:\n  interfaces:\n    a: { peers: { lyra: { key: "${TUNNEL_KEY}" } } }\n    b: { peers: { lyra: { key: "${TUNNEL_KEY}" } } }\n`,
    at: '4:25',
    says: ['is a peer of a already'],
  },
  {
    title: 'keys without a template',
    yaml: 'wireguard:\n  interfaces: { wg0: { keys: /etc/keys } }\n',
    at: '2:30',
    says: ['are of no use without template'],
  },
  {
    title: 'a route that leads nowhere',
    yaml: 'mesh: { peers: { lyra: { url: "mqtt://[::1]:1" } } }\nroutes: { spare: { peers: [lyra], destination: default, metric: 1 } }\n',
    at: '2:18',
    says: ['expected via, dev or both'],
  },
  {
    title: 'a route between two families',
    yaml: 'mesh: { peers: { lyra: { url: "mqtt://[::1]:1" } } }\nroutes: { spare: { peers: [lyra], destination: 10.0.0.0/8, via: "fe80::1", metric: 1 } }\n',
    at: '2:65',
    says: ['of two families'],
  },
  {
    title: 'a route for nobody',
    yaml: 'routes: { spare: { peers: [], destination: default, dev: eth0, metric: 1 } }\n',
    at: '1:27',
    says: ['expected the peers whose loss calls for it'],
  },
  {
    title: 'a route for a peer that is not there',
    yaml: 'mesh: { peers: { lyra: { url: "mqtt://[::1]:1" } } }\nroutes: { spare: { peers: [lira], destination: default, dev: eth0, metric: 1 } }\n',
    at: '2:28',
    says: ['no peer "lira"', 'did you mean lyra?'],
  },
];

/** Nine anchors of ten aliases each: 10⁹ nodes when expanded. */
function laughs(): string {
  const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 9; i++)
    lines.push(
      `a${i}: &a${i} [${Array(10)
        .fill(`*a${i - 1}`)
        .join(', ')}]`,
    );
  return `${lines.join('\n')}\n`;
}

async function refusal(file: string, env: Readonly<Record<string, string>> = {}): Promise<SkosError> {
  try {
    await loadConfig({ file, env, hostName: 'testnode' });
  } catch (error) {
    if (error instanceof SkosError) return error;
    throw error;
  }
  throw new Error('the configuration was accepted');
}

for (const { title, yaml, env, code = 'SKOS_CONFIG_INVALID', at, says } of CASES) {
  t.test(`refuses ${title}`, async (t) => {
    const file = join(t.testdir({ 'skos.yaml': yaml }), 'skos.yaml');
    const error = await refusal(file, env);
    t.equal(error.code, code, error.message);
    const place = at.startsWith('environment') ? `${at}: ` : at === '' ? file : `${file}:${at}`;
    const line = error.message
      .split('\n')
      .find((each) => each.startsWith(place) && says.every((word) => each.includes(word)));
    t.ok(line, `${place} … ${says.join(' … ')} in:\n${error.message}`);
  });
}

t.test('reports everything that is wrong at once, in the order of files and lines', async (t) => {
  const directory = t.testdir({
    'skos.yaml': 'mode: atuo\nthermal: { keep: x }\nrules: [{ name: a, raise: 5 }]\n',
    'conf.d': { '10-a.yaml': 'log: { level: loud }\n' },
  });
  const { message } = await refusal(join(directory, 'skos.yaml'), { HEARTBEAT_TIMEOUT: 'x' });
  const places = message.split('\n').map((line) => line.replace(`${directory}/`, '').split(': ')[0]);
  t.same(places, [
    'skos.yaml:1:7',
    'skos.yaml:2:18',
    'skos.yaml:3:9',
    'conf.d/10-a.yaml:1:15',
    'environment HEARTBEAT_TIMEOUT',
  ]);
});

t.test('reports syntax errors of several files at once', async (t) => {
  const directory = t.testdir({ 'skos.yaml': 'a: [\n', 'conf.d': { 'a.yaml': 'b: "\n' } });
  const error = await refusal(join(directory, 'skos.yaml'));
  t.equal(error.code, 'SKOS_CONFIG_SYNTAX');
  t.match(error.message, /skos\.yaml:.*a\.yaml:/s);
});

t.test('stops after fifty issues and says how many there are', async (t) => {
  const yaml = Array.from({ length: 80 }, (_, i) => `unknown${i}: 1\n`).join('');
  const { message } = await refusal(join(t.testdir({ 'skos.yaml': yaml }), 'skos.yaml'));
  t.equal(message.split('\n').length, 51);
  t.match(message, /and 30 more$/);
});

t.test('repeats no more than a line of a wrong value', async (t) => {
  const { message } = await refusal(join(t.testdir({ 'skos.yaml': `mode: ${'x'.repeat(10_000)}\n` }), 'skos.yaml'));
  t.ok(message.length < 1000);
});

t.test('refuses a file that was named and is not there', async (t) => {
  const file = join(t.testdir(), 'none.yaml');
  t.equal((await refusal(file)).code, 'SKOS_CONFIG_UNREADABLE');
  await t.rejects(loadConfig({ env: { SKOS_CONFIG: file } }), { code: 'SKOS_CONFIG_UNREADABLE' });
});

t.test('refuses a directory in the place of the file', async (t) => {
  t.equal((await refusal(t.testdir())).code, 'SKOS_CONFIG_UNREADABLE');
});

t.test('refuses a device in the place of the file, without reading it', async (t) => {
  t.equal((await refusal('/dev/zero')).code, 'SKOS_CONFIG_UNREADABLE');
});

t.test(
  'refuses a drop-in that cannot be read',
  { skip: process.getuid?.() === 0 ? 'root reads everything' : false },
  async (t) => {
    const directory = t.testdir({ 'skos.yaml': '', 'conf.d': { 'a.yaml': '' } });
    chmodSync(join(directory, 'conf.d/a.yaml'), 0);
    t.equal((await refusal(join(directory, 'skos.yaml'))).code, 'SKOS_CONFIG_UNREADABLE');
  },
);

t.test('refuses a drop-in that is a directory', async (t) => {
  const directory = t.testdir({ 'skos.yaml': '' });
  mkdirSync(join(directory, 'conf.d/a.yaml'), { recursive: true });
  t.equal((await refusal(join(directory, 'skos.yaml'))).code, 'SKOS_CONFIG_UNREADABLE');
});

t.test('refuses a drop-in directory with hundreds of files', async (t) => {
  const directory = t.testdir({ 'skos.yaml': '', 'conf.d': {} });
  for (let i = 0; i < 257; i++) writeFileSync(join(directory, `conf.d/${i}.yaml`), '');
  t.equal((await refusal(join(directory, 'skos.yaml'))).code, 'SKOS_CONFIG_UNREADABLE');
});
