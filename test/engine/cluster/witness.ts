/**
 * What handlers tell of their runs, each before it goes on: so that of two runs of one object, the one that began later
 * is known to have begun before the other had ended.
 */
import type { Run } from "./config.ts";
import type { CopyRow } from "./stores.ts";

interface OpenRun extends Run {
  readonly begunAt: number;
}

/** An overlap that only a silence explains of which nobody has heard yet. */
interface Suspect {
  readonly member: number;
  readonly at: number;
  readonly what: string;
}

/** A time in which a process (or `undefined`: any) may have been silent towards the store. */
interface Silence {
  readonly member: number | undefined;
  until: number;
}

export class Witness {
  readonly violations: string[] = [];
  /** Runs of one object at once of which the one had lost its lease, as its process had been silent. */
  overtaken = 0;
  /** Writes that came with an old fence, and were refused. */
  refused = 0;
  /** Runs that came to their end, by process. */
  readonly ended = new Map<number, number>();
  /** The user's copy, where handlers write it beside the store: by the fence, as the README says. */
  readonly copy = new Map<string, CopyRow & { readonly fence: number }>();
  readonly #fences = new Map<string, number>();
  readonly #revs = new Map<string, number>();
  readonly #open: OpenRun[] = [];
  readonly #silences: Silence[] = [];
  #suspects: Suspect[] = [];
  readonly #leaseMs: number;
  readonly #now: () => number;
  #onEnd: () => void = () => {};

  constructor(leaseMs: number, now: () => number) {
    this.#leaseMs = leaseMs;
    this.#now = now;
  }

  /** From now on, until the returned function is called, its leases may be lost. */
  silent(member?: number): () => void {
    const silence: Silence = { member, until: Infinity };
    this.#silences.push(silence);
    return () => (silence.until = this.#now());
  }

  /** Its runs are over, whatever they were about to do. Of its last silence, it can say nothing any more. */
  died(member: number): void {
    this.#acquit(member, this.#now() - 2 * this.#leaseMs);
    for (let i = this.#open.length - 1; i >= 0; i -= 1)
      if (this.#open[i]?.member === member) this.#open.splice(i, 1);
  }

  /**
   * It says itself that it gave the store no sign of life for so long: a busy machine is enough for that. What was held
   * against it in that time is no violation.
   */
  wasSilent(member: number, ms: number): void {
    this.#acquit(member, this.#now() - ms - this.#leaseMs);
  }

  /** All that is against the rules, as far as is known now. */
  all(): string[] {
    return [...this.violations, ...this.#suspects.map(({ what }) => what)];
  }

  begin(run: Run): void {
    for (const other of this.#open.filter(({ id }) => id === run.id)) {
      const [loser] = [other, { ...run, begunAt: this.#now() }].toSorted((a, b) => a.fence - b.fence);
      if (this.#wasMadeSilent(loser as OpenRun)) this.overtaken += 1;
      else
        this.#suspects.push({
          member: loser!.member,
          at: this.#now(),
          what: `two at once: ${JSON.stringify(other)} and ${JSON.stringify(run)}`,
        });
    }
    this.#open.push({ ...run, begunAt: this.#now() });
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

  #acquit(member: number, since: number): void {
    const left = this.#suspects.filter((suspect) => suspect.member !== member || suspect.at < since);
    this.overtaken += this.#suspects.length - left.length;
    this.#suspects = left;
  }

  /** Its lease may have been lost from a lease after the silence began; and is no more, a lease after it ended. */
  #wasMadeSilent({ begunAt, member }: OpenRun): boolean {
    return this.#silences.some(
      (silence) => (silence.member ?? member) === member && silence.until + 2 * this.#leaseMs >= begunAt,
    );
  }
}
