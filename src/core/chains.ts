/**
 * Synthesis chains, as agent and skos-net speak of them. skos-net judges each step, because a verdict is due within milliseconds at a
 * thousand steps a second, and nothing that a broken skos-net could say about a chain is more than it could publish anyway. The agent
 * says what may be done (limits, modes, permissions), keeps which chains are held, and records.
 */
import { boolean, type Infer, nullable, number, object, oneOf, string } from './shape.js';

/** Most severe first: the order in which they are told. */
export const CHAIN_CONDITIONS = ['depth', 'repeats', 'rate', 'iterations'] as const;
export type ChainCondition = (typeof CHAIN_CONDITIONS)[number];

/** What a chain is told to do. In the order of severity. */
export const CHAIN_VERDICTS = ['circuit_break', 'reset_chain', 'continue'] as const;
export type ChainVerdict = (typeof CHAIN_VERDICTS)[number];
export type Intervention = Exclude<ChainVerdict, 'continue'>;

export interface ChainLimits {
  readonly maxDepth: number;
  readonly maxIterations: number;
  readonly maxStepsPerSecond: number;
  /** So often the same state within the window is a loop. */
  readonly repeats: number;
  readonly windowMs: number;
}

/** One verdict that a condition asks for. `acts` false: it is only told what it would be. */
export interface ChainResponse {
  readonly verdict: Intervention;
  readonly acts: boolean;
}
export type ChainResponses = Readonly<Record<ChainCondition, readonly ChainResponse[]>>;

/** Chains that may be held at once. Each waits for a person; more than these are one fault, not many. */
export const MAX_HELD_CHAINS = 1_024;
/** Resets that are remembered, for a skos-net that was not there when they were said. */
export const MAX_RESETS = 256;

/** What the agent says of chains, whole, to each new subscriber and with each change. */
export interface ChainTruth {
  readonly limits: ChainLimits;
  readonly responses: ChainResponses;
  readonly held: readonly { readonly chain: string; readonly hold: string; readonly reason: string }[];
  /** Holds that were ended, by their own ids: a hold is never ended by not being named. */
  readonly reset: readonly string[];
}

const segment = string({ pattern: /^[a-z0-9_~-]{1,64}$/, expected: 'the id of a chain', max: 64 });

/** What skos-net reports: a chain that is beyond a limit, and what it was told, or would have been. */
export const chainReportShape = object({
  chain: segment,
  /** continue: the configuration has no answer to it but the alert. */
  verdict: oneOf(...CHAIN_VERDICTS),
  /** False: the workload was told to continue. */
  acts: boolean,
  condition: oneOf(...CHAIN_CONDITIONS),
  value: number(),
  limit: number(),
  /** Of the hold that circuit_break began, 16 hex digits; null without one. */
  hold: nullable(string({ pattern: /^[0-9a-f]{16}$/, expected: '16 hex digits', max: 16 })),
});
export type ChainReport = Infer<typeof chainReportShape>;
/** In one request. */
export const MAX_REPORTS = 64;
