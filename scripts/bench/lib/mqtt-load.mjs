/**
 * A broker under load, as a mesh gives it: a peer that sends sensor values evenly over time, which the node mirrors, and
 * subscribers that each get all of them. What is counted is what has reached the subscribers.
 *
 *   import { startLoad } from './lib/mqtt-load.mjs'     in a benchmark: starts a process of its own and hears its counts
 *   node mqtt-load.mjs --broker PORT --peer-port PORT …  that process
 *
 * The subscribers read no further than the framing of MQTT 3.1.1 section 2.2, so that the load costs little beside what
 * it loads.
 */
import { fork } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import mqttPacket from 'mqtt-packet';
import { freePort, sleep } from './node.mjs';

export const PEER = 'orion';
/** Of the peer: as many sensors as a node with 8 GPUs has. */
const SENSORS = 200;
/** How often the peer sends what is due since. */
const EVERY_MS = 4;
const STATUS_EVERY_MS = 1_000;
const RETRY_MS = 100;
const READY_MS = 20_000;
const KEEP_ALIVE_S = 600;
/** Kinds of packets, the upper half of the first byte. */
const PUBLISH = 3;
const SUBACK = 9;

// ---- In a benchmark --------------------------------------------------------------------------------------------------

/** What goes into the node's configuration, for the peer. */
export async function loadPlace() {
  const peerPort = await freePort();
  return { peerPort, config: `mesh: { peers: { ${PEER}: { url: "mqtt://127.0.0.1:${peerPort}" } } }\n` };
}

/** `perSecond`: messages of the peer; each reaches every subscriber. */
export function startLoad({ broker, peerPort, subscribers, perSecond }) {
  const words = { broker, 'peer-port': peerPort, subscribers, 'per-second': perSecond };
  const args = Object.entries(words).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = fork(fileURLToPath(import.meta.url), args, {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  /** { atMs, delivered }, one a second. */
  const seconds = [];
  let lost = 0;
  child.on('message', (second) => {
    lost = second.lost;
    seconds.push({ ...second, atMs: performance.now() });
  });
  return {
    pid: child.pid,
    /** Messages a second, of each second that began between the two. */
    between: (fromMs, toMs) =>
      seconds.filter(({ atMs }) => atMs - 1_000 >= fromMs && atMs - 1_000 < toMs).map(({ delivered }) => delivered),
    /** Resolves when the node mirrors its peer, some seconds after the start, or is found not to carry half of it. */
    async ready() {
      const isCarried = () => (seconds.at(-1)?.delivered ?? 0) > (subscribers * perSecond) / 2;
      for (let waitedMs = 0; !isCarried() && waitedMs < READY_MS; waitedMs += RETRY_MS) await sleep(RETRY_MS);
    },
    /** Subscribers whose connection the broker has ended. */
    lost: () => lost,
    stop: () => child.kill('SIGKILL'),
  };
}

// ---- The process -----------------------------------------------------------------------------------------------------

let delivered = 0;
let lost = 0;

/** Calls with the kind of each packet, from whatever pieces it comes in. */
function framing(onPacket) {
  let kind = -1;
  let shift = 0;
  let length = 0;
  let inLength = false;
  let toSkip = 0;
  return (chunk) => {
    let at = 0;
    while (at < chunk.length) {
      if (toSkip > 0) {
        const skipped = Math.min(toSkip, chunk.length - at);
        toSkip -= skipped;
        at += skipped;
        if (toSkip === 0) onPacket(kind);
        continue;
      }
      const byte = chunk[at++];
      if (!inLength) {
        kind = byte >> 4;
        inLength = true;
        shift = 0;
        length = 0;
        continue;
      }
      length += (byte & 0x7f) * 2 ** shift;
      shift += 7;
      if ((byte & 0x80) !== 0) continue;
      inLength = false;
      toSkip = length;
      if (length === 0) onPacket(kind);
    }
  };
}

/** The broker listens a moment after the agent is ready. */
function subscriber(port, clientId) {
  return new Promise((resolve) => {
    const attempt = () => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true });
      socket.once('connect', () => {
        socket.write(
          mqttPacket.generate({
            cmd: 'connect',
            clientId,
            clean: true,
            keepalive: KEEP_ALIVE_S,
            protocolVersion: 4,
            protocolId: 'MQTT',
          }),
        );
        socket.write(
          mqttPacket.generate({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'skos/#', qos: 0 }] }),
        );
      });
      let isSubscribed = false;
      socket.on(
        'data',
        framing((kind) => {
          if (kind === PUBLISH) delivered += 1;
          else if (kind === SUBACK) {
            isSubscribed = true;
            resolve();
          }
        }),
      );
      socket.on('error', () => undefined);
      socket.once('close', () => {
        if (isSubscribed) lost += 1;
        else setTimeout(attempt, RETRY_MS);
      });
    };
    attempt();
  });
}

const timestamp = () => new Date().toISOString();

function statusPacket(seq) {
  const head = { seq, hash: '0'.repeat(64) };
  const payload = { v: 1, node: PEER, state: 'online', why: 'it says so', timestamp: timestamp(), boot_id: 'b' };
  const full = { ...payload, seq, audit_head: head, peers: {} };
  return publish(`skos/peer/${PEER}`, full, true);
}

function sensorPacket(count) {
  const sensor = count % SENSORS;
  const id = `hwmon/card${sensor}/temp1`;
  const value = 40 + ((count * 7) % 300) / 10;
  const reading = { unit: 'celsius', value, quality: 'ok', limits: { critical: 100 }, timestamp: timestamp() };
  const names = { source: 'hwmon', device: `card${sensor}`, name: 'temp1', label: 'temp1', class: 'gpu' };
  return publish(
    `skos/sensor/${PEER}/${id}`,
    { v: 1, node: PEER, id, ...names, quantity: 'temperature', ...reading },
    true,
  );
}

function publish(topic, payload, retain) {
  return mqttPacket.generate({ cmd: 'publish', topic, payload: JSON.stringify(payload), qos: 0, retain, dup: false });
}

/** The broker of a peer, for the one link that the node makes to it. */
function peer(port, perSecond) {
  const server = createServer({ noDelay: true }, (socket) => {
    const parser = mqttPacket.parser({ protocolVersion: 4 });
    let timers = [];
    let isAsked = false;
    parser.on('packet', (packet) => {
      if (packet.cmd === 'connect') {
        socket.write(mqttPacket.generate({ cmd: 'connack', returnCode: 0, sessionPresent: false }));
      } else if (packet.cmd === 'subscribe') {
        const granted = packet.subscriptions.map(({ qos }) => qos);
        socket.write(mqttPacket.generate({ cmd: 'suback', messageId: packet.messageId, granted }));
        if (packet.subscriptions.some(({ topic }) => topic.startsWith('skos/sensor/'))) isAsked = true;
        if (timers.length === 0) timers = sending();
      } else if (packet.cmd === 'pingreq') socket.write(mqttPacket.generate({ cmd: 'pingresp' }));
    });
    const sending = () => {
      let seq = 0;
      let count = 0;
      let lastMs = performance.now();
      let due = 0;
      const values = () => {
        const nowMs = performance.now();
        // What could not be sent for a second is not made up for: the rate is the figure, not the sum.
        due += (Math.min(nowMs - lastMs, 1_000) / 1_000) * perSecond;
        lastMs = nowMs;
        if (!isAsked) due = 0;
        for (; due >= 1; due--) socket.write(sensorPacket(count++));
      };
      return [setInterval(values, EVERY_MS), setInterval(() => socket.write(statusPacket(++seq)), STATUS_EVERY_MS)];
    };
    socket.on('data', (data) => parser.parse(data));
    socket.on('error', () => undefined);
    socket.once('close', () => {
      for (const timer of timers) clearInterval(timer);
    });
  });
  return new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
}

async function main() {
  const number = { type: 'string' };
  const { values } = parseArgs({
    options: { broker: number, 'peer-port': number, subscribers: number, 'per-second': number },
  });
  process.once('disconnect', () => process.exit(0));
  await peer(Number(values['peer-port']), Number(values['per-second']));
  const ids = Array.from({ length: Number(values.subscribers) }, (_, i) => `load-${i}`);
  await Promise.all(ids.map((id) => subscriber(Number(values.broker), id)));
  let lastMs = performance.now();
  for (;;) {
    delivered = 0;
    await sleep(1_000);
    const nowMs = performance.now();
    process.send({ delivered: (delivered * 1_000) / (nowMs - lastMs), lost });
    lastMs = nowMs;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
