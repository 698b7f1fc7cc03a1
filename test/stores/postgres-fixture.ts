import { Pool } from "pg";
import { postgresStore, type PostgresStoreOptions } from "trueup/postgres";
import { systemClock } from "../../src/core/clock.ts";
import { serviceUrl } from "../services.ts";
import { environment } from "./sqlite-fixture.ts";

/** Schemas of one test file, dropped when the file is through. */
export class Schemas {
  readonly url = serviceUrl("postgres");
  /** For looking from outside, and as a pool of the user's. */
  readonly pool = new Pool({
    connectionString: this.url,
    max: 10,
    options: "-c synchronous_commit=off", // what is tested with it survives no crash of the server
  });
  readonly #prefix: string;
  readonly #names: string[] = [];

  constructor(file: string) {
    this.#prefix = `trueup_test_${file}_${process.pid}`;
    this.pool.setMaxListeners(0);
    this.pool.on("error", () => {});
  }

  /** The name of a schema that is not there yet. */
  name(): string {
    const name = `${this.#prefix}_${this.#names.length}`;
    this.#names.push(name);
    return name;
  }

  async query(sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
    return (await this.pool.query<Record<string, unknown>>(sql, values)).rows;
  }

  /** Empties a schema: quicker than another one. */
  async empty(schema: string): Promise<void> {
    const tables = await this.query(
      "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename <> 'migration'",
      [schema],
    );
    await this.query(tables.map(({ tablename }) => `DELETE FROM ${schema}.${String(tablename)}`).join(";"));
  }

  async end(): Promise<void> {
    for (const name of this.#names) await this.query(`DROP SCHEMA IF EXISTS ${name} CASCADE`);
    await this.pool.end();
  }
}

/** A store by the system's clock, open until the scope that uses it ends. */
export async function openStore(
  options: PostgresStoreOptions,
  clock: Parameters<typeof environment>[0] = systemClock,
) {
  const store = postgresStore(options);
  await store.open(environment(clock));
  return Object.assign(store, { [Symbol.asyncDispose]: () => store.close() });
}
