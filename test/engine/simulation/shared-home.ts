import { MemoryServer } from "../../stores/shared-memory/server.ts";
import type { MemoryTx } from "../../stores/shared-memory/session.ts";
import { SharedMemoryStore } from "../../stores/shared-memory/store.ts";
import type { CopyRow, Home } from "./homes.ts";

/** A database server, which several processes share and none of them takes along when it dies. */
export function sharedHome(): Home {
  const server = new MemoryServer<CopyRow>();
  return {
    open: () => new SharedMemoryStore(server),
    bury: async () => {},
    dispose: async () => {},
    write: (tx, row) => (tx as MemoryTx<CopyRow>).add(row),
    rows: () => server.rows,
  };
}
