/**
 * Opening: whether this Redis can be trusted with the data, and how many partitions they are in.
 *
 * @module
 */

import { invalidOption, TrueupError } from "../../core/errors.ts";
import type { Logger } from "../../core/hooks.ts";
import type { RedisClient } from "./client.ts";
import { storeError } from "./failure.ts";

/** Raised when what the keys hold changes its shape. */
const LAYOUT = 1;

/** Where a cluster can spread them; a single server has no use for more than one. */
const PARTITIONS_OF_A_CLUSTER = 16;

export interface Opened {
  readonly partitions: number;
  /** Whether the disk has what a call has resolved. */
  readonly synced: boolean;
}

export interface OpeningOptions {
  readonly prefix: string;
  readonly partitions: number | undefined;
  readonly logger: Logger;
}

/**
 * Safe from many processes at once.
 * @throws TrueupError `STORE_FAILED`, `STORE_VERSION`, `OPTION_INVALID`
 */
export async function prepare(client: RedisClient, options: OpeningOptions): Promise<Opened> {
  const servers = client.nodes?.("master") ?? [client];
  const states = await Promise.all(servers.map((server) => readState(server)));
  for (const state of states) requireFit(state, client, options.logger);
  const wanted = options.partitions ?? (client.isCluster === true ? PARTITIONS_OF_A_CLUSTER : 1);
  const partitions = await agree(client, options, wanted);
  return { partitions, synced: states.every(({ synced }) => synced) };
}

interface ServerState {
  readonly role: string;
  readonly isCluster: boolean;
  readonly eviction: string;
  readonly persistent: boolean;
  readonly synced: boolean;
}

async function readState(server: RedisClient): Promise<ServerState> {
  const info = fields(String(await asked(server.call("INFO"))));
  // Hosted services often do not tell; then the least is assumed.
  const fsync = await server.call("CONFIG", "GET", "appendfsync").then(secondOf, () => "unknown");
  const saves = await server.call("CONFIG", "GET", "save").then(secondOf, () => "unknown");
  const appendOnly = info.get("aof_enabled") === "1";
  return {
    role: info.get("role") ?? "master",
    isCluster: info.get("cluster_enabled") === "1",
    eviction: info.get("maxmemory_policy") ?? "noeviction",
    persistent: appendOnly || saves !== "",
    synced: appendOnly && fsync === "always",
  };
}

function requireFit(state: ServerState, client: RedisClient, logger: Logger): void {
  if (state.role !== "master") {
    const message = `this Redis is a ${state.role}, which cannot be written to: give the store the primary's address`;
    throw new TrueupError("STORE_FAILED", message);
  }
  if (state.isCluster && client.isCluster !== true) {
    throw invalidOption("this Redis is part of a cluster: give redisStore `client: new Cluster(…)`");
  }
  if (state.eviction !== "noeviction") {
    const message =
      `this Redis throws keys away when its memory is full (maxmemory-policy ${state.eviction}), events and ` +
      "pending work among them: set maxmemory-policy to noeviction, or use another Redis";
    throw new TrueupError("STORE_FAILED", message);
  }
  if (!state.persistent) {
    logger.warn(
      {},
      "this Redis writes nothing to disk (no appendonly, no save): a restart of it loses all work",
    );
  }
}

/** The first process decides for all; a number that changed later would hide what the old partitions hold. */
async function agree(
  client: RedisClient,
  { prefix, partitions: given }: OpeningOptions,
  wanted: number,
): Promise<number> {
  const key = `{${prefix}}:store`;
  await asked(client.call("HSETNX", key, "partitions", wanted));
  await asked(client.call("HSETNX", key, "layout", LAYOUT));
  const [partitions, layout] = (await asked(client.call("HMGET", key, "partitions", "layout"))) as string[];
  if (Number(layout) > LAYOUT) {
    throw new TrueupError(
      "STORE_VERSION",
      `the store has layout ${layout}, and this trueup knows up to ${LAYOUT}: upgrade trueup here too`,
    );
  }
  if (given !== undefined && Number(partitions) !== given) {
    throw invalidOption(
      `the store was made with ${partitions} partitions, which cannot be changed to ${given}`,
    );
  }
  return Number(partitions);
}

async function asked<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw storeError(error);
  }
}

function fields(info: string): Map<string, string> {
  return new Map(
    info.split("\r\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1)];
    }),
  );
}

/** Of `CONFIG GET`, in either protocol: a list, or a map. */
function secondOf(reply: unknown): string {
  if (Array.isArray(reply)) return String(reply[1] ?? "unknown");
  const [value = "unknown"] = Object.values(reply as Record<string, unknown>);
  return String(value);
}
