/** Clusters of a test file, each with something of its own on one server. */
import { afterAll, beforeAll, onTestFinished } from "vitest";
import { Cluster } from "./cluster.ts";
import type { ClusterConfig } from "./config.ts";
import { type ClusterServer, type ClusterStoreName, startServer } from "./stores.ts";

export const LEASE_MS = 2_000;

/** @returns makes one, without any process yet, for the length of a test */
export function clustersOn(store: ClusterStoreName): (config: Partial<ClusterConfig>) => Promise<Cluster> {
  let server: ClusterServer | undefined;
  let spaces = 0;
  beforeAll(async () => {
    server = await startServer[store]();
  }, 60_000);
  afterAll(() => server?.[Symbol.asyncDispose]());
  return async (config) => {
    if (server === undefined) throw new Error("the server has not started");
    spaces += 1;
    const cluster = new Cluster({ store, server, space: `space${spaces}`, leaseMs: LEASE_MS, config });
    onTestFinished(() => cluster[Symbol.asyncDispose]());
    await cluster.open();
    return cluster;
  };
}
