import fc from 'fast-check';
import t from 'tap';
import type { ActionRecord, Alert } from '../../src/core/ports.js';
import {
  alertPayload,
  antibodyCommandPayload,
  auditPayload,
  chainVerdictPayload,
  commandPayload,
  heartbeatPayload,
  MAX_PAYLOAD_BYTES,
  peerPayload,
  readPayload,
  resultPayload,
  sensorPayload,
} from '../../src/mesh/payloads.js';
import type { TopicName } from '../../src/mesh/topics.js';

const origin = { node: 'nova', bootId: 'b1' };
const alert: Alert = {
  id: 'a',
  rule: 'r',
  agentType: 'storage_watcher',
  type: 'storage',
  state: 'firing',
  severity: 'warning',
  verdict: 'ok',
  channel: 'c',
  sensor: 'disk',
  message: 'm',
  value: 81,
  threshold: 80,
  unit: 'ratio',
  sinceAtMs: 0,
  updatedAtMs: 0,
};
const action: ActionRecord = {
  actionId: 'nova:thermal:throttle_50:1',
  action: 'throttle_50',
  rule: 'r',
  alert: 'a',
  channel: 'c',
  severity: 'critical',
  state: 'failed',
  reason: 'x',
  effects: [{ target: 't', capPpm: 1, outcome: 'not_listed' }],
  startedAtMs: 0,
  endedAtMs: 1,
};
const sent: Record<TopicName, object> = {
  heartbeat: heartbeatPayload(origin, { agentType: 'mesh_healer', atMs: 0, cpuTemp: null, gpuTemp: 1.5, metadata: {} }),
  lastHeartbeat: heartbeatPayload(origin, {
    agentType: 'mesh_healer',
    atMs: 0,
    cpuTemp: null,
    gpuTemp: 1.5,
    metadata: { a: 1 },
  }),
  alert: alertPayload(origin, alert),
  active: alertPayload(origin, { ...alert, severity: null }),
  sensor: sensorPayload(origin, {
    id: 'a/b/c',
    source: 'a',
    device: 'b',
    name: 'c',
    label: 'L',
    class: 'cpu',
    quantity: 'temperature',
    unit: 'celsius',
    value: null,
    quality: 'hung',
    limits: {},
    path: 'p',
    timestamp: '2026-01-01T00:00:00.000Z',
  }),
  command: commandPayload(origin, action, { nonce: 'n' }),
  result: resultPayload(origin, action, 0),
  antibodyCommand: antibodyCommandPayload(
    origin,
    { agentType: 'fan_watch', actionId: 'a', command: 'check', parameters: { n: 1 }, atMs: 0 },
    'n',
  ),
  chainVerdict: chainVerdictPayload(origin, {
    chain: 'c',
    iteration: 1,
    depth: 0,
    verdict: 'continue',
    would: null,
    reason: '',
    atMs: 0,
  }),
  audit: auditPayload(origin, { seq: 1, atMs: 0, kind: 'k', who: 'w', what: {}, previous: 'p', hash: 'h' }),
  peer: peerPayload({
    ...origin,
    state: 'offline',
    why: 'x',
    atMs: null,
    status: null,
    peers: [{ node: 'lyra', state: 'unknown', sinceAtMs: 0, why: 'y', silentMs: null, deafMs: null }],
  }),
};

t.test('whatever is sent is taken by a peer of the same version', async (t) => {
  for (const [name, payload] of Object.entries(sent)) {
    t.ok(readPayload(name as TopicName, 'nova', Buffer.from(JSON.stringify(payload))), name);
  }
});

t.test('a newer peer may say more', async (t) => {
  const newer = { ...sent.alert, v: 2, mood: 'blue' };
  t.ok(readPayload('alert', 'nova', Buffer.from(JSON.stringify(newer))));
});

t.test('a payload that speaks for another node, is too large or of another shape is refused', async (t) => {
  const refused = (name: TopicName, payload: Buffer | string) =>
    t.throws(() => readPayload(name, 'nova', Buffer.from(payload)), { code: 'SKOS_NET_PAYLOAD' });
  refused('alert', JSON.stringify({ ...sent.alert, node: 'lyra' }));
  refused('alert', JSON.stringify({ ...sent.alert, message: 'x'.repeat(MAX_PAYLOAD_BYTES) }));
  refused('alert', JSON.stringify({ ...sent.alert, message: 7 }));
  refused('peer', JSON.stringify({ ...sent.peer, state: 'unknown' }));
  refused('peer', JSON.stringify({ ...sent.peer, seq: -1 }));
  refused('sensor', JSON.stringify({ ...sent.sensor, value: '40' }));
  for (const garbage of ['', '{', 'null', '[]', '1', '"x"', Buffer.from([0xff, 0xfe])]) refused('audit', garbage);
});

t.test('no JSON makes the check crash', async () => {
  fc.assert(
    fc.property(fc.json(), fc.constantFrom(...(Object.keys(sent) as TopicName[])), (json, name) => {
      try {
        readPayload(name, 'nova', Buffer.from(json));
        return true;
      } catch (error) {
        return (error as { code?: string }).code === 'SKOS_NET_PAYLOAD';
      }
    }),
  );
});

t.test('a temperature is only called so when it is one', async (t) => {
  t.match(alertPayload(origin, alert).details, { temperature: null, value: 81, unit: 'ratio', threshold: 80 });
  t.equal(alertPayload(origin, { ...alert, unit: 'celsius' }).details.temperature, 81);
});
