/** storage.cleanup: what may be named, what becomes of it, and that nothing else does. */
import t from 'tap';
import { ACT_NAMES, actFiles, actPlan, actUnavailable } from '../../src/config/act-plan.js';
import { checkAcross } from '../../src/config/check.js';
import { placeProblem } from '../../src/config/cleanup-places.js';
import { jobsOf } from '../../src/config/jobs.js';
import { type Config, configShape } from '../../src/config/schema.js';
import { configOf } from '../fixtures/antibodies.js';

function faults(cleanup: Record<string, unknown>, more: Record<string, unknown> = {}): string[] {
  const issues: Parameters<typeof checkAcross>[1] = [];
  const config = configShape.check({ storage: { cleanup }, ...more }, [], issues as never) as Config;
  return [...issues, ...checkAcross(config, issues)].map(({ path, message }) => `${path.join('.')} ${message}`);
}

const inside = (path: string) => path;

t.test('refuses every place that nobody can mean', async (t) => {
  const home = '/home';
  const refused = [
    '/',
    '/etc',
    '/usr/local/cache',
    '/lib64/x/y',
    '/boot/x',
    '/dev/shm/x',
    '/proc/1/x',
    '/sys/x',
    '/run/user/0',
    '/bin/a/b',
    '/var',
    '/var/lib',
    '/var/lib/service',
    '/var/log',
    '/var/cache',
    '/root',
    home,
    `${home}/somebody`,
    '/mnt/disk',
    '/opt/x',
    '/srv/x',
    '/scratch',
    '/data',
    'scratch/tmp',
    './x/y',
    '',
    '/scratch/../etc',
    '/scratch/./tmp',
    '/scratch//tmp',
    '/scratch/tmp/',
    '/scratch/*',
    '/scratch/t?p',
    '/scratch/[a]',
    '/scratch/{a,b}',
    '/scratch/a"b',
    "/scratch/a'b",
    '/scratch/a\\b',
    '/scratch/a\nb',
    '/scratch/%h',
    '/scratch/$HOME',
    `/scratch/${'x'.repeat(600)}`,
  ];
  for (const path of refused) t.ok(placeProblem(path), path);
  for (const path of [
    '/tmp',
    '/var/tmp',
    '/scratch/tmp',
    '/var/cache/build',
    '/var/log/jobs',
    '/var/lib/service/cache',
    '/mnt/disk/tmp',
    `${home}/somebody/.cache`,
    '/data/日本 x',
  ])
    t.equal(placeProblem(path), undefined, path);
});

t.test('says where a mistake stands, and what was expected', async (t) => {
  const temp = (given: Record<string, unknown>) => faults({ temp: [{ path: '/scratch/tmp', age: '7d', ...given }] });
  t.same(temp({}), []);
  const cases: [string[], RegExp][] = [
    [temp({ path: '/etc' }), /^storage\.cleanup\.temp\.0\.path "\/etc" is in \/etc, which belongs to the system/],
    [temp({ age: '5m' }), /temp\.0\.age "5m" is too young; expected at least 10m/],
    [temp({ age: '7' }), /temp\.0\.age "7" is not an age such as/],
    [temp({ patern: '*' }), /unknown key "patern"; did you mean pattern\?/],
    [temp({ pattern: 'a/*' }), /pattern .* is not a file name/],
    [temp({ exclude: ['../x'] }), /exclude\.0 "\.\.\/x" is no path below the place/],
    [faults({ temp: ['/scratch/tmp'] }), /temp\.0 "\/scratch\/tmp" is not a mapping/],
    [
      faults({
        temp: [
          { path: '/a/b', age: '1d' },
          { path: '/a/b/c', age: '9d' },
        ],
      }),
      /temp\.1\.path .*temp\[0\]\.path \(\/a\/b\) lie in each other/,
    ],
    [
      faults({ temp: [{ path: '/a/b', age: '1d' }], archive: [{ path: '/a/b', age: '9d' }], archive_to: '/mnt/x/y' }),
      /archive\.0\.path .* lie in each other/,
    ],
    [faults({ archive: [{ path: '/a/b', age: '9d' }] }), /archive_to is null; expected where/],
    [faults({ archive: [{ path: '/a/b', age: '9d' }], archive_to: '/a/b/old' }), /archive_to .* lie in each other/],
    [faults({ archive_to: '/etc/x' }), /archive_to .* belongs to the system/],
    [
      faults({ temp: [{ path: '/srv/a/skos', age: '9d' }] }, { data_dir: '/srv/a/skos/data' }),
      /and data_dir .* lie in each other/,
    ],
    [faults({ logs: [{}] }), /logs\.0 names nothing; expected journal, logrotate or path/],
    [faults({ logs: [{ journal: {} }] }), /journal says nothing/],
    [faults({ logs: [{ journal: { age: '7d' }, path: '/var/log/jobs' }] }), /journal stands beside other keys/],
    [faults({ logs: [{ path: '/var/log/jobs' }] }), /logs\.0\.age is missing/],
    [faults({ logs: [{ logrotate: '/etc/logrotate.d/jobs' }] }), /lacks path/],
    [faults({ logs: [{ logrotate: '/etc/../x', path: '/var/log/jobs' }] }), /is no plain path/],
  ];
  for (const [found, wanted] of cases) t.match(found.join('\n'), wanted);
  t.match(faults({ logs: [{ path: '/var/log', age: '7d' }] }).join(), /holds too much/);
  const system = { logrotate: '/etc/logrotate.d/rsyslog', path: '/var/log' };
  const jobs = { path: '/var/log/jobs', age: '7d' };
  t.same(
    faults({ logs: [jobs, system, { ...system, logrotate: '/etc/logrotate.d/dpkg' }] }),
    [],
    'which files of the system’s logs, the configuration of logrotate says',
  );
  t.match(faults({ logs: [{ ...system, path: '/var' }] }).join(), /holds too much/);
  const archived = { archive: [{ ...jobs, age: '9d' }], archive_to: '/mnt/x/y' };
  t.match(faults({ logs: [system], ...archived }).join(), /lie in each other/, 'what is to be archived is not rotated');
  const hooked = faults({ archive: [{ path: '/a/b', age: '9d' }] }, { hooks: { archive: { unit: 'a.service' } } });
  t.same(hooked, [], 'a hook knows by itself where to');
});

t.test('empty, which is the default, it has no plan, no job and nothing that a unit may write', async (t) => {
  const config = configOf({});
  t.same(jobsOf(config), []);
  for (const name of ACT_NAMES) t.match(actUnavailable(config, name), /^storage\.cleanup\.\w+ is empty$/);
  t.same(
    actFiles(config, inside).filter(({ text }) => text !== undefined),
    [],
  );
});

t.test('what is listed becomes plan, drop-in and jobs, of that act alone', async (t) => {
  const cleanup = {
    temp: [{ path: '/scratch/my tmp', pattern: '*.tmp', exclude: ['keep'], age: '2w' }],
    logs: [
      { journal: { size: '2G' } },
      { journal: { age: '14d', size: '500M' } },
      { path: '/var/log/jobs', age: '30d' },
      { logrotate: '/etc/logrotate.d/jobs', path: '/var/log/other' },
    ],
    archive: [{ path: '/data/results', age: '90d' }],
    archive_to: '/mnt/cold/archive',
  };
  const config = configOf({ storage: { cleanup } });
  t.same(
    jobsOf(config).map(({ id, unit, verb }) => `${id} ${verb} ${unit}`),
    ['cleanup_temp', 'cleanup_logs', 'archive_old_data'].flatMap((name) => [
      `act/${name} start skos-act-${name.replaceAll('_', '-')}.service`,
      `act/${name}.list start skos-act-${name.replaceAll('_', '-')}-list.service`,
    ]),
  );
  t.match(actPlan(config, 'cleanup_temp', inside), {
    places: [{ path: '/scratch/my tmp', pattern: '*.tmp', exclude: ['keep'], ageSeconds: 1_209_600 }],
    archiveTo: null,
  });
  t.match(actPlan(config, 'cleanup_logs', inside), {
    places: [{ path: '/var/log/jobs', ageSeconds: 2_592_000 }],
    journal: { sizeBytes: 500 * 2 ** 20, ageSeconds: 1_209_600 },
    logrotate: [{ config: '/etc/logrotate.d/jobs', path: '/var/log/other' }],
  });
  t.match(
    actPlan(config, 'archive_old_data', () => '/archive'),
    { archiveTo: { path: '/mnt/cold/archive', inside: '/archive' } },
  );
  t.equal(
    actPlan(config, 'archive_old_data', () => undefined),
    undefined,
    'an archive that is not there has no plan',
  );
  const files = new Map(actFiles(config, inside).map(({ path, text }) => [path, text]));
  const dropIn = (unit: string) =>
    (files.get(`etc/systemd/system/${unit}.service.d/50-skos-paths.conf`) ?? '').match(/^ReadWritePaths=.*$/gm);
  t.same(dropIn('skos-act-cleanup-temp'), ['ReadWritePaths="-/scratch/my tmp"']);
  t.same(
    dropIn('skos-act-cleanup-logs'),
    ['/var/log/jobs', '/var/log/other', '/var/log/journal'].map((path) => `ReadWritePaths="-${path}"`),
  );
  t.same(
    dropIn('skos-act-archive-old-data'),
    ['/data/results', '/mnt/cold/archive'].map((path) => `ReadWritePaths="-${path}"`),
  );
  t.equal(dropIn('skos-act-emergency-cleanup'), null);
});
