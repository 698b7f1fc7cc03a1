import type { DriftReport, ReconcileReport } from "trueup";

/** What the syncing process is started with. */
export interface SyncConfig {
  readonly database: string;
  readonly apiUrl: string;
  readonly secret: string;
  readonly token: string;
  /** The connections. */
  readonly repositories: readonly string[];
}

/** What the parent asks of it, and what it answers. */
export interface Commands {
  reconcile: { readonly mode: "incremental" | "full"; readonly answer: readonly Counts<ReconcileReport>[] };
  verify: { readonly answer: readonly Counts<DriftReport>[] };
  /** Whether nothing is left to do. */
  drain: { readonly timeoutMs: number; readonly answer: boolean };
  stop: { readonly answer: null };
}

/** A report as it passes through JSON. */
type Counts<Report> = Pick<
  Report,
  { [Key in keyof Report]: Report[Key] extends number ? Key : never }[keyof Report]
>;

export type Command = {
  [Name in keyof Commands]: { readonly name: Name } & Omit<Commands[Name], "answer">;
}[keyof Commands];

export type Request = Command & { readonly id: number };

export type Message =
  | { readonly kind: "listening"; readonly url: string }
  | { readonly kind: "answer"; readonly id: number; readonly answer: unknown }
  | { readonly kind: "failure"; readonly id: number; readonly message: string }
  /** Events whose object was fetched and found as the copy has it already: no handler ran, nothing was written. */
  | { readonly kind: "unchanged"; readonly events: number }
  /** The API contradicted an event, and was given time to catch up. */
  | { readonly kind: "lagging" };
