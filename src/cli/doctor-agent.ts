/** `skos doctor`: the running agent's own parts: actuator and its list, standing orders, record, network, open files. */
import { stat } from 'node:fs/promises';
import { ERRORS } from '../core/errors.js';
import type { Tree } from '../core/ports.js';
import type { Status } from '../core/protocol.js';
import type { Finding } from '../sensors/finding.js';
import type { Seen } from './doctor-machine.js';
import { plural } from './format.js';

/** Group and others may not write the allow-list. */
const OTHERS_WRITE = 0o022;
/** Beyond this share of its limit the agent should have more before a disk or a card is added. */
const OPEN_FILES_SHARE = 0.8;

/** `allowList`: where it lies, for this agent or for the one that would be started. */
export async function agentFindings({ agent, trees }: Seen, allowList: string): Promise<Finding[]> {
  if (agent === undefined) return allowListFindings(allowList);
  const { status } = agent;
  return [
    actuator(status),
    ...(status.actuator.connected ? [] : await allowListFindings(allowList)),
    ...standingOrders(status),
    ...repairs(status),
    record(status),
    network(status),
    ...(await openFiles(trees.proc, status.pid)),
  ];
}

function actuator({ actuator: { connected, why, targets, leases, orders }, mode }: Status): Finding {
  const check = 'agent.actuator';
  if (connected) {
    const counts = [
      plural(targets.length, 'target'),
      plural(leases.length, 'lease'),
      plural(orders.length, 'standing order'),
    ];
    return { check, state: 'ok', what: `the actuator is connected: ${counts.join(', ')}` };
  }
  const what = `the actuator is not connected: ${why}`;
  const { next } = ERRORS.SKOS_ACTUATOR_ABSENT;
  if (mode === 'auto') return { check, state: 'problem', what: `${what}; the node should act and cannot`, next };
  return mode === 'propose'
    ? { check, state: 'note', what: `${what}; what is approved cannot be done`, next }
    : {
        check,
        state: 'note',
        what: `${what}; the node only observes, which needs none`,
        next: '`skos arm` starts it.',
      };
}

/** What an actuator that starts would refuse. None is there until the node is armed for the first time. */
async function allowListFindings(file: string): Promise<Finding[]> {
  const check = 'agent.allow_list';
  const found = await stat(file).catch(() => undefined); // Absent, or in a directory that is closed to us.
  if (found === undefined) return [];
  if (found.uid === 0 && (found.mode & OTHERS_WRITE) === 0)
    return [{ check, state: 'ok', what: `allow-list: ${file}` }];
  const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
  const what = `the actuator will refuse ${file}: owner ${found.uid}, mode ${mode}`;
  return [{ check, state: 'problem', what, next: ERRORS.SKOS_ACTUATOR_ALLOW.next }];
}

function standingOrders({ mode, actuator: { connected, orders } }: Status): Finding[] {
  const check = 'agent.standing_orders';
  if (!connected) return [];
  if (mode !== 'auto') {
    if (orders.length === 0) return [];
    // `skos disarm` was cut off between its two files, or the mode was changed by hand.
    const what = `mode ${mode}, but ${plural(orders.length, 'standing order')} of the allow-list may still cap`;
    return [{ check, state: 'problem', what, next: 'sudo skos disarm, or sudo skos arm' }];
  }
  if (orders.length === 0) {
    const what = 'armed, but without a standing order: nothing caps when the agent is dead';
    return [
      {
        check,
        state: 'problem',
        what,
        next: 'skos status says which sensors are missing; then sudo skos config compile',
      },
    ];
  }
  return orders
    .filter(({ quality }) => quality !== 'ok')
    .map(({ order, raised, quality }) =>
      quality === 'no_data' && !raised && order.includes(':gpu/') ? unread(order) : blind(order, quality),
    );
}

/** Not read since the actuator started, or detached: that is no loss. */
function unread(order: string): Finding {
  return {
    check: 'agent.standing_orders',
    state: 'note',
    what: `standing order ${order} holds nothing: its GPU is not served, or is detached`,
    next: 'skos gpu says what of it is known',
  };
}

function blind(order: string, quality: string): Finding {
  return {
    check: 'agent.standing_orders',
    state: 'problem',
    what: `standing order ${order} cannot read its sensor (${quality}), which counts as hot`,
    next: 'skos sensors shows whether the agent can; after a change of hardware: sudo skos config compile',
  };
}

/** What no repair gets past by itself. */
function repairs({ repairs: { latched } }: Status): Finding[] {
  if (latched.length === 0) return [];
  const what = `repairs wait for an operator: ${latched.join(', ')}`;
  return [{ check: 'agent.repairs', state: 'note', what, next: '`skos breaker list` says why and how to go on.' }];
}

function record({ store }: Status): Finding {
  const check = 'agent.record';
  if (store.ok) return { check, state: 'ok', what: `the record is on disk, audit entry ${store.head.seq}` };
  return {
    check,
    state: 'problem',
    what: `the record is in memory only: ${store.why}`,
    next: ERRORS.SKOS_STORE_OPEN.next,
  };
}

function network({ net }: Status): Finding {
  const check = 'agent.net';
  if (!net.connected) {
    const what = `skos-net is not there: ${net.why}; no MQTT, no peers, protection goes on`;
    return { check, state: 'note', what, next: 'systemctl start skos-net; journalctl -u skos-net' };
  }
  if (net.listening)
    return { check, state: 'ok', what: `MQTT listens on ${net.mqttListen}, ${plural(net.clients, 'client')}` };
  return { check, state: 'note', what: `MQTT cannot listen on ${net.mqttListen}`, next: ERRORS.SKOS_NET_LISTEN.next };
}

/** Each sensor keeps a file open. */
async function openFiles(proc: Tree, pid: number): Promise<Finding[]> {
  const check = 'agent.open_files';
  const [, limit] = /^Max open files\s+(\d+)/m.exec((await proc.text(`${pid}/limits`)) ?? '') ?? [];
  const used = (await proc.list(`${pid}/fd`, /^\d+$/)).length;
  // Another user's process shows its limits, but not what it has open.
  if (limit === undefined || used === 0) return [];
  const what = `the agent has ${used} of ${limit} files open`;
  if (used <= Number(limit) * OPEN_FILES_SHARE) return [{ check, state: 'ok', what }];
  return [
    { check, state: 'problem', what, next: 'raise LimitNOFILE of skos-agent.service (ulimit -n under skos run)' },
  ];
}
