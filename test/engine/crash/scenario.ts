/** Changes at a provider, a service that dies, and what must be true of its copy then. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Lookup } from "../../../src/core/store.ts";
import { fastDirectory } from "../../stores/sqlite-fixture.ts";
import type { Aim, Failpoint } from "./failpoints.ts";
import type { Place, Row } from "./places.ts";
import { CrashProvider } from "./provider.ts";
import { Service } from "./service.ts";
import { type CrashStore, crashStores, type CrashStoreName } from "./stores.ts";

const CHANGING = Array.from({ length: 8 }, (_, n) => `n${n}`);
/** Told of again and again, and never changed: its work is settled without a handler. */
const STILL = "still";
const IDS = [...CHANGING, STILL];

/** Of calls that only passes make. */
const PASS_POINTS: readonly string[] = ["recordPage", "endPass", "lock", "unlock", "list"];

/**
 * Where a worker falls asleep with something left to write. Not within a transaction: nobody else could write then.
 */
export const SLEEP_POINTS: readonly Failpoint[] = [
  "handler: before",
  "settle: before",
  "recordPage: before",
  "commit: before",
  "claim: before",
  "endPass: before",
];

interface CopyRow {
  readonly id: string;
  readonly rev: number;
  readonly text: string;
}

/** One service after another on the same data, with one provider. */
export class Scenario implements AsyncDisposable {
  kills = 0;
  /** What was done so far, for who has to look into a violation. */
  readonly trace: string[] = [];
  readonly provider = new CrashProvider();
  readonly #store: CrashStoreName;
  readonly #directory = mkdtempSync(join(fastDirectory, "trueup-crash-"));
  readonly #random: () => number;
  readonly #services = new Set<Service>();
  #api = "";
  #place: Place | undefined;

  constructor(store: CrashStoreName, random: () => number) {
    this.#store = store;
    this.#random = random;
  }

  async start(): Promise<void> {
    this.#api = await this.provider.listen();
    this.#place = await this.#kind.place(this.#directory);
    await this.#query(`
      CREATE TABLE copy (id TEXT PRIMARY KEY, rev INTEGER, text TEXT);
      CREATE TABLE effect (id TEXT, fence BIGINT, rev INTEGER, times INTEGER, PRIMARY KEY (id, fence))`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#services].map((service) => service.kill()));
    await this.provider[Symbol.asyncDispose]();
    await this.#place?.[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  service(aim?: Aim, leaseMs = this.#kind.leaseMs ?? 30_000): Service {
    const { path, copy } = this.#place!;
    const service = new Service({
      store: this.#store,
      path,
      copy,
      api: this.#api,
      cache: join(this.#directory, "cache"),
      leaseMs,
      aim,
    });
    this.#services.add(service);
    void service.ended.then(() => this.#services.delete(service));
    return service;
  }

  /**
   * One life: recovers, is held against the provider, and dies at the failpoint.
   * @returns whether it came by the failpoint at all
   */
  async dieAt(point: Failpoint, hit: number): Promise<boolean> {
    this.trace.push(`${point} (${hit})`);
    const aim = { point, hit, signal: "SIGKILL" } as const;
    // What happens once, at the beginning, is aimed at from the beginning.
    const service = this.service(point.startsWith("work") ? aim : undefined);
    if (!point.startsWith("work")) {
      await this.#recover(service);
      await service.ask({ ask: "aim", aim });
    }
    const passes = PASS_POINTS.some((name) => point.startsWith(name));
    await this.#stir(service, passes);
    const reached = !service.alive || (await this.#diesBy(service));
    await service.kill();
    if (reached) this.kills += 1;
    await this.#expectAtRest();
    return reached;
  }

  /** One life that ends at any moment. */
  async dieAtRandom(): Promise<void> {
    this.trace.push("at random");
    const service = this.service();
    // Some die while they recover; the first one lives long enough to make the tables that are looked at.
    if (this.kills === 0 || this.#random() < 0.7) await this.#recover(service);
    const stirring = this.#stir(service, this.#random() < 0.4);
    await new Promise((resolve) => void setTimeout(resolve, this.#random() * 60));
    await service.kill();
    this.kills += 1;
    await stirring;
    await this.#expectAtRest();
  }

  /**
   * A service falls asleep at the failpoint, another takes over and does all there is to do; then the first one wakes.
   * What the other has written must stay as it is.
   */
  async overtake(point: Failpoint, leaseMs: number): Promise<void> {
    this.trace.push(`asleep at ${point}`);
    const late = this.service(undefined, leaseMs);
    await this.#recover(late);
    await late.ask({ ask: "aim", aim: { point, hit: 1, signal: "SIGSTOP" } });
    const port = await late.port;
    // Nobody waits for the one that sleeps: neither for its answers, nor for its passes.
    void late.ask({ ask: "keepReconciling" }).catch(() => {});
    for (const id of IDS) this.provider.change(id, "upsert", true);
    void this.provider.deliver(port!);
    const successor = this.service(undefined, leaseMs);
    await this.#recover(successor);
    const written = await this.#written();
    late.signal("SIGCONT");
    await late.told("late");
    assert.deepEqual(await this.#written(), written, "who is late writes nothing");
    // Control: it had something to write.
    if (point.startsWith("handler") || point.startsWith("commit"))
      assert.ok(late.refused.includes("LEASE_LOST"), "who slept before its commit had something to write");
    const { refusals = ["LEASE_LOST"] } = this.#kind;
    const others = late.refused.filter((code) => !refusals.includes(String(code)));
    assert.deepEqual(others, [], "and is told why");
    assert.ok(successor.alive, "the one that took over goes on");
    await late.kill();
    await successor.kill();
  }

  /** The last life, which nobody ends before all is well. */
  async converge(): Promise<void> {
    const service = this.service();
    await this.#recover(service);
    await service.kill();
    await this.#expectAtRest();
  }

  /** Several objects change, and webhooks tell of most; passes run beside, if they are to. */
  async #stir(service: Service, passes: boolean): Promise<void> {
    const port = await service.port;
    if (passes) void service.ask({ ask: "keepReconciling" });
    if (this.provider.notes.has(STILL)) this.provider.tellAgain(STILL);
    else this.provider.change(STILL, "upsert", true);
    // Twice, since nothing repeats within one storm: what is settled is changed again.
    for (let round = 0; round < 2; round += 1) {
      for (let change = 0; change < 6; change += 1) {
        const id = CHANGING[Math.floor(this.#random() * CHANGING.length)]!;
        const kind = this.provider.notes.has(id) && this.#random() < 0.2 ? "delete" : "upsert";
        this.provider.change(id, kind, this.#random() < 0.8);
      }
      if (port !== undefined) await this.provider.deliver(port);
    }
  }

  /** Whether it dies by what is under way, or by some more of it. */
  async #diesBy(service: Service): Promise<boolean> {
    await service.ask({ ask: "drain" }).catch(() => {});
    if (service.alive) await service.ask({ ask: "reconcile" }).catch(() => {});
    return !service.alive;
  }

  /** What was accepted is handled with no pass to help; a pass finds the rest. */
  async #recover(service: Service): Promise<void> {
    const port = await service.port;
    assert.ok(port !== undefined && (await service.working), "the service starts again");
    for (let tries = 0; this.provider.open.length > 0 && tries < 10; tries += 1)
      await this.provider.deliver(port);
    assert.equal(this.provider.open.length, 0, "a living service accepts events");
    const drained = await service.ask<{ idle: boolean; counts: { dead: number } }>({ ask: "drain" });
    assert.ok(drained?.idle, `nothing is left to do: ${JSON.stringify(drained)}`);
    assert.equal(drained.counts.dead, 0, "nothing is a dead letter");
    await this.#expectAcceptedHandled();
    // A pass that goes on where another ended has pages behind it on which something may have changed since.
    for (let resumed = true; resumed;) {
      const report = await service.ask<{ resumed: boolean }>({ ask: "reconcile" });
      resumed = report?.resumed === true;
    }
    await service.ask({ ask: "drain" });
    await this.#expectEqual(service);
  }

  /** An event that was answered for is about a state; the copy has that one, or a later one. */
  async #expectAcceptedHandled(): Promise<void> {
    const copy = new Map((await this.#copy()).map((row) => [row.id, row]));
    for (const [id, rev] of this.provider.accepted) {
      const state = this.provider.notes.get(id);
      const copied = copy.get(id);
      if (copied === undefined) assert.ok(state === undefined || state.rev > rev, `${id} at ${rev} was lost`);
      else assert.ok(copied.rev >= rev, `${id} at ${rev} was lost: the copy is at ${copied.rev}`);
    }
  }

  async #expectEqual(service: Service): Promise<void> {
    const objects = [...this.provider.notes.values()].toSorted(byId);
    assert.deepEqual(
      await this.#copy(),
      objects.map(({ id, rev, text }) => ({ id, rev, text })),
      "the copy is the provider's",
    );
    const found = await service.ask<(Lookup | null)[]>({ ask: "index", ids: IDS });
    const indexed = found!.flatMap((lookup, i) => presentIn(lookup ?? undefined, IDS[i]!));
    assert.deepEqual(
      indexed,
      objects.map(({ id, rev }) => ({ id, rev })),
      "the index is the provider's",
    );
  }

  /** What is true between two lives, of handlers that commit: what the engine knows is what the user has. */
  async #expectAtRest(): Promise<void> {
    await this.#place!.rest();
    const { commit, tables } = this.#kind;
    if (commit === undefined || tables === undefined) return;
    assert.deepEqual(
      await this.#query("SELECT * FROM effect WHERE times > 1"),
      [],
      "each handling has its effect once",
    );
    const present = await this.#query(
      `SELECT id, version FROM ${tables.index} WHERE state = 'present' ORDER BY id`,
    );
    const indexed = present.map((row) => ({ id: String(row["id"]), rev: revOf(String(row["version"])) }));
    assert.deepEqual(
      indexed,
      (await this.#copy()).map(({ id, rev }) => ({ id, rev })),
      "copy and index were written together",
    );
    const backwards = await this.#query(
      `SELECT a.id FROM effect a JOIN effect b ON a.id = b.id AND a.fence < b.fence
       WHERE a.rev > b.rev AND a.rev > 0 AND b.rev > 0`,
    );
    assert.deepEqual(backwards, [], "no state is handed over after a later one");
  }

  /** All that the handler and the store have written, but for signs of life, one of which is when events last came. */
  async #written(): Promise<unknown[]> {
    const written: unknown[] = [];
    for (const table of ["copy", "effect", ...(this.#kind.tables?.written ?? [])]) {
      const rows = await this.#query(`SELECT * FROM ${table} ORDER BY 1`);
      written.push(rows.filter((row) => !String(row["key"]).endsWith("last-events")));
    }
    return written;
  }

  async #copy(): Promise<CopyRow[]> {
    const rows = await this.#query("SELECT id, rev, text FROM copy ORDER BY id");
    return rows.map((row) => ({ ...(row as unknown as CopyRow) }));
  }

  async #query(sql: string): Promise<Row[]> {
    return await this.#place!.query(sql);
  }

  get #kind(): CrashStore {
    return crashStores[this.#store];
  }
}

function presentIn(lookup: Lookup | undefined, id: string): { id: string; rev: number }[] {
  if (lookup?.index?.state !== "present") return [];
  return [{ id, rev: revOf(lookup.index.version) }];
}

function revOf(version: string | null): number {
  return Number(version?.replace(/^n:/, ""));
}

function byId(a: { readonly id: string }, b: { readonly id: string }): number {
  return a.id < b.id ? -1 : 1;
}
