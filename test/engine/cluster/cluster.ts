/** Several processes on one store, with one provider, which sees what each of them does. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../../src/core/clock.ts";
import type { Scope } from "../../../src/core/event.ts";
import type { Store } from "../../../src/core/store.ts";
import { environment } from "../../stores/sqlite-fixture.ts";
import { proxied, type TcpProxy } from "../../sources/tcp-proxy.ts";
import { Child } from "../crash/child.ts";
import { CrashProvider, isLetter } from "../crash/provider.ts";
import type { ClusterAsk, ClusterConfig, ClusterTold, Run, ToldPass, ToldRequest } from "./config.ts";
import { type ClusterServer, type ClusterStoreName, CopyTables, type CopyRow, openOn } from "./stores.ts";
import { Witness } from "./witness.ts";

/** A process of it, as its parent holds it. */
export class Member extends Child<ClusterAsk, ClusterTold> {
  readonly passes: ToldPass[] = [];
  readonly sent: ToldRequest[] = [];
  readonly number: number;
  /** 0: not known yet. */
  port = 0;
  /** Whether it was killed, rather than ended by itself. */
  ending = false;
  onPass: () => void = () => {};
  onSilence: (ms: number) => void = () => {};

  constructor(config: ClusterConfig, cache: string) {
    super("cluster-process.ts", config, cache);
    this.number = config.member;
    this.onTold = (told, value) => {
      if (told === "listening") this.port = value as number;
      if (told === "sent") this.sent.push(value as ToldRequest);
      if (told === "silent") this.onSilence(value as number);
      if (told !== "pass") return;
      this.passes.push(value as ToldPass);
      this.onPass();
    };
  }

  override kill(): Promise<void> {
    this.ending = true;
    return super.kill();
  }
}

export interface ClusterOptions {
  readonly store: ClusterStoreName;
  readonly server: ClusterServer;
  readonly space: string;
  readonly leaseMs: number;
  /** What its processes are to do, beside what all do. */
  readonly config?: Partial<ClusterConfig>;
}

export class Cluster implements AsyncDisposable {
  readonly provider = new CrashProvider();
  readonly witness: Witness;
  readonly members = new Set<Member>();
  readonly options: ClusterOptions;
  /** What is asked of the API, in its order. */
  onCall: (url: URL) => void | Promise<void> = () => {};
  readonly #cache = mkdtempSync(join(tmpdir(), "trueup-cluster-"));
  readonly #tables: CopyTables | undefined;
  #proxy: TcpProxy | undefined;
  #proxiedUrl = "";
  #store: Store<never> | undefined;
  #api = "";
  #members = 0;

  constructor(options: ClusterOptions) {
    this.options = options;
    this.witness = new Witness(options.leaseMs, () => performance.now());
    if (options.store === "postgres") this.#tables = new CopyTables(options.server.url);
    this.provider.onRequest = async (url) => {
      const isRun = url.pathname.startsWith("/runs/");
      if (isRun) this.#witnessed(url);
      else await this.onCall(url);
      return isRun ? {} : undefined;
    };
  }

  async open(): Promise<void> {
    const { server } = this.options;
    this.#api = await this.provider.listen();
    const { proxy, url } = await proxied(server.url);
    this.#proxy = proxy;
    this.#proxiedUrl = url;
    await this.#tables?.create();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const member of this.members) member.signal("SIGCONT");
    await Promise.all([...this.members].map((member) => member.kill()));
    await this.#store?.close();
    await this.#tables?.end();
    await this.#proxy?.stop();
    await this.provider[Symbol.asyncDispose]();
    rmSync(this.#cache, { recursive: true, force: true, maxRetries: 10 });
  }

  /** Another process. Every second one reaches the store through what {@link cutProxy} cuts. */
  add(): Member {
    this.#members += 1;
    const number = this.#members;
    const { config, leaseMs, server, space, store } = this.options;
    const member = new Member(
      {
        store,
        url: number % 2 === 0 ? this.#proxiedUrl : server.url,
        space,
        member: number,
        api: this.#api,
        leaseMs,
        concurrency: 2,
        handlerMs: 30,
        ...config,
      },
      this.#cache,
    );
    this.members.add(member);
    member.onSilence = (ms) => this.witness.wasSilent(number, ms);
    void member.ended.then(() => {
      this.members.delete(member);
      if (!member.ending) this.witness.violations.push(`process ${number} ended by itself`);
    });
    return member;
  }

  /** As many processes, all of which have the right to work. */
  async addWorking(count: number): Promise<Member[]> {
    const added = [this.add()];
    await added[0]?.told("working"); // what it has compiled, the others need not
    while (added.length < count) added.push(this.add());
    await Promise.all(added.map((member) => member.told("working")));
    return added;
  }

  async kill(member: Member): Promise<void> {
    const killed = member.kill();
    this.witness.died(member.number);
    await killed;
  }

  cutProxy(): void {
    this.#proxy?.cut();
  }

  /** Sends what is open to processes in turn, until all of it is accepted. */
  async deliverAll(): Promise<void> {
    while (this.provider.open.length > 0) await this.provider.deliver(this.anyPort());
  }

  anyPort(): () => number {
    const ports = [...this.members].map(({ port }) => port).filter((port) => port > 0);
    let turn = 0;
    return () => ports[(turn += 1) % ports.length] ?? 0;
  }

  /** Until nothing is left to do, for whomever. */
  async drain(): Promise<void> {
    for (const [member] = this.members; ;) {
      assert.ok(member, "there is a process");
      const drained = await member.ask<{ idle: boolean; counts: { dead: number } }>({ ask: "drain" });
      assert.equal(drained?.counts.dead, 0, "nothing is a dead letter");
      if (drained.idle) return;
    }
  }

  /** A store of the parent's own, to look into. */
  async look(): Promise<Store<never>> {
    if (this.#store !== undefined) return this.#store;
    const { server, space, store } = this.options;
    const own = openOn(store, server.url, space);
    await own.open(environment(systemClock));
    this.#store = own;
    return own;
  }

  async copy(): Promise<CopyRow[]> {
    if (this.#tables !== undefined) return await this.#tables.copy();
    return [...this.witness.copy.values()].map(({ id, rev, text }) => ({ id, rev, text })).toSorted(byId);
  }

  /** What is in force for what was accepted, with no pass to help: letters are in no list. */
  async expectAccepted(): Promise<void> {
    const copy = new Map((await this.copy()).map((row) => [row.id, row.rev]));
    for (const [id, rev] of this.provider.accepted) {
      if (!isLetter(id)) continue;
      const state = this.provider.notes.get(id);
      const copied = copy.get(id);
      if (copied === undefined) assert.ok(state === undefined, `${id} at ${rev} was lost`);
      else assert.ok(copied >= rev, `${id} at ${rev} was lost: the copy is at ${copied}`);
    }
  }

  /** Copy and index are the provider's, and nothing that was seen on the way is against the rules. */
  async expectEqual(): Promise<void> {
    const objects = [...this.provider.notes.values()].toSorted(byId);
    assert.deepEqual(
      await this.copy(),
      objects.map(({ id, rev, text }) => ({ id, rev, text })),
      "the copy is the provider's",
    );
    const store = await this.look();
    for (const resource of ["note", "letter"]) {
      const own = objects.filter(({ id }) => isLetter(id) === (resource === "letter"));
      const scope = scopeOf(resource);
      const found = await store.lookup(
        scope,
        own.map(({ id }) => id),
      );
      const versions = found.map((lookup) => lookup?.index?.version);
      assert.deepEqual(
        versions,
        own.map(({ rev }) => `n:${rev}`),
        "the index is the provider's",
      );
      assert.equal(await store.countPresent(scope), own.length, "the index holds nothing else");
    }
    assert.deepEqual([...this.witness.all(), ...((await this.#tables?.faults()) ?? [])], []);
  }

  #witnessed({ pathname, searchParams }: URL): void {
    const run = JSON.parse(searchParams.get("run") ?? "") as Run;
    if (![...this.members].some(({ ending, number }) => number === run.member && !ending)) return; // its last words
    if (pathname === "/runs/begin") this.witness.begin(run);
    else if (pathname === "/runs/write") this.witness.write(run, searchParams.get("text") ?? "");
    else this.witness.end(run);
  }
}

export function scopeOf(resource: string): Scope {
  return { provider: "notes", connection: "default", resource };
}

function byId(a: { readonly id: string }, b: { readonly id: string }): number {
  return a.id < b.id ? -1 : 1;
}
