import { describe, it } from "vitest";
import { testStore } from "../../src/testing/index.ts";
import { testAgainstModel } from "./model/run.ts";
import { MemoryServer } from "./shared-memory/server.ts";
import { SharedMemoryStore } from "./shared-memory/store.ts";

const processes = {
  create: () => new SharedMemoryStore<string>(new MemoryServer()),
  reopen: (store: unknown) => new SharedMemoryStore<string>((store as SharedMemoryStore<string>).server),
  transaction: {
    write: (tx: { add(line: string): void }, line: string) => tx.add(line),
    read: (store: unknown) => (store as SharedMemoryStore<string>).server.rows,
  },
};

// What the simulation runs several processes on proves something only if it is a store itself.
testStore({ describe, it }, processes);
testAgainstModel("the store that the simulation's processes share", processes);
