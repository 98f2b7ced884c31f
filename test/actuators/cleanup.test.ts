import t from 'tap';
import { buildEffects } from '../../src/actuators/effects.js';
import { parseAction } from '../../src/core/action-names.js';
import { configOf, fileSystem } from '../fixtures/antibodies.js';

const cleanup = {
  temp: [{ path: '/scratch/tmp', age: '7d' }],
  archive: [{ path: '/data/results', age: '7d' }],
  archive_to: '/mnt/cold/archive',
};

function built(text: string, { written = {}, jobs = [] }: { written?: Record<string, unknown>; jobs?: string[] } = {}) {
  const action = parseAction(text);
  if (typeof action === 'string') throw new Error(action);
  return buildEffects({
    action,
    channel: fileSystem('used_ppm'),
    targets: [],
    jobs: new Set(jobs),
    config: configOf(written),
  });
}

t.test(
  'cleaning is a job of what is listed, and unavailable where nothing is, or the allow-list knows nothing of it',
  async (t) => {
    const written = { storage: { cleanup } };
    t.same(built('cleanup_temp'), { unavailable: 'storage.cleanup.temp is empty' });
    t.same(built('emergency_cleanup', { written }), { unavailable: 'storage.cleanup.caches is empty' });
    t.same(built('cleanup_temp', { written }), { unavailable: 'the allow-list does not name act/cleanup_temp' });
    const jobs = ['act/cleanup_temp', 'act/archive_old_data', 'hook/archive'];
    t.same(built('cleanup_temp', { written, jobs }), { effects: [], jobs: [{ job: 'act/cleanup_temp' }] });
    t.same(built('archive_old_data', { written, jobs }), { effects: [], jobs: [{ job: 'act/archive_old_data' }] });
    const hooked = { hooks: { archive: { unit: 'site-archive.service' } } };
    t.same(built('archive_old_data', { written: hooked, jobs }), { effects: [], jobs: [{ job: 'hook/archive' }] });
  },
);

t.test('alert_human moves nothing', async (t) => {
  t.same(built('alert_human'), { effects: [] });
});
