/**
 * What handlers tell of their runs, each before it goes on: so that of two runs of one object, the one that began later
 * is known to have begun before the other had ended.
 */
import type { Run } from "./config.ts";
import type { CopyRow } from "./stores.ts";

/** Two runs of one object at once, which only a silence of the one that is to lose explains. */
interface Overlap {
  readonly loser: number;
  readonly at: number;
  readonly what: string;
}

/** A time in which a process gave the store no sign of life, for longer than a lease. */
interface Silence {
  readonly member: number;
  readonly from: number;
  readonly until: number;
}

export class Witness {
  readonly violations: string[] = [];
  /** Writes that came with an old fence, and were refused. */
  refused = 0;
  /** Runs that came to their end, by process. */
  readonly ended = new Map<number, number>();
  /** The user's copy, where handlers write it beside the store: by the fence, as the README says. */
  readonly copy = new Map<string, CopyRow & { readonly fence: number }>();
  readonly #fences = new Map<string, number>();
  readonly #revs = new Map<string, number>();
  readonly #open: Run[] = [];
  readonly #silences: Silence[] = [];
  readonly #overlaps: Overlap[] = [];
  readonly #leaseMs: number;
  readonly #now: () => number;
  #onEnd: () => void = () => {};

  constructor(leaseMs: number, now: () => number) {
    this.#leaseMs = leaseMs;
    this.#now = now;
  }

  /** Its runs are over, whatever they were about to do. Of its last silence, it can say nothing any more. */
  died(member: number): void {
    this.wasSilent(member, 2 * this.#leaseMs);
    for (let i = this.#open.length - 1; i >= 0; i -= 1)
      if (this.#open[i]?.member === member) this.#open.splice(i, 1);
  }

  /**
   * It says itself that it gave the store no sign of life for so long: it slept, the server was gone, or the machine is
   * busy. Its leases may have been lost in that time, and it may not have noticed until now.
   */
  wasSilent(member: number, ms: number): void {
    this.#silences.push({ member, from: this.#now() - ms, until: this.#now() });
  }

  /** All that is against the rules, as far as is known now. */
  all(): string[] {
    const unexplained = this.#overlaps.filter((overlap) => !this.#isExplained(overlap));
    return [...this.violations, ...unexplained.map(({ what }) => what)];
  }

  /** How many runs of one object at once a silence explains. */
  get overtaken(): number {
    return this.#overlaps.filter((overlap) => this.#isExplained(overlap)).length;
  }

  begin(run: Run): void {
    const at = this.#now();
    for (const other of this.#open.filter(({ id }) => id === run.id)) {
      const loser = other.fence < run.fence ? other.member : run.member;
      this.#overlaps.push({
        loser,
        at,
        what: `two at once: ${JSON.stringify(other)} and ${JSON.stringify(run)}`,
      });
    }
    this.#open.push(run);
  }

  write(run: Run, text: string): void {
    const { fence, id, rev } = run;
    if (fence <= (this.#fences.get(id) ?? -1)) {
      this.refused += 1;
      return;
    }
    this.#fences.set(id, fence);
    if (rev < 0) {
      this.copy.delete(id);
      return;
    }
    const last = this.#revs.get(id) ?? 0;
    if (rev < last) this.violations.push(`${id} was at ${rev} after it was at ${last}`);
    this.#revs.set(id, rev);
    this.copy.set(id, { id, rev, text, fence });
  }

  end(run: Run): void {
    const at = this.#open.findIndex(
      ({ fence, id, member }) => id === run.id && fence === run.fence && member === run.member,
    );
    if (at >= 0) this.#open.splice(at, 1);
    this.ended.set(run.member, this.endedBy(run.member) + 1);
    this.#onEnd();
  }

  endedBy(member: number): number {
    return this.ended.get(member) ?? 0;
  }

  /** Resolves once so many more runs have ended. */
  async progress(runs: number): Promise<void> {
    for (let left = runs; left > 0; left -= 1) await new Promise<void>((resolve) => (this.#onEnd = resolve));
  }

  /** What a process had begun before it noticed may go on for a while. */
  #isExplained({ at, loser }: Overlap): boolean {
    return this.#silences.some(
      ({ from, member, until }) => member === loser && at >= from && at <= until + this.#leaseMs,
    );
  }
}
