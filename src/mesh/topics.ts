/**
 * The topics of the MQTT contract as data: `<prefix>/<kind>/<node>[/…]`. What is retained, with which QoS, what a peer
 * is asked for and whether a subscription could match, is read from this one table.
 */

/** Levels of the deepest topic, `<prefix>/sensor/<node>/<source>/<device>/<name>`, and two to spare for what comes. */
export const MAX_TOPIC_LEVELS = 8;
/** Escaped segments have at most 64 characters (core/channel.ts). */
const SEGMENT = /^[a-z0-9_~-]{1,64}$/;

export type QoS = 0 | 1;

interface TopicSpec {
  readonly kind: string;
  /** Levels behind the node. */
  readonly levels: number;
  readonly retained: boolean;
  readonly qos: QoS;
}

export const TOPICS = {
  heartbeat: { kind: 'heartbeat', levels: 0, retained: false, qos: 0 },
  /** The last heartbeat of each antibody. */
  lastHeartbeat: { kind: 'heartbeat', levels: 1, retained: true, qos: 0 },
  alert: { kind: 'alert', levels: 0, retained: false, qos: 1 },
  active: { kind: 'active', levels: 1, retained: true, qos: 1 },
  sensor: { kind: 'sensor', levels: 3, retained: true, qos: 0 },
  command: { kind: 'command', levels: 0, retained: false, qos: 1 },
  /** What an external antibody is told. */
  antibodyCommand: { kind: 'command', levels: 1, retained: false, qos: 1 },
  result: { kind: 'result', levels: 0, retained: false, qos: 1 },
  audit: { kind: 'audit', levels: 0, retained: false, qos: 1 },
  peer: { kind: 'peer', levels: 0, retained: true, qos: 1 },
  /** Steps come one level above; they are taken by the loop breaker and not passed on: the verdict says what the step said. */
  chainVerdict: { kind: 'chain', levels: 2, retained: false, qos: 1 },
} as const satisfies Record<string, TopicSpec>;

export type TopicName = keyof typeof TOPICS;

/** One message for a broker. An empty payload on a retained topic empties the topic. */
export interface Message {
  readonly topic: string;
  readonly payload: string | Buffer;
  readonly retain: boolean;
  readonly qos: QoS;
}

export function topic(prefix: string, name: TopicName, node: string, ...rest: readonly string[]): string {
  return [prefix, TOPICS[name].kind, node, ...rest].join('/');
}

/** A message of the contract; retained and QoS as the table says. */
export function message(name: TopicName, at: string, payload: string | Buffer): Message {
  const { retained, qos } = TOPICS[name];
  return { topic: at, payload, retain: retained, qos };
}

/** What a topic of `node` is by the contract; undefined for anything else, another node's topics above all. */
export function topicNameOf(prefix: string, node: string, at: string): TopicName | undefined {
  const [first, kind, owner, ...rest] = at.split('/');
  if (first !== prefix || owner !== node || !rest.every((level) => SEGMENT.test(level))) return undefined;
  for (const name of Object.keys(TOPICS) as TopicName[]) {
    if (TOPICS[name].kind === kind && TOPICS[name].levels === rest.length) return name;
  }
  return undefined;
}

/** Filters for all that a node says of itself, except its sensors, which are asked for on demand, and its workloads' chains. */
export function ownFilters(prefix: string, node: string): string[] {
  const kinds = new Set(Object.values(TOPICS).map(({ kind }) => kind));
  kinds.delete('sensor');
  // A thousand verdicts a second are of use to the workload that waits for them, and to nobody on another node.
  kinds.delete('chain');
  return [...kinds].map((kind) => `${prefix}/${kind}/${node}/#`);
}

export function sensorFilter(prefix: string, node: string): string {
  return `${prefix}/${TOPICS.sensor.kind}/${node}/#`;
}

/** What a guest says to a node: the kind of topic, and what stands behind the node. undefined for another node's, or none. */
export function guestTopic(prefix: string, node: string, at: string): { kind: string; rest: string[] } | undefined {
  const [first, kind, owner, ...rest] = at.split('/');
  if (first !== prefix || owner !== node || kind === undefined || !rest.every((level) => SEGMENT.test(level)))
    return undefined;
  return { kind, rest };
}

/** True when the filter is among a node's own topics, whole: what a peer may subscribe to. */
export function isOwnFilter(prefix: string, node: string, filter: string): boolean {
  const [first, kind, owner] = filter.split('/');
  return first === prefix && owner === node && kind !== undefined && !/[+#]/.test(kind);
}

/** Could a subscription to this filter receive a sensor topic of the node? MQTT 3.1.1 section 4.7. */
export function couldMatchSensors(prefix: string, node: string, filter: string): boolean {
  const topicLevels: readonly (string | undefined)[] = [
    prefix,
    TOPICS.sensor.kind,
    node,
    ...Array.from({ length: TOPICS.sensor.levels }, () => undefined), // Any segment.
  ];
  const levels = filter.split('/');
  for (const [i, wanted] of topicLevels.entries()) {
    const level = levels[i];
    if (level === '#') return true;
    if (level === undefined) return false;
    if (level !== '+' && (wanted === undefined ? !SEGMENT.test(level) : level !== wanted)) return false;
  }
  // `a/b/#` also matches `a/b` itself.
  return levels.length === topicLevels.length || (levels.length === topicLevels.length + 1 && levels.at(-1) === '#');
}
