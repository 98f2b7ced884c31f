/** One thing that `skos doctor` says: what it looked at, how it stands, and the next step where something is to be done. */

/** `problem`: something essential is missing. `note`: worth knowing, the node is guarded all the same. */
const FINDING_STATES = ['ok', 'note', 'problem'] as const;
export type FindingState = (typeof FINDING_STATES)[number];

export interface Finding {
  /** `area.what`, for scripts. The area is a section of the text. */
  readonly check: string;
  readonly state: FindingState;
  readonly what: string;
  readonly next?: string;
}
