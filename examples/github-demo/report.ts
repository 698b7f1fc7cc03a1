import type { Difference } from "./compare.ts";

/** What the last line of `--json` says. */
export interface Result {
  /** That were at GitHub in the course of the demo, deleted ones too. */
  readonly objects: number;
  /** That GitHub made: what was dropped is in it, a repetition is not. */
  readonly deliveries: number;
  /** Of the deliveries: never sent. */
  readonly dropped: number;
  /** Of the deliveries: sent twice. */
  readonly duplicated: number;
  /** Events that shared a fetch with another event of their object. */
  readonly coalesced: number;
  /** Requests for one object that the API answered, 304s too. */
  readonly fetches: number;
  /** 304 answers, of fetches and of pages of lists. */
  readonly notModified: number;
  /** Changes that deliveries led to, and that were applied. */
  readonly handled: number;
  /** What reconciliation found missing, stale or to be deleted in the end. */
  readonly repaired: number;
  /** Deletions applied, whoever told of them. */
  readonly deleted: number;
  readonly kills: number;
  /** Objects in which the copy, or the engine's own index, differs from GitHub in the end. */
  readonly drift: number;
}

/** What the table says beside the result. */
export interface Details {
  readonly result: Result;
  readonly differences: readonly Difference[];
  /** What `engine.verify` found. */
  readonly verified: number;
  readonly backfilled: number;
  /** Requests that met no receiver, or were not answered with success. */
  readonly lost: number;
  /** Repetitions that the receiver recognised. */
  readonly duplicates: number;
  readonly ignored: number;
  readonly unchanged: number;
  readonly lagging: number;
  readonly pages: number;
  readonly repairs: { readonly missing: number; readonly stale: number; readonly deleted: number };
}

const SAMPLES = 10;

export function table({ result, ...details }: Details): string {
  const { repairs } = details;
  const rows: readonly (readonly [string, number, string])[] = [
    ["objects", result.objects, `${details.backfilled} of them there at the start, and listed`],
    [
      "deliveries",
      result.deliveries,
      `${result.dropped} dropped, ${details.lost} lost while nobody listened, ${details.ignored} of no interest`,
    ],
    ["duplicates", details.duplicates, `recognised; ${result.duplicated} deliveries were sent twice`],
    [
      "coalesced",
      result.coalesced,
      `events that shared a fetch with another; ${details.unchanged} fetches found nothing new`,
    ],
    [
      "fetches",
      result.fetches,
      `of one object; ${details.lagging} came before the API showed what was announced`,
    ],
    ["304s", result.notModified, `of the fetches and of ${details.pages} pages of lists`],
    ["handled", result.handled, "changes that deliveries led to"],
    [
      "repaired by reconciliation",
      result.repaired,
      `${repairs.missing} missing, ${repairs.stale} stale, ${repairs.deleted} to be deleted`,
    ],
    ["deleted", result.deleted, "told of by a delivery, or found gone"],
  ];
  const names = Math.max(...rows.map(([name]) => name.length));
  const numbers = Math.max(...rows.map(([, number]) => String(number).length));
  return rows
    .map(([name, number, note]) => `${name.padEnd(names)}  ${String(number).padStart(numbers)}  ${note}`)
    .join("\n");
}

/** What differs, where something does: a few of each kind. */
export function describeDifferences({
  differences,
  verified,
}: Pick<Details, "differences" | "verified">): string[] {
  const lines = (["missing", "stale", "extra"] as const).flatMap((kind) => {
    const own = differences.filter((difference) => difference.kind === kind);
    const shown = own
      .slice(0, SAMPLES)
      .map(({ object, fields }) => `  ${kind}  ${object}  ${fields.join(", ")}`.trimEnd());
    return own.length > SAMPLES ? [...shown, `  ${kind}  and ${own.length - SAMPLES} more`] : shown;
  });
  return verified > 0 ? [...lines, `  engine.verify found ${verified} to differ`] : lines;
}
