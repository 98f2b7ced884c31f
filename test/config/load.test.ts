import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { stringify } from 'yaml';
import { explainConfig } from '../../src/config/explain.js';
import { type LoadedConfig, loadConfig, nodeNameFromHost } from '../../src/config/load.js';
import { parseYaml } from '../../src/config/yaml-file.js';
import { SkosError } from '../../src/core/errors.js';

type Tap = typeof t;
type Files = Parameters<(typeof t)['testdir']>[0];

/** Loads skos.yaml of a directory that holds these files. */
async function load(
  t: Pick<Tap, 'testdir'>,
  files: Files,
  env: Readonly<Record<string, string>> = {},
): Promise<LoadedConfig> {
  const directory = t.testdir(files);
  return loadConfig({ file: join(directory, 'skos.yaml'), env, hostName: 'Nova-1.example.org' });
}

t.test('an empty file runs: every key has its default, as the public tables state it', async (t) => {
  const { config, notices } = await load(t, { 'skos.yaml': '' });
  t.match(config, {
    node: 'nova-1',
    role: 'gpu',
    mode: 'observe',
    data_dir: '/var/lib/skos',
    sampling: { rate_hz: 10 },
    mqtt: { listen: '127.0.0.1:1883', prefix: 'skos', url: null },
    http: { listen: '127.0.0.1:9735' },
    actuator: { mode: 'auto', socket: '/run/skos/actuator.sock' },
    log: { level: 'info' },
    heartbeat: { timeout: 30 },
    monitor: { interval: 0.1 },
    thermal: {
      thresholds: null,
      actions: {
        warning: ['throttle_10'],
        critical: ['throttle_50', 'redistribute'],
        emergency: ['shutdown_non_essential', 'failover'],
      },
      for: { seconds: 0, samples: 2 },
      keep: 10,
    },
    storage: { thresholds: { warning: 80, critical: 90, emergency: 95 } },
    loop: { max_depth: 10, max_iterations: 100 },
    mesh: { listen: null },
  });
  t.same(notices, []);
});

t.test('comments only, and a document marker only, are an empty file', async (t) => {
  for (const text of ['# nothing\n', '---\n', '\n\n', '\ufeff']) {
    t.equal((await load(t, { 'skos.yaml': text })).config.mode, 'observe');
  }
});

t.test('later files win: mappings merge, lists and words replace', async (t) => {
  const { config, files } = await load(t, {
    'skos.yaml': 'thermal: { keep: 3, hysteresis: 4 }\nauto_allow: [redistribute, failover]\nmode: propose\n',
    'conf.d': {
      '20-b.yaml': 'mode: auto\n',
      '10-a.yaml': 'thermal: { keep: 7 }\nauto_allow: [failover]\nmode: observe\n',
    },
  });
  t.match(config, { mode: 'auto', thermal: { keep: 7, hysteresis: 4 } });
  t.same(config.auto_allow, ['failover']);
  t.same(
    files.map((file) => file.split('/').at(-1)),
    ['skos.yaml', '10-a.yaml', '20-b.yaml'],
  );
});

t.test('only conf.d/*.yaml is read; another name is noticed, a hidden one is not', async (t) => {
  const { config, notices } = await load(t, {
    'skos.yaml': '',
    'conf.d': { 'a.yml': 'mode: auto\n', 'b.yaml.bak': 'mode: auto\n', '.c.yaml': 'mode: auto\n' },
  });
  t.equal(config.mode, 'observe');
  t.equal(notices.length, 2);
  t.match(notices.join(), /a\.yml.*b\.yaml\.bak/);
});

t.test('a file that anybody may write is noticed', async (t) => {
  const directory = t.testdir({ 'skos.yaml': '' });
  writeFileSync(join(directory, 'skos.yaml'), '', { mode: 0o666 });
  const { chmodSync } = await import('node:fs');
  chmodSync(join(directory, 'skos.yaml'), 0o666);
  const { notices } = await loadConfig({ file: join(directory, 'skos.yaml'), env: {}, hostName: 'a' });
  t.match(notices, [/chmod o-w/]);
});

t.test('says of what is written which part nothing obeys yet', async (t) => {
  const { notices } = await load(t, {
    'skos.yaml': 'role: gpu\nhttp:\n  listen: 127.0.0.1:9735\n',
  });
  t.match(notices, [/skos\.yaml:1.*role has no effect yet$/, /http has no effect yet$/]);
});

t.test('follows a link to the file', async (t) => {
  const directory = t.testdir({ 'real.yaml': 'mode: propose\n' });
  symlinkSync('real.yaml', join(directory, 'skos.yaml'));
  t.equal((await loadConfig({ file: join(directory, 'skos.yaml'), env: {} })).config.mode, 'propose');
});

t.test('the default file may be missing', async (t) => {
  const { config } = await loadConfig({ env: {}, hostName: 'lyra' });
  t.ok(config.node);
});

t.test('$SKOS_CONFIG names the file where the command line names none', async (t) => {
  const directory = t.testdir({ 'other.yaml': 'mode: propose\n', 'skos.yaml': 'mode: auto\n' });
  const env = { SKOS_CONFIG: join(directory, 'other.yaml') };
  t.equal((await loadConfig({ env })).config.mode, 'propose');
  t.equal((await loadConfig({ env, file: join(directory, 'skos.yaml') })).config.mode, 'auto');
});

t.test('the configuration cannot be changed', async (t) => {
  const { config } = await load(t, { 'skos.yaml': 'rules: [{ name: a, class: cpu, raise: 5 }]\n' });
  for (const part of [
    config,
    config.thermal,
    config.thermal.actions.warning,
    config.rules,
    config.rules[0],
    config.targets,
  ]) {
    t.ok(Object.isFrozen(part));
  }
});

t.test('anchors and aliases that a person writes are understood', async (t) => {
  const { config } = await load(t, {
    'skos.yaml': 'thermal:\n  for: &twice { samples: 4 }\nstorage:\n  for: *twice\n',
  });
  t.equal(config.storage.for.samples, 4);
});

t.test('the environment wins over every file', async (t) => {
  const env = {
    NODE_NAME: 'lyra',
    MQTT_URL: 'mqtt://broker:1883',
    HEARTBEAT_TIMEOUT: '12.5',
    MONITOR_INTERVAL: '0.5',
    LOG_LEVEL: 'WARNING',
  };
  const { config } = await load(
    t,
    { 'skos.yaml': 'node: nova\n', 'conf.d': { 'a.yaml': 'log: { level: trace }\n' } },
    env,
  );
  t.match(config, {
    node: 'lyra',
    mqtt: { url: 'mqtt://broker:1883' },
    heartbeat: { timeout: 12.5 },
    monitor: { interval: 0.5 },
    log: { level: 'warn' },
  });
});

t.test('log levels are taken as other programs write them', async (t) => {
  for (const [text, level] of [
    ['INFO', 'info'],
    ['Warning', 'warn'],
    ['warn', 'warn'],
    ['CRITICAL', 'fatal'],
    ['Debug', 'debug'],
  ] as const) {
    t.equal((await load(t, { 'skos.yaml': '' }, { LOG_LEVEL: text })).config.log.level, level);
  }
});

t.test('one temperature in the environment makes all three absolute', async (t) => {
  const alone = await load(t, { 'skos.yaml': '' }, { CRITICAL_TEMP: '80' });
  t.same(alone.config.thermal.thresholds, { warning: 75, critical: 80, emergency: 95 });
  const files = { 'skos.yaml': 'thermal: { thresholds: { warning: 60, critical: 70, emergency: 78.5 } }\n' };
  const beside = await load(t, files, { CRITICAL_TEMP: '75' });
  t.same(
    beside.config.thermal.thresholds,
    { warning: 60, critical: 75, emergency: 78.5 },
    "the others stay the file's",
  );
  const nothing = await load(t, { 'skos.yaml': 'thermal: { thresholds: null }\n' }, { WARNING_TEMP: '70' });
  t.same(nothing.config.thermal.thresholds, { warning: 70, critical: 85, emergency: 95 });
});

t.test('an empty variable counts as unset', async (t) => {
  const env = { NODE_NAME: '', MQTT_URL: ' ', NATS_URL: '', WARNING_TEMP: '', LOG_LEVEL: '', SKOS_CONFIG: '' };
  const { config } = await load(t, { 'skos.yaml': 'node: nova\n' }, env);
  t.match(config, { node: 'nova', mqtt: { url: null }, thermal: { thresholds: null }, log: { level: 'info' } });
});

t.test('a host name becomes a node name', async (t) => {
  for (const [host, node] of [
    ['nova', 'nova'],
    ['Nova.Example.org', 'nova'],
    ['gpu_01', 'gpu_01'],
    ['-a b+-', 'a-b'],
    ['', 'node'],
    ['+++', 'node'],
    ['x'.repeat(64), 'x'.repeat(63)],
    [`${'x'.repeat(62)}-y`, 'x'.repeat(62)],
  ] as const) {
    t.equal(nodeNameFromHost(host), node, host);
  }
});

t.test('says where a value in force was written', async (t) => {
  const { originOf } = await load(
    t,
    { 'skos.yaml': 'mode: auto\nthermal:\n  keep: 3\n', 'conf.d': { 'a.yaml': '# first\nthermal: { keep: 4 }\n' } },
    { LOG_LEVEL: 'debug' },
  );
  t.match(originOf(['mode']), /skos\.yaml:1$/);
  t.match(originOf(['thermal', 'keep']), /a\.yaml:2$/);
  t.equal(originOf(['log', 'level']), 'environment LOG_LEVEL');
  t.equal(originOf(['thermal', 'hysteresis']), 'default');
  t.equal(originOf(['no', 'such']), 'default');
});

// ---- explain -------------------------------------------------------------------------------------------------------

t.test('every key is explained with a sentence', async (t) => {
  const keys = explainConfig(await load(t, { 'skos.yaml': '' }));
  t.ok(keys.length > 80);
  for (const { key, doc, expected } of keys) t.ok(doc !== '' && expected !== '', key);
  t.equal(new Set(keys.map(({ key }) => key)).size, keys.length);
});

t.test('what is explained as in force, written down again, is the same configuration', async (t) => {
  const loaded = await load(t, {
    'skos.yaml': stringify({
      node: 'nova',
      thermal: { thresholds: { warning: 60, critical: 70, emergency: 80 }, keep: 3 },
      rules: [{ name: 'a', class: 'cpu', raise: 70, actions: ['limit_20@demo'] }],
      targets: { demo: { cgroup: 'a/b' } },
      mesh: { peers: { lyra: { url: 'mqtt://127.0.0.1:1884' } } },
    }),
  });
  const written: Record<string, unknown> = {};
  for (const { key, value, section } of explainConfig(loaded)) {
    if (value !== undefined && !section && !key.startsWith('thermal.thresholds.'))
      put(written, key.split('.'), JSON.parse(value));
  }
  const again = await load(t, { 'skos.yaml': stringify(written) });
  t.same(again.config, loaded.config);
});

t.test('the defaults that are explained are the defaults', async (t) => {
  for (const { key, default: fallback, value } of explainConfig(await load(t, { 'skos.yaml': '' }))) {
    if (value !== undefined && key !== 'node') t.equal(value, fallback, key);
  }
});

function put(into: Record<string, unknown>, [key = '', ...rest]: string[], value: unknown): void {
  if (rest.length === 0) into[key] = value;
  else {
    into[key] ??= {};
    put(into[key] as Record<string, unknown>, rest, value);
  }
}

t.test('explains one key, a section, and keys of entries by the names that were written', async (t) => {
  const loaded = await load(t, { 'skos.yaml': 'thermal: { keep: 3 }\n' });
  const names = (key: string) => explainConfig(loaded, key).map((each) => each.key);
  t.same(names('thermal.keep'), ['thermal.keep']);
  t.match(explainConfig(loaded, 'thermal.keep'), [{ value: '3', default: '10', origin: /skos\.yaml:1$/ }]);
  t.ok(names('thermal').includes('thermal.for.samples'));
  t.same(names('targets.demo.cgroup'), ['targets.NAME.cgroup']);
  t.same(names('rules[0].raise'), ['rules[].raise']);
  t.same(names('mesh.peers.lyra.url'), ['mesh.peers.NAME.url']);
});

t.test('a key that is not there is refused with the nearest', async (t) => {
  const loaded = await load(t, { 'skos.yaml': '' });
  t.throws(() => explainConfig(loaded, 'thermal.keeep'), {
    code: 'SKOS_CLI_USAGE',
    message: /did you mean thermal\.keep\?/,
  });
  t.throws(() => explainConfig(loaded, '__proto__'), { code: 'SKOS_CLI_USAGE' });
});

// ---- Whatever is in the file ---------------------------------------------------------------------------------------

t.test('any bytes are either a configuration or a refusal with a place', async (t) => {
  const directory = t.testdir({});
  mkdirSync(join(directory, 'any'));
  const file = join(directory, 'any/skos.yaml');
  const yamlish = fc.array(
    fc.constantFrom(
      'mode',
      ':',
      ' ',
      '\n',
      '  ',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '&a',
      '*a',
      '!!',
      '"',
      "'",
      '|',
      '>',
      '#',
      '?',
      '0x1',
      'rules',
      ',',
      '\t',
      '%',
      '---',
      'é',
      '\0',
    ),
    { maxLength: 30 },
  );
  const text = fc.oneof(
    yamlish.map((each) => each.join('')),
    fc.string(),
    fc.json(),
    fc.string({ unit: 'binary' }),
  );
  await fc.assert(
    fc.asyncProperty(text, async (each) => {
      writeFileSync(file, each);
      try {
        await loadConfig({ file, env: {}, hostName: 'a' });
      } catch (error) {
        if (!(error instanceof SkosError)) throw error;
        if (!error.message.startsWith(file)) throw new Error(`no place: ${error.message}`);
      }
    }),
    { numRuns: 1000 },
  );
});

t.test('any keys and values of any kind are either taken or refused', async () => {
  const key = fc.oneof(
    fc.constantFrom('mode', 'thermal', 'rules', 'targets', 'mesh', 'peers', 'keep', '__proto__', 'toString'),
    fc.string(),
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom<unknown>(null, true, 'auto', '', 5, -1, 1e308),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(key, tie('tree'), { maxKeys: 4 }),
    ),
  }));
  fc.assert(
    fc.property(tree, (each) => {
      const parsed = parseYaml('x.yaml', stringify(each));
      return 'raw' in parsed || parsed.issues.length > 0;
    }),
    { numRuns: 500 },
  );
});
