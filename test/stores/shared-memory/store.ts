import { TrueupError } from "../../../src/core/errors.ts";
import type {
  AppendEntry,
  AppendResult,
  DeadLetterFilter,
  PermitGrant,
  RateBudget,
  Store,
  StoreEnvironment,
} from "../../../src/core/store.ts";
import { MemoryStore } from "../../../src/stores/memory/store.ts";
import type { MemoryServer } from "./server.ts";
import { type MemoryTx, SharedSession } from "./session.ts";

/** One process's way to a {@link MemoryServer}: a store for several processes that needs no other than this one. */
export class SharedMemoryStore<Row> extends MemoryStore implements Store<MemoryTx<Row>> {
  readonly guarantees = { durability: "disk", shared: true, transactional: true } as const;
  readonly server: MemoryServer<Row>;
  #environment: StoreEnvironment | undefined;

  constructor(server: MemoryServer<Row>) {
    super();
    this.server = server;
  }

  async open(environment: StoreEnvironment): Promise<void> {
    this.server.open(environment);
    this.#environment = environment;
  }

  /** A session that is still held lives on until its lease is over, as that of a process that died. */
  async close(): Promise<void> {
    this.#environment = undefined;
  }

  async work({ leaseMs }: { readonly leaseMs: number }): Promise<SharedSession<Row>> {
    const { memory } = this;
    return new SharedSession(memory, memory.admit(leaseMs), this.#environment!);
  }

  override async append(entries: readonly AppendEntry[]): Promise<AppendResult[]> {
    const results = await super.append(entries);
    this.server.notify();
    return results;
  }

  override async resume(provider: string, connection: string): Promise<void> {
    await super.resume(provider, connection);
    this.server.notify();
  }

  override async retryDead(filter: DeadLetterFilter): Promise<number> {
    const count = await super.retryDead(filter);
    if (count > 0) this.server.notify();
    return count;
  }

  subscribe(listener: () => void): () => void {
    return this.server.subscribe(listener);
  }

  async takePermits(budget: RateBudget, wanted: number): Promise<PermitGrant> {
    const { memory } = this;
    return memory.permits.take(budget, wanted, memory.elapsedMs);
  }

  protected get memory(): MemoryServer<Row> {
    if (this.#environment === undefined) throw new TrueupError("STORE_FAILED", "the store is not open");
    return this.server;
  }
}
