/**
 * The part of `pg` that is used here, by its structure: whoever does not use this store needs no types of its driver.
 *
 * @module
 */

/** A statement with its parameters (`$1`, `$2`, …). Whatever else `pg` takes in a config is handed on to it. */
export interface PgStatement {
  readonly text: string;
  readonly values?: unknown[] | undefined;
}

export interface PgResult<Row = Record<string, unknown>> {
  readonly rows: Row[];
  readonly rowCount: number | null;
}

/**
 * What the callback of `change.commit` writes with: the `query` of a `pg` client, inside the transaction that settles the
 * work, and usable only until the callback ends (`TX_REVOKED` after that). Savepoints are yours; statements that begin or
 * end a transaction are refused with `OPTION_INVALID`.
 */
export interface PgTx {
  query<Row = Record<string, unknown>>(
    statement: string | PgStatement,
    values?: readonly unknown[],
  ): Promise<PgResult<Row>>;
}

/** A `pg.PoolClient`. */
export interface PgPoolClient {
  query(statement: any, values?: any): Promise<any>; // oxlint-disable-line typescript/no-explicit-any -- any of its overloads
  release(destroy?: boolean): void;
  /** `"I"`: in no transaction. */
  getTransactionStatus?(): string | null;
  on(event: "error", listener: (error: Error) => void): unknown;
  removeListener(event: "error", listener: (error: Error) => void): unknown;
}

/** A `pg.Pool`. */
export interface PgPool {
  connect(): Promise<PgPoolClient>;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "connect", listener: (client: PgPoolClient) => void): unknown;
  removeListener(event: "error", listener: (error: Error) => void): unknown;
  removeListener(event: "connect", listener: (client: PgPoolClient) => void): unknown;
}
