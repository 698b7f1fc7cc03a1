import type { Batch, Change } from "trueup";
import { RejectError, RetryLaterError } from "trueup";
import { contentHash } from "../../../src/core/content.ts";
import { ownerOf } from "./accounts.ts";
import type { Dice } from "./dice.ts";
import type { Handling } from "./handlings.ts";
import type { CopyRow } from "./homes.ts";
import type { Life } from "./life.ts";
import { ATTEMPTS, CANARY, MOST_EVENTS, type Thing } from "./provider.ts";

type ThingChange = Change<Thing, unknown>;
type ThingBatch = Batch<Thing, unknown>;

/** What the ids of forged events begin with. */
export const FORGED = "forged_";

/** A change as a handler got it. */
export interface Handed {
  readonly id: string;
  /** The state's mark; `null`: deleted. */
  readonly mark: string | null;
  readonly regressed: boolean;
  readonly fence: number;
  /** `null`: deleted. */
  readonly version?: number | null;
  /** Of its content; `undefined`: deleted. */
  readonly hash?: string | undefined;
}

export interface CopyOptions {
  readonly commits: boolean;
  readonly dice: Dice;
  /** How likely a handler fails, in one of its ways. Changes when the faults end. */
  readonly failure: () => number;
  readonly trace: (line: string) => void;
  /** Writes in a commit's transaction. */
  readonly write: (tx: unknown, row: CopyRow) => void;
  /** A handler got a change. @returns what to call when it has ended */
  readonly begun: (handed: Handed, handling: Handling) => () => void;
  readonly violated: (invariant: string, what: string) => void;
}

/** The user's copy, and the handlers that keep it. It lives outside of the processes. */
export class Copy {
  readonly #options: CopyOptions;
  /** What handlers were given, in order, settled or not. */
  readonly handed: Handed[] = [];
  /** What was written of it, where handlers write without `commit`. */
  readonly applied: Handed[] = [];
  /** The copy of a handler that writes without `commit`, with the fence of each row's last write. */
  readonly #rows = new Map<string, { mark: string | null; fence: number }>();
  /** Up to which fence the user has thrown away what was written, by connection. */
  readonly #cleared = new Map<string, number>();

  constructor(options: CopyOptions) {
    this.#options = options;
  }

  /** What the copy holds: id and mark of each object. */
  rows(): Map<string, string> {
    const held = new Map<string, string>();
    for (const [id, { fence, mark }] of this.#rows)
      if (mark !== null && !this.isCleared(id, fence)) held.set(id, mark);
    return held;
  }

  /** The user throws away all of an account that was written by then. */
  clear(connection: string, fence: number): void {
    this.#cleared.set(connection, fence);
  }

  isCleared(id: string, fence: number): boolean {
    return fence <= (this.#cleared.get(ownerOf(id).connection) ?? -Infinity);
  }

  handler(life: Life): (change: ThingChange) => Promise<void> {
    return async (change) => {
      const ended = this.#receive(change, life);
      try {
        await this.#handle(change, life);
      } finally {
        ended();
      }
    };
  }

  async #handle(change: ThingChange, life: Life): Promise<void> {
    await life.cross("handler");
    const { dice } = this.#options;
    const early = dice.chance(0.5);
    if (early) await this.#fail(change, life);
    if (this.#options.commits) {
      await change.commit(async (tx) => {
        this.#write(tx, change);
        await life.crossInCommit("inside the commit");
        if (!early) this.#throw();
      });
      if (dice.chance(this.#options.failure() / 5)) throw new Error("the handler failed after its commit");
    } else {
      await this.#apply(change, life);
      if (!early) await this.#fail(change, life);
    }
    await life.cross("handler ends");
  }

  batchHandler(life: Life): (changes: readonly ThingChange[], batch: ThingBatch) => Promise<void> {
    return async (changes, batch) => {
      const endings = changes.map((change) => this.#receive(change, life));
      try {
        await this.#handleBatch(changes, batch, life);
      } finally {
        for (const ended of endings) ended();
      }
    };
  }

  async #handleBatch(changes: readonly ThingChange[], batch: ThingBatch, life: Life): Promise<void> {
    const { commits, dice, failure } = this.#options;
    await life.cross("batch handler");
    const well = changes.filter((change) => {
      if (!dice.chance(failure() / 3)) return true;
      batch.fail(change, new Error("a change of the batch failed"));
      return false;
    });
    if (commits) {
      await batch.commit(async (tx, live) => {
        for (const change of live) this.#write(tx, change);
        await life.crossInCommit("inside the batch's commit");
        this.#throw();
      });
    } else {
      for (const change of well) await this.#apply(change, life);
      this.#throw();
    }
    await life.cross("batch handler ends");
  }

  /** @returns what to call when the handler has ended */
  #receive(change: ThingChange, life: Life): () => void {
    const { begun, violated, trace } = this.#options;
    const { attempt, eventCount, events, fence, ref, regressed, signal } = change;
    const mark = change.kind === "upsert" ? change.object.mark : null;
    trace(`${life.name} hands ${ref.id} ${mark ?? "deleted"} attempt ${attempt} fence ${fence}`);
    if (attempt > ATTEMPTS) violated("I10", `${ref.id} was handed over in attempt ${attempt}`);
    if (events.some((event) => event.id?.startsWith(FORGED) === true))
      violated("I11", `${ref.id} was handed over for a forged event`);
    if (events.length > MOST_EVENTS || events.length > eventCount)
      violated("I10", `${ref.id} was handed over with ${events.length} of ${eventCount} events`);
    const version = change.kind === "upsert" ? change.object.version : null;
    const hash = change.kind === "upsert" ? contentHash(change.object) : undefined;
    const handed: Handed = { id: ref.id, mark, regressed, fence, version, hash };
    this.handed.push(handed);
    return begun(handed, { life, id: ref.id, fence, signal });
  }

  /** An idempotent write that refuses what comes from a worker that lost its lease, as `change.fence` lets one. */
  async #apply(change: ThingChange, life: Life): Promise<void> {
    await life.act("the user's database", async () => {
      const before = this.#rows.get(change.ref.id);
      if (before !== undefined && before.fence > change.fence) return;
      if (this.isCleared(change.ref.id, change.fence)) return;
      const mark = change.kind === "upsert" ? change.object.mark : null;
      const { fence, ref, regressed } = change;
      this.#rows.set(ref.id, { mark, fence });
      this.applied.push({ id: ref.id, mark, regressed, fence });
    });
  }

  #write(tx: unknown, change: ThingChange): void {
    const state = change.kind === "upsert" ? change.object.mark : null;
    const { fence, ref, regressed } = change;
    this.#options.write(tx, { id: ref.id, state, regressed: Number(regressed), fence });
  }

  /** Fails in one of the ways of handlers, sometimes by never ending. */
  async #fail({ signal }: ThingChange, life: Life): Promise<void> {
    const { dice, failure } = this.#options;
    if (dice.chance(failure() / 10)) {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      await life.cross("a late handler");
      throw new Error("the handler was late");
    }
    this.#throw();
  }

  #throw(): void {
    const { dice, failure } = this.#options;
    if (!dice.chance(failure())) return;
    const roll = dice.random();
    if (roll < 0.1) throw new RejectError("the handler does not want this");
    if (roll < 0.3) throw new RetryLaterError(dice.between(1, 20_000));
    throw new Error(`the handler failed with ${CANARY}`);
  }
}
