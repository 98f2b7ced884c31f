/** Several samplers under the indexes of one list. */
import t from 'tap';
import type { Channel, Quality } from '../../src/core/channel.js';
import type { Sampler, Tripwire } from '../../src/core/ports.js';
import { joinedSampler, type MakeSampler } from '../../src/sensors/joined-sampler.js';
import { cpuTemperature } from '../fixtures/antibodies.js';

interface Made {
  readonly ids: readonly string[];
  readonly wires: readonly Tripwire[];
  running: boolean;
}

/** Gives one sample a channel: its own index. */
function maker(made: Made[], { fails = false } = {}): MakeSampler {
  return (channels, wires): Sampler => {
    const self: Made = { ids: channels.map(({ id }) => id), wires, running: false };
    made.push(self);
    return {
      channels,
      start: () => {
        if (fails) throw new Error('refused');
        self.running = true;
      },
      stop: () => {
        self.running = false;
      },
      latest: (i) => ({ value: i, quality: 'ok', atMs: 0 }),
      refresh: () => undefined,
      drain: (each: (channel: number, value: number, quality: Quality, atMs: number) => void) => {
        for (const i of channels.keys()) each(i, i * 10, 'ok', i);
      },
      overruns: channels.length,
    };
  };
}

const CHANNELS: readonly Channel[] = ['a/1/x', 'b/1/x', 'a/2/x', 'b/2/x'].map((id) =>
  cpuTemperature({ id, source: id.slice(0, 1) }),
);
const partOf = ({ source }: Channel) => (source === 'a' ? 'a' : 'b');

t.test('gives each part its own channels and tripwires, and joins what they read', async (t) => {
  const a: Made[] = [];
  const b: Made[] = [];
  const wire = { channel: 3, raise: 2, clear: 1, samples: 1 };
  const joined = joinedSampler(CHANNELS, [wire], { partOf, makers: { a: maker(a), b: maker(b) } });
  t.match(a, [{ ids: ['a/1/x', 'a/2/x'], wires: [] }]);
  t.match(b, [{ ids: ['b/1/x', 'b/2/x'], wires: [{ ...wire, channel: 1 }] }]);
  joined.start();
  t.ok(a[0]?.running && b[0]?.running);
  const seen: [number, number][] = [];
  joined.drain((i, value) => seen.push([i, value]));
  t.strictSame(
    seen.sort(([x], [y]) => x - y),
    [
      [0, 0],
      [1, 0],
      [2, 10],
      [3, 10],
    ],
  );
  t.equal(joined.latest(2).value, 1);
  t.equal(joined.latest(9).quality, 'no_data');
  t.equal(joined.overruns, 4);
  joined.stop();
  t.notOk(a[0]?.running || b[0]?.running);
});

t.test('makes no sampler without channels, and starts all or none', async (t) => {
  const a: Made[] = [];
  const b: Made[] = [];
  const makers = { a: maker(a), b: maker(b, { fails: true }) };
  joinedSampler(CHANNELS.slice(0, 1), [], { partOf, makers }).start();
  t.equal(b.length, 0);
  t.throws(() => joinedSampler(CHANNELS, [], { partOf, makers }).start(), /refused/);
  t.equal(a[1]?.running, false);
});
