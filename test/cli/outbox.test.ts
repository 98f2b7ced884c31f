import t from 'tap';
import { outboxText } from '../../src/cli/outbox.js';
import { statusText } from '../../src/cli/status.js';
import type { OutboxState } from '../../src/core/ports.js';
import { NOW_MS, node, status } from '../fixtures/cli.js';

const IO = { color: false, columns: 80, wallMs: () => NOW_MS };

const queue = (given: Partial<OutboxState> = {}): OutboxState => ({
  queue: 'mqtt',
  epoch: '00c0ffee',
  waiting: 120,
  bytes: 50_000,
  oldestAtMs: NOW_MS - 7_200_000,
  lastSeq: 420,
  takenSeq: 300,
  dropped: 0,
  ...given,
});

t.test('shows what waits, since when, what was taken and what was dropped', async (t) => {
  const text = outboxText([queue(), queue({ queue: 'other', waiting: 0, oldestAtMs: null, dropped: 7 })], IO);
  t.match(text, /mqtt +120 waiting, 49 KiB +for 2 h.* +taken up to 300 +none dropped/);
  t.match(text, /other +nothing waits .*7 dropped/);
  t.match(text, /120 messages in 2 queues\./);
  for (const line of text.split('\n')) t.ok(line.length <= 80, line);
  t.match(outboxText([], IO), /Nothing is queued/);
});

t.test('status names a queue that dropped something, and no other', async (t) => {
  const text = statusText(status({ outbox: [queue({ dropped: 3 }), queue({ queue: 'calm' })] }), IO);
  t.match(text, /outbox +mqtt: 3 messages dropped, see `skos outbox`/);
  t.notMatch(text, /calm/);
  t.notMatch(statusText(status({ outbox: [queue()] }), IO), /outbox/);
});

t.test('asks the agent, and has JSON for programs', async (t) => {
  const { skos } = await node(t, { outbox: () => [queue()] });
  t.match(await skos(['outbox']), { code: 0, out: /120 waiting/ });
  t.strictSame(JSON.parse((await skos(['outbox', '--json'])).out), [queue()]);
});
