import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Outcome } from '../../src/acts/act.js';
import type { CommandResult } from '../../src/acts/command.js';
import { regenerateWireguard, regenerateWireguardList } from '../../src/acts/regenerate-wireguard-config.js';
import { configOf } from '../fixtures/antibodies.js';
import { privateKey, publicKey } from '../fixtures/wireguard.js';

const TEMPLATE = `[Interface]
PrivateKey = {{own}}
Address = 10.78.0.1/24
[Peer]
PublicKey = ${publicKey(1)}
PresharedKey = {{ lyra-psk }}
AllowedIPs = 10.78.0.2/32
PersistentKeepalive = 25
`;
const OK: CommandResult = { status: 0, stdout: '', stderr: '' };

function place(t: Test, { template = TEMPLATE, former }: { template?: string; former?: string } = {}) {
  const directory = t.testdir({ etc: {} });
  const keys = { own: privateKey(), psk: privateKey() };
  const paths = {
    template: join(directory, 'wg0.template'),
    keys: join(directory, 'wg0.keys'),
    config: join(directory, 'etc/wg0.conf'),
  };
  writeFileSync(paths.template, template, { mode: 0o644 });
  writeFileSync(paths.keys, `# ours\nown = ${keys.own}\nlyra-psk=${keys.psk}\n`, { mode: 0o600 });
  if (former !== undefined) writeFileSync(paths.config, former, { mode: 0o600 });
  const config = configOf({ wireguard: { interfaces: { wg0: paths } } });
  const ran: string[] = [];
  const answers: Record<string, CommandResult[]> = {};
  let wallMs = Date.UTC(2026, 0, 1);
  const context = {
    args: ['wg0'],
    env: {},
    config: async () => config,
    run: async (command: string, args: readonly string[]) => {
      ran.push([command, ...args.map((arg) => arg.replace(/.*\/(?=wg0\.conf$)/, ''))].join(' '));
      return answers[command]?.shift() ?? OK;
    },
    clock: { monotonicMs: () => 0, wallMs: () => wallMs++ },
  };
  const act = (which = regenerateWireguard): Promise<Outcome> => which.run(context);
  const made = TEMPLATE.replace('{{own}}', keys.own).replace('{{ lyra-psk }}', keys.psk);
  return { directory, paths, keys, made, ran, answers, act };
}

t.test('makes the configuration of template and keys, keeps the old one, and restarts the unit', async (t) => {
  const { directory, paths, keys, made, ran, act } = place(t, { former: 'PrivateKey = broken\n' });
  const outcome = await act();
  t.match(outcome, { ok: true, summary: /restarted wg-quick@wg0\.service/ });
  t.equal(readFileSync(paths.config, 'utf8'), made);
  t.equal(statSync(paths.config).mode & 0o777, 0o600);
  t.same(ran, ['wg-quick strip wg0.conf', 'systemctl restart -- wg-quick@wg0.service']);
  const [kept = ''] = readdirSync(join(directory, 'etc')).filter((name) => name !== 'wg0.conf');
  t.match(kept, /^wg0\.conf\.skos-20260101T\d{9}Z$/);
  t.equal(readFileSync(join(directory, 'etc', kept), 'utf8'), 'PrivateKey = broken\n');
  t.equal(statSync(join(directory, 'etc', kept)).mode & 0o777, 0o600);
  for (const key of Object.values(keys)) t.notMatch(JSON.stringify(outcome), key, 'no key is told');
  t.match(await act(), { ok: true, summary: /nothing was changed/ });
  t.equal(ran.filter((line) => line.startsWith('systemctl')).length, 1);
});

t.test('a listing shows what would change, without any key or piece of one, and changes nothing', async (t) => {
  const secret = privateKey();
  const former = `[Interface]\nPrivateKey = ${secret}\n#PrivateKey=${secret.slice(0, 30)}\nAddress = 10.0.0.1/24\nPublicKey = x # ${secret}\n`;
  const { directory, paths, keys, ran, act } = place(t, { former });
  const outcome = await act(regenerateWireguardList);
  t.match(outcome, { ok: true, summary: /would replace .*wg0\.conf/ });
  const told = JSON.stringify(outcome);
  for (const key of [keys.own, keys.psk, secret, secret.slice(0, 20)]) t.notOk(told.includes(key), 'no key');
  t.ok(outcome.items?.includes('- Address = 10.0.0.1/24'));
  t.ok(outcome.items?.includes('+ PersistentKeepalive = 25'), 'a word is no key');
  t.ok(outcome.items?.includes('+ Address = 10.78.0.1/24'));
  t.ok(outcome.items?.includes(`+ PublicKey = ${publicKey(1)}`));
  t.ok(outcome.items?.some((line) => /^- PrivateKey = \(hidden [0-9a-f]{8}\)$/.test(line)));
  t.equal(readFileSync(paths.config, 'utf8'), former);
  t.same(readdirSync(join(directory, 'etc')), ['wg0.conf']);
  t.same(ran, ['wg-quick strip wg0.conf']);
  const pasted = place(t, { template: TEMPLATE.replace('{{own}}', `{{ ${secret} }}`) });
  const error = await pasted.act(regenerateWireguardList).catch(String);
  t.match(error, /no key "\(hidden [0-9a-f]{8}\)" is stored/, 'a key in the place of its name');
});

t.test('puts the old file back when the unit does not start with the new one', async (t) => {
  const bad: CommandResult = { status: 1, stdout: '', stderr: 'Job for wg-quick@wg0.service failed.\nmore' };
  const held = place(t, { former: 'old\n' });
  held.answers.systemctl = [bad, OK];
  t.match(await held.act(), {
    ok: false,
    summary: /did not start \(Job for wg-quick@wg0.service failed\.\).*put back and runs again/,
  });
  t.equal(readFileSync(held.paths.config, 'utf8'), 'old\n');
  t.same(readdirSync(join(held.directory, 'etc')), ['wg0.conf'], 'no copy of it more with each attempt');
  t.equal(held.ran.filter((line) => line.startsWith('systemctl')).length, 2);
  const without = place(t);
  without.answers.systemctl = [bad, bad];
  t.match(await without.act(), { ok: false, summary: /does not start with it either/ });
  t.notOk(existsSync(without.paths.config), 'there was none before');
});

t.test('refuses what is unsafe or wrong, and changes nothing', async (t) => {
  const cases: Record<string, (each: ReturnType<typeof place>) => void> = {
    'a template that others may write': ({ paths }) => chmodSync(paths.template, 0o664),
    'keys that others may read': ({ paths }) => chmodSync(paths.keys, 0o640),
    'a link for a template': ({ paths }) => {
      renameSync(paths.template, `${paths.template}.real`);
      symlinkSync(`${paths.template}.real`, paths.template);
    },
    'a key that is none': ({ paths }) => writeFileSync(paths.keys, 'own = short\n'),
    'a key that is not stored': ({ paths }) => writeFileSync(paths.keys, `own = ${privateKey()}\n`),
    'a former file that is a directory': ({ paths }) => mkdirSync(paths.config),
    'what wg-quick does not take': ({ answers }) => {
      answers['wg-quick'] = [{ status: 1, stdout: '', stderr: 'nonsense' }];
    },
  };
  for (const [what, prepare] of Object.entries(cases)) {
    const each = place(t);
    prepare(each);
    await t.rejects(each.act(), { code: 'SKOS_ACT_REFUSED' }, what);
    t.notOk(
      each.ran.some((line) => line.startsWith('systemctl')),
      what,
    );
  }
  const templates = {
    'no private key': TEMPLATE.replace(/PrivateKey.*\n/, ''),
    'two interfaces': `${TEMPLATE}[Interface]\n`,
    'a section of another program': `${TEMPLATE}[Network]\n`,
    'no setting': `${TEMPLATE}hello\n`,
    'a public key that is none': TEMPLATE.replace(publicKey(1), 'abc'),
    SaveConfig: TEMPLATE.replace('Address', 'SaveConfig = true\nAddress'),
  };
  for (const [what, template] of Object.entries(templates))
    await t.rejects(place(t, { template }).act(), { code: 'SKOS_ACT_REFUSED' }, what);
});

t.test('keeps the five latest files', async (t) => {
  const { directory, paths, act } = place(t);
  for (let n = 0; n < 8; n++) {
    writeFileSync(paths.config, `${n}\n`, { mode: 0o600 });
    t.ok((await act()).ok);
  }
  const kept = readdirSync(join(directory, 'etc')).filter((name) => name.includes('.skos-'));
  t.same(
    kept.map((name) => readFileSync(join(directory, 'etc', name), 'utf8').trim()),
    ['3', '4', '5', '6', '7'],
  );
});

t.test('its report bears the name of its job, and a unit with another name reports nothing', async (t) => {
  t.equal(regenerateWireguard.reportName(['wg0']), 'regenerate_wireguard_config.wg0');
  t.equal(regenerateWireguardList.reportName(['wg0']), 'regenerate_wireguard_config.wg0.list');
  for (const name of ['', '../x', 'a.b', 'A', 'x'.repeat(16)])
    t.throws(() => regenerateWireguard.reportName([name]), { code: 'SKOS_ACT_ARGUMENT' }, name);
});
