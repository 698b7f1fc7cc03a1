/**
 * Prepared statements whose parameters are numbered (`?1`), so that one value can stand in several places.
 *
 * Node up to some 22.20 takes `?1` for a named parameter, and then cannot bind by position: what SQLite gets to see are
 * plain `?`, with the values in the order in which the numbers stand.
 *
 * SQLite looks at the value of a bare `LIMIT ?` when it plans, and so plans again whenever one is bound, for five times
 * what a short statement costs. Of an expression it does not.
 *
 * @module
 */

import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from "node:sqlite";

type Row = ReturnType<StatementSync["all"]>[number];

/** The part of node:sqlite's statement that is used here. */
export interface Statement {
  run(...values: SQLInputValue[]): ReturnType<StatementSync["run"]>;
  get(...values: SQLInputValue[]): Row | undefined;
  all(...values: SQLInputValue[]): Row[];
  iterate(...values: SQLInputValue[]): IterableIterator<Row>;
}

const NUMBERED = /\?(\d+)/g;
const BARE_LIMIT = /\bLIMIT \?/g;

/** A statement whose rows are arrays: for many rows that are read once, that costs two thirds. */
export interface ArrayStatement {
  all(...values: SQLInputValue[]): SQLOutputValue[][];
}

export function prepareArrays(db: DatabaseSync, sql: string): ArrayStatement {
  return prepare(db, sql, true) as unknown as ArrayStatement;
}

export function prepare(db: DatabaseSync, sql: string, arrays = false): Statement {
  const places = [...sql.matchAll(NUMBERED)].map((match) => Number(match[1]) - 1);
  const statement = db.prepare(sql.replace(NUMBERED, "?").replace(BARE_LIMIT, "LIMIT 0 + ?"));
  if (arrays) statement.setReturnArrays(true);
  if (places.every((place, i) => place === i)) return statement;
  const inOrder = (values: readonly SQLInputValue[]) => places.map((place) => values[place] as SQLInputValue);
  return {
    run: (...values) => statement.run(...inOrder(values)),
    get: (...values) => statement.get(...inOrder(values)),
    all: (...values) => statement.all(...inOrder(values)),
    iterate: (...values) => statement.iterate(...inOrder(values)),
  };
}
