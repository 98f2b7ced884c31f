/** How the store is, as `skos status` shows it and the alert of a failing store says it. */
export interface StoreHealth {
  readonly ok: boolean;
  /** One line for `skos status`. */
  readonly why: string;
  /** Nothing of this run is on disk, nor will be. */
  readonly memoryOnly?: boolean;
  /** Records that wait in memory, and those that did not fit there. */
  readonly waiting?: { readonly records: number; readonly lost: number };
  /** The latest database that was set aside in this run, or whose salvage is under way. */
  readonly setAside?: SetAside;
}

export interface SetAside {
  /** Where it is now. */
  readonly path: string;
  /** What LevelDB said of it. */
  readonly why: string;
  /** What became of its records, in words. */
  readonly salvage: string;
  /** `under way`, all of it `whole` in the database again, or something `missing`. */
  readonly state: 'under way' | 'whole' | 'missing';
}
