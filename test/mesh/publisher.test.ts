import t from 'tap';
import type { Events } from '../../src/core/protocol.js';
import { Publisher } from '../../src/mesh/publisher.js';
import type { Message } from '../../src/mesh/topics.js';
import { rememberingLog } from '../fixtures/socket.js';

function publisher() {
  let now = 0;
  const sent: Message[] = [];
  const { log, lines } = rememberingLog();
  const made = new Publisher({
    origin: { node: 'nova', bootId: 'b1' },
    prefix: 'skos',
    bus: { publish: (message) => sent.push(message) },
    peers: () => [{ node: 'lyra', state: 'online', sinceAtMs: 0, why: 'w', silentMs: null, deafMs: null }],
    heartbeatTimeoutMs: 2_000,
    clock: { monotonicMs: () => now, wallMs: () => now },
    log,
  });
  const last = (topic: string) => sent.filter((message) => message.topic === topic).at(-1);
  return {
    publisher: made,
    sent,
    lines,
    last,
    pass: (ms: number) => (now += ms),
    json: (topic: string) => JSON.parse(String(last(topic)?.payload)),
  };
}
const status = { state: 'online', atMs: 5, seq: 9, auditHead: { seq: 3, hash: 'ff' } } as const;
const beat = { agentType: 'thermal_sentinel', atMs: 0, cpuTemp: 1, gpuTemp: null, metadata: {} } as const;
const sensor = (id: string) => ({ id, source: 's', value: 1 }) as unknown as Events['sensor'];
const active = (id: string, severity: 'warning' | null) =>
  ({
    id,
    agentType: 'thermal_sentinel',
    severity,
    unit: 'celsius',
    sinceAtMs: 0,
    updatedAtMs: 0,
  }) as unknown as Events['active'];

t.test('retained and QoS are those of the contract', async (t) => {
  const { publisher: p, sent } = publisher();
  p.on.heartbeat(beat);
  p.on.active(active('a', 'warning'));
  p.on.sensor(sensor('s/d/n'));
  p.on.peer(status);
  t.same(
    sent.map(({ topic, retain, qos }) => [topic, retain, qos]),
    [
      ['skos/heartbeat/nova', false, 0],
      ['skos/heartbeat/nova/thermal_sentinel', true, 0],
      ['skos/active/nova/a', true, 1],
      ['skos/sensor/nova/s/d/n', true, 0],
      ['skos/peer/nova', true, 1],
    ],
  );
});

t.test('the node status holds boot id, sequence, audit head and the view of the peers', async (t) => {
  const { publisher: p, json } = publisher();
  p.on.peer(status);
  t.match(json('skos/peer/nova'), {
    v: 1,
    node: 'nova',
    state: 'online',
    boot_id: 'b1',
    seq: 9,
    audit_head: { seq: 3, hash: 'ff' },
    peers: { lyra: { state: 'online', why: 'w' } },
    timestamp: '1970-01-01T00:00:00.005Z',
  });
});

t.test('an agent that falls silent, stops or is lost makes the node offline and takes its sensors back', async (t) => {
  for (const ending of ['silent', 'stops', 'lost']) {
    const { publisher: p, json, last, pass, sent } = publisher();
    p.tick();
    t.equal(sent.length, 0, 'nothing is said of an agent that was never there');
    p.on.peer(status);
    p.on.sensor(sensor('s/d/n'));
    pass(2_000);
    p.tick();
    t.equal(json('skos/peer/nova').state, 'online');
    if (ending === 'silent') {
      pass(1);
      p.tick();
    }
    if (ending === 'stops') p.on.peer({ ...status, state: 'offline' });
    if (ending === 'lost') p.offline('the agent is gone');
    t.match(json('skos/peer/nova'), { state: 'offline', seq: null, audit_head: null }, ending);
    t.equal(last('skos/sensor/nova/s/d/n')?.payload, '');
    const before = sent.length;
    p.tick();
    p.offline('again');
    t.equal(sent.length, before, 'said once');
    p.on.peer(status);
    t.equal(json('skos/peer/nova').state, 'online', 'and back');
  }
});

t.test('what the agent does not repeat no longer holds', async (t) => {
  const { publisher: p, last, sent } = publisher();
  p.on.active(active('over', 'warning'));
  p.on.active(active('stands', 'warning'));
  p.on.active(active('cleared', 'warning'));
  p.on.active(active('cleared', null));
  t.equal(last('skos/active/nova/cleared')?.payload, '');
  p.startReplay();
  p.on.active(active('stands', 'warning'));
  p.on.heartbeat(beat);
  const before = sent.length;
  p.endReplay();
  t.same(
    sent.slice(before).map(({ topic, payload }) => [topic, payload]),
    [['skos/active/nova/over', '']],
  );
  t.equal(last('skos/heartbeat/nova'), undefined, 'a repeated heartbeat is not a new one');
});

t.test('what is too large, or one topic too many, is said and not sent', async (t) => {
  const { publisher: p, sent, lines } = publisher();
  p.on.audit({ seq: 1, atMs: 0, kind: 'k', who: 'w', what: { fill: 'x'.repeat(70_000) }, previous: '', hash: '' });
  t.equal(sent.length, 0);
  t.match(lines, [{ level: 'warn', fields: { code: 'SKOS_NET_PAYLOAD' } }]);
  for (let i = 0; i < 8_193; i++) p.on.sensor(sensor(`s/d/${i}`));
  t.equal(sent.length, 8_192);
  t.equal(lines.length, 2);
});
