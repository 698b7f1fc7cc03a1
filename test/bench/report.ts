/** Medians, paired ratios, and the table. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Row {
  readonly what: string;
  readonly value: number;
  readonly second?: number;
  /** Median of the ratios of paired rounds. */
  readonly ratio?: number;
  readonly goal?: string;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The median of a[i] / b[i]: round i of both ran next to each other. */
export function ratio(a: readonly number[], b: readonly number[]): number {
  return median(a.map((value, i) => value / b[i]!));
}

export function printRows(rows: readonly Row[]): void {
  for (const { what, value, second, ratio: paired, goal } of rows) {
    const values = [value, second]
      .filter((number) => number !== undefined)
      .map(readable)
      .join(" / ");
    const beside = paired === undefined ? "" : `   × ${paired.toFixed(2)}`;
    console.log(
      `${what.padEnd(62)} ${values.padStart(18)}${beside}${goal === undefined ? "" : `   (goal ${goal})`}`,
    );
  }
}

function readable(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toFixed(2);
}

export function temporaryDirectory(): { readonly path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "trueup-bench-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
