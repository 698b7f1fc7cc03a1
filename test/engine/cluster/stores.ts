/** The stores that several processes share, and servers for them that a test may kill. */
import { Client, Pool } from "pg";
import { Redis } from "ioredis";
import type { Store } from "../../../src/core/store.ts";
import { postgresStore } from "../../../src/stores/postgres.ts";
import { redisStore } from "../../../src/stores/redis.ts";
import { OwnServer } from "../../sources/own-server.ts";
import { PostgresServer } from "../../stores/postgres-server.ts";

export type ClusterStoreName = "postgres" | "redis";

export const CLUSTER_STORES: readonly ClusterStoreName[] = ["postgres", "redis"];

/** @param space what it has to itself: a schema, or a prefix */
export function openOn(name: "postgres", url: string, space: string): ReturnType<typeof postgresStore>;
export function openOn(name: "redis", url: string, space: string): ReturnType<typeof redisStore>;
export function openOn(name: ClusterStoreName, url: string, space: string): Store<never>;
export function openOn(name: ClusterStoreName, url: string, space: string): unknown {
  return name === "postgres" ? postgresStore({ url, schema: space }) : redisStore({ url, prefix: space });
}

export interface ClusterServer extends AsyncDisposable {
  readonly url: string;
  /** Ends it as a loss of power would. */
  crash(): Promise<void>;
  start(): Promise<void>;
  /** Ends about half of the connections from its side, wherever their statements are. */
  cut(random: () => number): Promise<void>;
}

export const startServer: Record<ClusterStoreName, () => Promise<ClusterServer>> = {
  postgres: async () => {
    const server = await PostgresServer.start();
    return {
      url: server.url,
      crash: () => server.stop("immediate"),
      start: () => server.start(),
      cut: async (random) => {
        const client = new Client({ connectionString: server.url });
        await client.connect();
        const text = "SELECT pid FROM pg_stat_activity WHERE application_name = 'trueup'";
        const { rows } = await client.query<{ pid: number }>(text);
        const pids = rows.map(({ pid }) => pid).filter(() => random() < 0.5);
        await client.query("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid", [pids]);
        await client.end();
      },
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
  redis: async () => {
    const server = await OwnServer.start("redis");
    const url = `redis://127.0.0.1:${server.port}`;
    return {
      url,
      crash: () => server.kill(),
      start: () => server.start(),
      cut: async (random) => {
        const client = new Redis(url);
        const own = await client.client("ID");
        const lines = ((await client.client("LIST")) as string).trim().split("\n");
        const ids = lines.map((line) => Number(/^id=(\d+)/.exec(line)?.[1])).filter((id) => id !== own);
        for (const id of ids) if (random() < 0.5) await client.client("KILL", "ID", id);
        client.disconnect();
      },
      [Symbol.asyncDispose]: () => server.remove(),
    };
  },
};

/** The user's copy, where handlers write it with `change.commit`. */
export class CopyTables {
  readonly #pool: Pool;

  constructor(url: string) {
    this.#pool = new Pool({ connectionString: url, max: 1 });
    this.#pool.on("error", () => {}); // the server is killed now and then
  }

  async create(): Promise<void> {
    await this.#pool.query(`
      DROP TABLE IF EXISTS copy, effect;
      CREATE TABLE copy (id text PRIMARY KEY, rev int NOT NULL, text text NOT NULL);
      CREATE TABLE effect (id text, fence bigint, rev int, times int, PRIMARY KEY (id, fence))`);
  }

  async copy(): Promise<CopyRow[]> {
    return (await this.#pool.query<CopyRow>("SELECT id, rev, text FROM copy ORDER BY id")).rows;
  }

  /** Effects that a handling had twice, and states that came after later ones. */
  async faults(): Promise<string[]> {
    const { rows } = await this.#pool.query<{ fault: string }>(`
      SELECT format('%s had its effect %s times under fence %s', id, times, fence) AS fault FROM effect WHERE times > 1
      UNION ALL
      SELECT format('%s was at %s after it was at %s', a.id, b.rev, a.rev) FROM effect a JOIN effect b
        ON a.id = b.id AND a.fence < b.fence WHERE a.rev > b.rev AND b.rev > 0`);
    return rows.map(({ fault }) => fault);
  }

  end(): Promise<void> {
    return this.#pool.end();
  }
}

export interface CopyRow {
  readonly id: string;
  readonly rev: number;
  readonly text: string;
}
