import t from 'tap';
import { storageWatcher } from '../../src/antibodies/storage-watcher.js';
import type { Channel } from '../../src/core/channel.js';
import { configOf, cpuTemperature, fileSystem, finding, only, Skipped } from '../fixtures/antibodies.js';

function rules(channels: Channel[], written: Record<string, unknown> = {}) {
  return storageWatcher.rulesFor({ config: configOf(written), channels, report: new Skipped() });
}

t.test('binds the default table to used bytes and to used inodes, and to nothing else', async (t) => {
  const found = rules([
    fileSystem('used_ppm'),
    fileSystem('inodes_used_ppm'),
    fileSystem('available_bytes'),
    fileSystem('used_ppm', { source: 'cgroup' }),
    cpuTemperature(),
  ]);
  t.same(
    found.map(({ channelId }) => channelId),
    ['file_system/~2f/used_ppm', 'file_system/~2f/inodes_used_ppm'],
  );
  t.match(found[0], {
    name: 'storage',
    agentType: 'storage_watcher',
    type: 'storage',
    sensor: 'disk',
    standing: false,
  });
  t.equal(found[0]?.gapMs, 31_000);
  t.same(found[0]?.rungs, [
    { severity: 'warning', raise: 800_000, clear: 750_000, actions: ['cleanup_temp'] },
    { severity: 'critical', raise: 900_000, clear: 850_000, actions: ['cleanup_logs', 'archive_old_data'] },
    { severity: 'emergency', raise: 950_000, clear: 900_000, actions: ['emergency_cleanup', 'alert_human'] },
  ]);
});

t.test('takes thresholds with fractions and the mode of the node', async (t) => {
  const storage = { thresholds: { warning: 80.5, critical: 99.25, emergency: 99.9 }, hysteresis: 0.5, keep: 60 };
  const rule = only(rules([fileSystem('used_ppm')], { mode: 'propose', storage }));
  t.same(
    rule.rungs.map(({ raise, clear }) => [raise, clear]),
    [
      [805_000, 800_000],
      [992_500, 987_500],
      [999_000, 994_000],
    ],
  );
  t.match(rule, { mode: 'propose', keepMs: 60_000 });
});

t.test('names usage and mount point', async (t) => {
  const said = (channel: Channel, values: (number | null)[]) =>
    storageWatcher.describe(finding(only(rules([channel])), channel, values));
  t.equal(said(fileSystem('used_ppm'), [910_000, 910_000]), 'Disk usage 91.0% of / exceeds critical threshold');
  const home = fileSystem('inodes_used_ppm', { probe: { kind: 'statvfs', path: '/home', field: 'inodes_used_ppm' } });
  t.equal(said(home, [955_000, 955_000]), 'Inode usage 95.5% of /home exceeds emergency threshold');
  t.equal(said(home, [955_000, null]), 'Inode usage of /home cannot be read: its driver hangs');
});

function pushed(id: string, label: string, overrides: Partial<Channel> = {}): Channel {
  const [source = '', device = '', name = ''] = id.split('/');
  const probe = { kind: 'pushed', feed: 'x' } as const;
  return { ...fileSystem('used_ppm'), id, source, device, name, label, probe, quantity: 'stateCode', ...overrides };
}

t.test(
  'alerts people of what nothing can be cleaned for: a trend, a read-only file system, disks that fail',
  async (t) => {
    const words = ['new', 'live', 'resetting', 'connecting', 'deleting', 'deleting (no IO)', 'dead'];
    const nvme = pushed('nvme/serial/state', 'nvme0 state', { probe: { kind: 'word', path: '/x', words } });
    const scsi = pushed('scsi/serial/state', 'sda state');
    const md = pushed('md/uuid/missing_devices', 'md0 missing devices');
    const readOnly = pushed('file_system/_data/read_only', '/data read-only');
    const filling = pushed('file_system/_data/used_forecast', '/data used in 4 h', {
      quantity: 'ratioPartsPerMillion',
    });
    const found = rules([nvme, scsi, md, readOnly, filling]);
    t.same(
      found.map(({ name, rungs }) => [name, ...rungs.map(({ severity }) => severity)]),
      [
        ['disk-health', 'warning', 'critical'],
        ['disk-health', 'critical'],
        ['disk-health', 'critical'],
        ['storage-read-only', 'critical'],
        ['storage-filling', 'warning'],
      ],
    );
    for (const { rungs } of found)
      for (const { actions } of rungs) t.same(actions, ['alert_human'], 'and does nothing');
    const said = (channel: Channel, values: (number | null)[]) => {
      const rule = { ...only(rules([channel])), forMs: 0, keepMs: 0 };
      return storageWatcher.describe(finding(rule, channel, values));
    };
    t.equal(said(nvme, [1, 6, 6]), 'nvme0 state: "dead"; to do: check the disk and its connection');
    t.equal(said(nvme, [6, 6, 1, 1, 1]), 'nvme0 state is back to normal');
    t.match(said(readOnly, [0, 1, 1]), /^File system \/data has become read-only; to do: /);
    t.equal(said(filling, [900_000, 1_400_000, 1_400_000]), '/data fills up: 140.0% in 4 h, as it rises now');
    t.equal(
      said(filling, [1_400_000, 1_400_000, null, null]),
      'The trend of /data cannot be read: its driver hangs; warning alert stands',
    );
    for (const [channel, fine] of [
      [nvme, [0, 1, 1]],
      [scsi, [1, 2, 5, 2]],
      [md, [0, 0]],
      [readOnly, [0, 0]],
      [filling, [999_999, 999_999]],
    ] as const)
      t.throws(() => said(channel, [...fine]), `${channel.id} is well`);
  },
);
