/** Everything that befalls a cluster, under load; and how it must be once it is over. */
import { setTimeout as wait } from "node:timers/promises";
import { Cluster, type ClusterOptions, type Member } from "./cluster.ts";

/**
 * `kill`: a process is killed, and another takes its place. `replace`: the same in order. `stop`: one sleeps for longer than
 * its lease. `cut`: the server ends half of its connections. `break`: the network ends them. `restart`: the server crashes,
 * and comes back.
 */
export const TROUBLES = ["kill", "replace", "stop", "cut", "break", "restart"] as const;
export type Trouble = (typeof TROUBLES)[number];

const NOTES = Array.from({ length: 20 }, (_, n) => `n${n}`);
const LETTERS = Array.from({ length: 20 }, (_, n) => `letter${n}`);
/** Asleep at once, at most. */
const SLEEPERS = 3;
/** Runs that end between two troubles. */
const BETWEEN = 20;

export class Storm implements AsyncDisposable {
  readonly cluster: Cluster;
  /** What was done so far, for who has to look into a violation. */
  readonly trace: string[] = [];
  readonly counts = Object.fromEntries(TROUBLES.map((trouble) => [trouble, 0])) as Record<Trouble, number>;
  readonly #random: () => number;
  readonly #asleep = new Map<Member, Promise<void>>();
  readonly #patience: number;
  #over = false;

  /** @param patience how long it may be without any progress, in milliseconds */
  constructor(options: Omit<ClusterOptions, "config">, random: () => number, patience: number) {
    this.cluster = new Cluster({ ...options, config: { every: "1s" } });
    this.#random = random;
    this.#patience = patience;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    return this.cluster[Symbol.asyncDispose]();
  }

  /** All of it. An error says what was done before, and what was seen. */
  async run(processes: number, troubles: readonly Trouble[]): Promise<void> {
    try {
      await this.#start(processes);
      await this.#befall(troubles);
      await this.#calm();
    } catch (cause) {
      const violations = this.cluster.witness.all();
      const seen = violations.length === 0 ? "" : `; seen before: ${violations.join("; ")}`;
      throw new Error(`${(cause as Error).message}, after ${this.trace.join(", ")}${seen}`, { cause });
    }
  }

  /** Its processes work, and each has handled something, before anything befalls them. */
  async #start(processes: number): Promise<void> {
    await this.cluster.open();
    await this.cluster.addWorking(processes);
    const load = this.#load();
    await this.#untilAllHandled();
    void load.catch(() => {});
  }

  async #befall(troubles: readonly Trouble[]): Promise<void> {
    for (const trouble of troubles) {
      this.counts[trouble] += 1;
      this.trace.push(trouble);
      await this.#acts[trouble]();
      await this.#within(this.cluster.witness.progress(BETWEEN), `nothing is handled after "${trouble}"`);
    }
  }

  /** The end of all trouble: everybody works, nothing accepted is lost, and the copy becomes the provider's. */
  async #calm(): Promise<void> {
    const { cluster } = this;
    await Promise.all(this.#asleep.values());
    await this.#within(
      Promise.all([...cluster.members].map((member) => member.told("working"))),
      "not everybody works",
    );
    await this.#untilAllHandled();
    this.#over = true;
    await this.#within(cluster.deliverAll(), "not all is accepted");
    await this.#within(this.#twoPasses(), "no pass comes to its end");
    await this.#within(cluster.drain(), "there is always something left to do");
    await cluster.expectAccepted();
    await cluster.expectEqual();
  }

  readonly #acts: Record<Trouble, () => Promise<void>> = {
    kill: async () => {
      const victim = this.#any();
      await this.cluster.kill(victim);
      this.cluster.add();
    },
    replace: async () => {
      const old = this.#any();
      this.cluster.add();
      await this.#within(old.ask({ ask: "retire" }), "a process does not stop").catch((error: unknown) => {
        this.cluster.witness.violations.push(String(error));
      });
      await this.cluster.kill(old);
    },
    stop: async () => {
      if (this.#asleep.size >= SLEEPERS) await Promise.race(this.#asleep.values());
      const sleeper = this.#any();
      this.#asleep.set(sleeper, this.#sleep(sleeper));
    },
    cut: async () => {
      const over = this.cluster.witness.silent();
      await this.cluster.options.server.cut(this.#random);
      over();
    },
    break: async () => {
      const over = this.cluster.witness.silent();
      this.cluster.cutProxy();
      over();
      await Promise.resolve();
    },
    restart: async () => {
      const { server } = this.cluster.options;
      const over = this.cluster.witness.silent();
      await server.crash();
      await wait(this.#random() * 1.5 * this.cluster.options.leaseMs);
      await server.start();
      over();
    },
  };

  async #sleep(sleeper: Member): Promise<void> {
    const over = this.cluster.witness.silent(sleeper.number);
    sleeper.signal("SIGSTOP");
    await wait(1.6 * this.cluster.options.leaseMs);
    sleeper.signal("SIGCONT");
    over();
    this.#asleep.delete(sleeper);
  }

  /** One that is awake. */
  #any(): Member {
    const awake = [...this.cluster.members].filter((member) => !this.#asleep.has(member));
    return awake[Math.floor(this.#random() * awake.length)] as Member;
  }

  /** Objects change, events tell of most notes and of all letters, to whichever process. */
  async #load(): Promise<void> {
    const { provider } = this.cluster;
    while (!this.#over) {
      for (const [ids, told] of [
        [NOTES, 0.8],
        [LETTERS, 1],
      ] as const) {
        const id = ids[Math.floor(this.#random() * ids.length)] as string;
        const kind = provider.notes.has(id) && this.#random() < 0.1 ? "delete" : "upsert";
        provider.change(id, kind, this.#random() < told);
      }
      await provider.deliver(this.cluster.anyPort());
    }
  }

  async #untilAllHandled(): Promise<void> {
    const { members, witness } = this.cluster;
    const before = new Map([...members].map((member) => [member, witness.endedBy(member.number)]));
    const idle = () =>
      [...before]
        .filter(([{ number }, ended]) => witness.endedBy(number) === ended)
        .map(([{ number }]) => number);
    const all = async () => {
      while (idle().length > 0) await witness.progress(1);
    };
    await this.#within(all(), () => `alive, and with no work: ${idle().join()}`);
  }

  /** The one that is under way may have looked at a page before it changed last; not the next one. */
  async #twoPasses(): Promise<void> {
    for (let passes = 0; passes < 2; passes += 1) {
      await new Promise<void>((resolve) => {
        for (const member of this.cluster.members)
          member.onPass = () => {
            if (member.passes.at(-1)?.end === "complete") resolve();
          };
      });
    }
  }

  async #within<T>(promise: Promise<T>, otherwise: string | (() => string)): Promise<T> {
    const late = new AbortController();
    const patience = wait(this.#patience, undefined, { signal: late.signal }).then(() => {
      const what = typeof otherwise === "string" ? otherwise : otherwise();
      throw new Error(`${what}, within ${this.#patience} ms`);
    });
    try {
      return await Promise.race([promise, patience]);
    } finally {
      late.abort();
      patience.catch(() => {});
    }
  }
}
