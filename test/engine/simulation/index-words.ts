import type { Claim, IndexEntry, Lookup, Settlement } from "trueup";
import type { FakeState } from "trueup/testing";
import { contentHash } from "../../../src/core/content.ts";
import type { Handed } from "./copy.ts";
import type { Life } from "./life.ts";
import { thingSchema } from "./provider.ts";

interface Settled {
  readonly index: IndexEntry;
  /** When somebody began to settle it. */
  readonly asked: number;
}

export interface IndexWordsOptions {
  /** The number of what happens now. */
  readonly step: () => number;
  readonly history: (id: string) => readonly FakeState[];
  readonly violated: (invariant: string, what: string) => void;
}

/**
 * What the index says of the copy by other ways than by handling: `adopt`, and passes that hand nothing over.
 *
 * I4: it says nothing older than what was handled since. I9: what it says that the copy holds is not handed over again.
 */
export class IndexWords {
  readonly #options: IndexWordsOptions;
  readonly #claims = new Map<string, Claim>();
  /** Claims under which objects are handed over whatever they are. */
  readonly #whole = new Set<string>();
  readonly #settled = new Map<string, Settled>();
  /** When the store first gave each value of its counter. */
  readonly #counted = new Map<number, number>();
  /** Passes under way that hand nothing over. */
  readonly #silent = new Set<{ readonly life: Life; readonly connection: string }>();
  /** The state that the index was told of and no handler; `null`: that the object is gone. */
  readonly #untold = new Map<string, string | null>();
  /** As of when the index was last told otherwise than by a handling. */
  readonly #recorded = new Map<string, number>();
  /** From when on the index has held each object, since its connection was forgotten. */
  readonly #known = new Map<string, number>();

  constructor(options: IndexWordsOptions) {
    this.#options = options;
  }

  /** A pass begins that hands nothing over. @returns what ends it */
  silent(life: Life, connection: string): () => void {
    const pass = { life, connection };
    this.#silent.add(pass);
    return () => void this.#silent.delete(pass);
  }

  counted(value: number, step: number): void {
    if (!this.#counted.has(value)) this.#counted.set(value, step);
  }

  leased(claims: readonly Claim[]): void {
    for (const claim of claims) this.#claims.set(claim.ref.id, claim);
  }

  /** These are handed over whatever they are. */
  forced(claims: readonly Claim[]): void {
    for (const { fence, ref } of claims) this.#whole.add(claimKey(ref.id, fence));
  }

  handed({ fence, hash, id, mark, regressed }: Handed): void {
    const claim = this.#claims.get(id);
    const index = claim?.fence === fence ? claim.index : undefined;
    if (claim === undefined || index?.state !== "present") return;
    const [held, now] = [this.#markOf(id, index), mark].map((one) => this.#placeOf(id, one));
    if (held !== undefined && now !== undefined && now < held && !regressed)
      this.#options.violated("I4", `${id}: ${mark} was handed over, behind what the index had`);
    const whole = claim.forced || claim.begun || this.#whole.has(claimKey(id, fence));
    if (!whole && (index.hash === hash || index.rowHash === hash))
      this.#options.violated("I9", `${id} was handed over again, as the index had it`);
  }

  settled(settlement: Settlement, asked: number, wasHanded: boolean): void {
    if (settlement.kind !== "done" || settlement.index === null) return;
    const { id } = settlement.claim.ref;
    this.#settled.set(id, { index: settlement.index, asked });
    if (settlement.index.state === "present") this.#isHeld(id);
    if (wasHanded) this.#untold.delete(id);
  }

  /** @param found what the store knows of them after it recorded them */
  recorded(
    { connection, life }: { readonly connection: string; readonly life: Life },
    entries: readonly { readonly id: string; readonly index: IndexEntry }[],
    found: readonly (Lookup | undefined)[],
  ): void {
    const silent = [...this.#silent].some((pass) => pass.life === life && pass.connection === connection);
    for (const [i, { id, index }] of entries.entries()) {
      const now = found[i]?.index;
      if (now === undefined || !saysTheSame(now, index)) continue; // left to what is newer
      if (now.state === "present") this.#isHeld(id);
      this.#recorded.set(id, now.evidence);
      this.#expectNewest(id, index, now);
      const mark = this.#markOf(id, index);
      if (silent && mark !== undefined) this.#untold.set(id, mark);
    }
  }

  #expectNewest(id: string, index: IndexEntry, now: IndexEntry): void {
    const settled = this.#settled.get(id);
    if (settled === undefined || saysTheSame(settled.index, index)) return;
    const leased = this.#claims.get(id)?.fence ?? 0;
    if (now.evidence > settled.index.evidence && now.evidence <= leased) return; // handled again meanwhile
    const newer =
      settled.index.evidence > index.evidence ||
      settled.asked > (this.#counted.get(index.evidence) ?? Infinity);
    if (newer)
      this.#options.violated(
        "I4",
        `${id}: what was recorded as of ${index.evidence} stands in the place of what was handled since`,
      );
  }

  /** Whether the index was told of this state, and no handler. */
  isUntold(id: string, mark: string | null): boolean {
    return this.#untold.get(id) === mark;
  }

  /** Whether the index held it by a step, since its connection was forgotten. */
  isKnown(id: string, by: number): boolean {
    return (this.#known.get(id) ?? Infinity) <= by;
  }

  #isHeld(id: string): void {
    if (!this.#known.has(id)) this.#known.set(id, this.#options.step());
  }

  forgotten(id: string): void {
    this.#untold.delete(id);
    this.#settled.delete(id);
    this.#known.delete(id);
  }

  /** Whether the index says what it says as of then by such a way. */
  isRecorded(id: string, evidence: number): boolean {
    return this.#recorded.get(id) === evidence;
  }

  #placeOf(id: string, mark: string | null | undefined): number | undefined {
    if (mark === null || mark === undefined) return undefined;
    return this.#options.history(id).findIndex(({ object }) => object?.["mark"] === mark);
  }

  #markOf(id: string, index: IndexEntry): string | null | undefined {
    if (index.state === "gone") return null;
    const hash = index.hash ?? index.rowHash;
    for (const { object } of this.#options.history(id)) {
      if (object === undefined) continue;
      const thing = thingSchema.parse(object);
      if (contentHash(thing) === hash) return thing.mark;
    }
    return undefined;
  }
}

/** Objects that were leased together may have one fence. */
export function claimKey(id: string, fence: number): string {
  return `${fence} ${id}`;
}

function saysTheSame(a: IndexEntry, b: IndexEntry): boolean {
  const hash = ({ hash: own, rowHash }: IndexEntry) => own ?? rowHash;
  return a.state === b.state && a.version === b.version && hash(a) === hash(b);
}
