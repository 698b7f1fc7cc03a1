/**
 * The user's hand on the shared transaction, while a commit callback runs.
 *
 * @module
 */

import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { invalidOption, TrueupError } from "../../core/errors.ts";

/** What a statement of a {@link SqliteTx} can be given. `undefined` is stored as NULL, booleans as 0 and 1. */
export type SqliteValue = string | number | bigint | Uint8Array | boolean | null | undefined;

/** A row, by column name. Integers beyond 2^53 throw: select them as text. */
export type SqliteRow = Record<string, string | number | bigint | Uint8Array | null>;

/**
 * What the callback of `change.commit` writes with: statements run in the transaction that settles the work, in the
 * same file. Synchronous, and usable only until the callback ends (`TX_REVOKED` after that). Parameters are positional
 * (`?`). Statements that end or leave the transaction are refused with `OPTION_INVALID`.
 */
export interface SqliteTx {
  /** Runs a statement for its effect. */
  run(sql: string, ...params: SqliteValue[]): { readonly changes: number; readonly lastInsertRowid: number };
  /** The first row, or `undefined`. */
  get<Row = SqliteRow>(sql: string, ...params: SqliteValue[]): Row | undefined;
  /** All rows. */
  all<Row = SqliteRow>(sql: string, ...params: SqliteValue[]): Row[];
}

/** Whatever else a statement can begin with manages transactions, files or the connection. */
const ALLOWED = [
  "SELECT",
  "INSERT",
  "UPDATE",
  "DELETE",
  "REPLACE",
  "WITH",
  "VALUES",
  "CREATE",
  "DROP",
  "ALTER",
];

/** White space and both kinds of comments before a word; the same, with semicolons, and nothing else. */
const FIRST_WORD = /^(?:\s|--[^\n]*(?:\n|$)|\/\*(?:[^*]|\*(?!\/))*(?:\*\/|$))*([A-Za-z]+)/;
const ONLY_BLANK = /^(?:[\s;]|--[^\n]*(?:\n|$)|\/\*(?:[^*]|\*(?!\/))*(?:\*\/|$))*$/;

const MAX_PREPARED = 100;

/** Statements of users, prepared once; the least recently used go first. */
export class UserStatements {
  readonly #db: DatabaseSync;
  readonly #prepared = new Map<string, StatementSync>();

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  prepare(sql: string): StatementSync {
    const known = this.#prepared.get(sql);
    if (known !== undefined) {
      this.#prepared.delete(sql);
      this.#prepared.set(sql, known);
      return known;
    }
    refuseEscapes(sql);
    const statement = this.#db.prepare(sql);
    if (!ONLY_BLANK.test(sql.slice(statement.sourceSQL.length))) {
      throw invalidOption("tx takes one statement at a time: what follows the first would not be run");
    }
    if (this.#prepared.size >= MAX_PREPARED) this.#prepared.delete(this.#prepared.keys().next().value ?? "");
    this.#prepared.set(sql, statement);
    return statement;
  }
}

/** One callback's handle. */
export class UserTransaction {
  readonly handle: SqliteTx;
  #revoked = false;

  constructor(db: DatabaseSync, statements: UserStatements) {
    const perform = <T>(
      sql: string,
      params: SqliteValue[],
      act: (s: StatementSync, values: SQLInputValue[]) => T,
    ): T => {
      if (this.#revoked) {
        throw new TrueupError(
          "TX_REVOKED",
          "the callback of commit has ended: its tx cannot be used any more",
        );
      }
      const statement = statements.prepare(sql);
      try {
        return act(statement, params.map(bindable));
      } finally {
        // ON CONFLICT ROLLBACK and RAISE(ROLLBACK) end it for all; what came after would be committed by itself.
        if (!db.isTransaction) this.#revoked = true;
      }
    };
    this.handle = {
      run: (sql, ...params) =>
        perform(sql, params, (statement, values) => {
          const { changes, lastInsertRowid } = statement.run(...values);
          return { changes: Number(changes), lastInsertRowid: Number(lastInsertRowid) };
        }),
      get: <Row>(sql: string, ...params: SqliteValue[]) =>
        perform(sql, params, (statement, values) => {
          const row = statement.get(...values);
          return row === undefined ? undefined : ({ ...row } as Row);
        }),
      all: <Row>(sql: string, ...params: SqliteValue[]) =>
        perform(sql, params, (statement, values) =>
          statement.all(...values).map((row) => ({ ...row }) as Row),
        ),
    };
  }

  revoke(): void {
    this.#revoked = true;
  }
}

function refuseEscapes(sql: string): void {
  const word = FIRST_WORD.exec(sql)?.[1]?.toUpperCase() ?? "";
  if (!ALLOWED.includes(word)) {
    const what = word === "" ? "an empty statement" : word;
    throw invalidOption(
      `tx runs ${ALLOWED.join(", ")}, not ${what}: the engine begins and ends the transaction`,
    );
  }
  // Anywhere in the text: SQLite takes 'trueup_object' in single quotes for the table where it expects one, and what is
  // a comment or a literal, only its own lexer can tell.
  if (word !== "SELECT" && /\btrueup_/i.test(sql)) {
    throw invalidOption(
      "tables named trueup_… are the store's own: tx may read them by SELECT, and not write; pass text as a parameter",
    );
  }
}

// node:sqlite binds neither undefined nor, on Node 22, booleans.
function bindable(value: SqliteValue): SQLInputValue {
  if (value === undefined) return null;
  return typeof value === "boolean" ? Number(value) : value;
}
