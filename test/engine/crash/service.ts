/** A service of its own process, as its parent holds it. */
import { Child } from "./child.ts";
import type { Aim } from "./failpoints.ts";
import type { CrashStoreName } from "./stores.ts";

export interface CrashConfig {
  readonly store: CrashStoreName;
  readonly path: string;
  /** Where the tables of the handler are. */
  readonly copy: string;
  /** The provider's base URL. */
  readonly api: string;
  readonly leaseMs: number;
  /** Where compiled code is kept. */
  readonly cache: string;
  readonly aim?: Aim | undefined;
}

export type Ask =
  | { readonly ask: "aim"; readonly aim: Aim | undefined }
  | { readonly ask: "drain" | "reconcile" | "keepReconciling" }
  | { readonly ask: "index"; readonly ids: readonly string[] };

export class Service extends Child<Ask, "listening" | "working" | "refused" | "late"> {
  /** The codes with which commits were refused. */
  readonly refused: unknown[] = [];

  constructor(config: CrashConfig) {
    super("crash-process.ts", config, config.cache);
    this.onTold = (told, value) => {
      if (told === "refused") this.refused.push(value);
    };
  }

  /** Where it takes webhooks; `undefined` when it died before. */
  get port(): Promise<number | undefined> {
    return this.told("listening") as Promise<number | undefined>;
  }

  /** Resolves once it has the right to work; false when it died before. */
  get working(): Promise<boolean> {
    return this.told("working").then((works) => works === true);
  }
}
