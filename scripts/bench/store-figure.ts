/** One line of a benchmark's table. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** null: for comparison. */
  readonly limit: number | null;
}
