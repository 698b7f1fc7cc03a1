/**
 * Calls of the schema's functions over the pool: one call is one statement, and so one round trip and one transaction.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { type Random, sleep, systemClock } from "../../core/clock.ts";
import type { PgPool, PgPoolClient } from "./driver.ts";
import { isBroken, isConflict, storeError } from "./errors.ts";

/** How long a call may take until its connection counts as dead. */
const QUERY_TIMEOUT_MS = 30_000;

/** How often a call is run again whose transaction was in the way of another's. */
const CONFLICT_TRIES = 5;
const CONFLICT_DELAY_MS = 20;

export type Row = readonly unknown[];

export class Database {
  readonly schema: string;
  /** The schema as an identifier. */
  readonly quoted: string;
  readonly pool: PgPool;
  /** False behind a pooler that gives each transaction another connection: then nothing may be left on one. */
  direct = true;
  readonly #random: Random;
  readonly #statements = new Map<string, { readonly name: string; readonly text: string }>();

  constructor(pool: PgPool, schema: string, random: Random) {
    this.pool = pool;
    this.schema = schema;
    this.quoted = `"${schema}"`;
    this.#random = random;
  }

  /** Calls a function of the schema. */
  async call(name: string, values: readonly unknown[]): Promise<Row[]> {
    return await this.query(this.#statementOf(name, values.length), values);
  }

  /** The function's only value. */
  async value<T>(name: string, values: readonly unknown[]): Promise<T> {
    const [row] = await this.call(name, values);
    return row?.[0] as T;
  }

  /** Runs one statement as a transaction of its own, again where others were in its way. */
  async query(statement: { text: string; name?: string }, values: readonly unknown[] = []): Promise<Row[]> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#once(statement, values);
      } catch (error) {
        if (!isConflict(error) || tries === CONFLICT_TRIES) throw storeError(error, this.schema);
      }
      await sleep(systemClock, this.#random() * CONFLICT_DELAY_MS * tries);
    }
  }

  async #once(statement: { text: string; name?: string }, values: readonly unknown[]): Promise<Row[]> {
    const client = await this.pool.connect();
    let broken = true;
    const listen = () => {};
    client.on("error", listen);
    try {
      const rows = await this.on(client, statement, values);
      broken = false;
      return rows;
    } catch (error) {
      broken = isBroken(error);
      throw error;
    } finally {
      client.removeListener("error", listen);
      client.release(broken);
    }
  }

  /**
   * Calls a function as the last thing of a transaction, and commits it: in one message, which the server carries out to
   * its end though the sender stand still or die. The locks that the call takes wait for nobody then.
   * @throws as the driver does; what the function raises, and what COMMIT finds, roll back
   */
  async callAndCommit(
    client: PgPoolClient,
    name: string,
    values: readonly (string | number | null)[],
  ): Promise<Row[]> {
    // Several statements in one message take no parameters.
    const text = `SELECT * FROM ${this.quoted}.${name}(${values.map(literal).join(", ")}); COMMIT`;
    const query = { text, rowMode: "array", types: TYPES, query_timeout: QUERY_TIMEOUT_MS };
    const [{ rows }] = (await client.query(query)) as [{ rows: Row[] }];
    return rows;
  }

  async on(
    client: PgPoolClient,
    { text, name }: { text: string; name?: string },
    values: readonly unknown[] = [],
  ): Promise<Row[]> {
    const { rows } = (await client.query({
      text,
      values,
      rowMode: "array",
      types: TYPES,
      query_timeout: QUERY_TIMEOUT_MS,
      ...(name === undefined || !this.direct ? undefined : { name }),
    })) as { rows: Row[] };
    return rows;
  }

  #statementOf(name: string, parameters: number): { name: string; text: string } {
    let known = this.#statements.get(name);
    if (known === undefined) {
      const places = Array.from({ length: parameters }, (_, i) => `$${i + 1}`).join(", ");
      // A pool may be shared by stores of several schemas; a name has 63 bytes.
      const mark = createHash("sha256").update(this.schema).digest("hex").slice(0, 8);
      known = { name: `trueup_${mark}_${name}`, text: `SELECT * FROM ${this.quoted}.${name}(${places})` };
      this.#statements.set(name, known);
    }
    return known;
  }
}

/** Right whatever `standard_conforming_strings` says. */
function literal(value: string | number | null): string {
  if (typeof value !== "string") return String(value);
  return `E'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

const OID = {
  bool: 16,
  int8: 20,
  int2: 21,
  int4: 23,
  float8: 701,
  int4Array: 1007,
  int8Array: 1016,
} as const;

const asNumber = (text: string) => Number(text);
const asNumbers = (text: string) => (text === "{}" ? [] : text.slice(1, -1).split(",").map(Number));
const asText = (text: string) => text;

const PARSERS = new Map<number, (text: string) => unknown>([
  [OID.bool, (text) => text === "t"],
  [OID.int8, asNumber], // counters and moments: below 2^53 for as long as anybody cares
  [OID.int2, asNumber],
  [OID.int4, asNumber],
  [OID.float8, asNumber],
  [OID.int4Array, asNumbers],
  [OID.int8Array, asNumbers],
]);

/** Ours, whatever the parsers are that the application has set for all of `pg`. */
const TYPES = { getTypeParser: (oid: number) => PARSERS.get(oid) ?? asText };
