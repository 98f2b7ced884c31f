/**
 * Every action that a rule may name: the one table that the config check and policy both read.
 *
 * An action is written `verb`, `verb_N` or `verb_N@target` (throttle_50, limit_20@demo); a name that is not in the
 * table must be a key of the config's `hooks`. The class decides how much permission
 * it needs; where an effect could be read two ways, the class is the more careful one.
 */

/**
 * `reversible`: a lease with an undo value (caps, freezes, routes); mode auto covers it. `restartable`: interrupts
 * something that comes up again. `irreversible`: stops, deletes or moves. Both need `auto_allow`. `notice`: only tells
 * or asks, changes nothing on the node or its peers, and therefore runs in every mode.
 */
const ACTION_CLASSES = ['notice', 'reversible', 'restartable', 'irreversible'] as const;
export type ActionClass = (typeof ACTION_CLASSES)[number];

interface VerbSpec {
  readonly class: ActionClass;
  /** Bounds of the number behind the verb; absent: the verb takes none. */
  readonly amount?: { readonly min: number; readonly max: number };
  /** It acts on an entry of `targets`, and must say which. */
  readonly target?: true;
}

/** 100 would ask for nothing at all; what the device's own minimum allows is the actuator's business. */
const PERCENT_OFF = { min: 1, max: 99 };
/** Percent of one CPU, as systemd's CPUQuota= counts: 400 is four CPUs. 1,024 CPUs are the largest node in sight. */
const PERCENT_OF_ONE_CPU = { min: 1, max: 102_400 };

export const VERBS = {
  throttle: { class: 'reversible', amount: PERCENT_OFF },
  limit: { class: 'reversible', amount: PERCENT_OF_ONE_CPU, target: true },
  freeze: { class: 'reversible', target: true },
  // The fans that the node's own chips control, at full speed; their curve comes back with the release.
  fans_full: { class: 'reversible' },
  failover_route: { class: 'reversible' },
  // Holds a chain until it is reset; nothing of the chain is lost.
  circuit_break: { class: 'reversible' },
  restart_unit: { class: 'restartable', target: true },
  restart_wireguard: { class: 'restartable' },
  // A chain begins anew, as a unit does.
  reset_chain: { class: 'restartable' },
  // The request itself is harmless, but who obeys it ends workloads here and starts them elsewhere.
  redistribute: { class: 'restartable' },
  // Another file takes the place of the interface's own, and the way to the peers may be lost with it.
  regenerate_wireguard_config: { class: 'irreversible' },
  cleanup_temp: { class: 'irreversible' },
  cleanup_logs: { class: 'irreversible' },
  archive_old_data: { class: 'irreversible' },
  emergency_cleanup: { class: 'irreversible' },
  // Its first half, the freeze, could be taken back; its second half stops units.
  shutdown_non_essential: { class: 'irreversible' },
  failover: { class: 'irreversible' },
  ping_peer: { class: 'notice' },
  alert_human: { class: 'notice' },
  // An action of the operator's own, a key of `hooks`. Nobody but its author knows what it does.
  hook: { class: 'irreversible' },
} as const satisfies Record<string, VerbSpec>;
export type Verb = keyof typeof VERBS;

export interface Action {
  /** As written, the name in records and topics. */
  readonly text: string;
  readonly verb: Verb;
  /** % off for throttle, % of one CPU for limit; null for the others. */
  readonly amount: number | null;
  /** Entry of the config's `targets`; null for verbs that take none. */
  readonly target: string | null;
  /** Key of the config's `hooks` when verb is hook; null otherwise. */
  readonly hook: string | null;
}

/** `hook` alone is no action: hooks are called by their own names. */
type Name = Exclude<Verb, 'hook'>;

function isName(word: string): word is Name {
  return word !== 'hook' && Object.hasOwn(VERBS, word);
}

/** Names for "did you mean", as they are written. */
export function actionNames(hooks: Readonly<Record<string, unknown>> = {}): string[] {
  const names = Object.keys(VERBS).filter(isName).map(written);
  return [...names, ...Object.keys(hooks).filter((hook) => !isName(hook))];
}

function written(name: Name): string {
  const spec: VerbSpec = VERBS[name];
  return `${name}${spec.amount ? '_N' : ''}${spec.target ? '@TARGET' : ''}`;
}

/** An action, or a sentence that says what is wrong with the text. `hooks` and its keys are the config's. */
export function parseAction(text: string, hooks: Readonly<Record<string, unknown>> = {}): Action | string {
  const [name = '', target, ...rest] = text.split('@');
  if (rest.length > 0 || target === '') return `"${text}" has a malformed target: write it once, behind "@"`;
  if (isName(name)) return checked({ text, verb: name, amount: null, target: target ?? null, hook: null });
  const numbered = withNumber(name);
  // Before the hooks: nothing may take the place of a cap.
  if (numbered !== undefined && 'amount' in VERBS[numbered.verb]) {
    return checked({ text, ...numbered, target: target ?? null, hook: null });
  }
  if (Object.hasOwn(hooks, name)) {
    return target === undefined
      ? { text, verb: 'hook', amount: null, target: null, hook: name }
      : `"${text}": a hook takes no target`;
  }
  return numbered === undefined
    ? `"${text}" is neither an action nor a hook`
    : `"${text}": ${numbered.verb} takes no number`;
}

/** One spelling per number, without leading zeros: breakers, leases and auto_allow compare the text. */
function withNumber(name: string): { verb: Name; amount: number } | undefined {
  const [, stem, digits] = /^(.+)_(0|[1-9][0-9]*)$/.exec(name) ?? [];
  return stem !== undefined && isName(stem) ? { verb: stem, amount: Number(digits) } : undefined;
}

function checked(action: Action & { verb: Name }): Action | string {
  const { text, verb, amount, target } = action;
  const spec: VerbSpec = VERBS[verb];
  if (spec.amount && (amount === null || amount < spec.amount.min || amount > spec.amount.max)) {
    return `"${text}": ${written(verb)} takes a number from ${spec.amount.min} to ${spec.amount.max}`;
  }
  if (spec.target && target === null) return `"${text}": ${verb} needs a target, such as ${written(verb)}`;
  if (!spec.target && target !== null) return `"${text}": ${verb} takes no target`;
  return action;
}

export function actionClass(verb: Verb): ActionClass {
  return VERBS[verb].class;
}
