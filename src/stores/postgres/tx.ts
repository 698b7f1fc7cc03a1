/**
 * The user's hand on a transaction that is not theirs to end.
 *
 * @module
 */

import { invalidOption, TrueupError } from "../../core/errors.ts";
import type { PgStatement, PgTx } from "./driver.ts";

/** Runs a statement of the user's. */
export type RunStatement = (
  statement: string | PgStatement,
  values: readonly unknown[] | undefined,
) => Promise<unknown>;

/** One callback's handle. */
export class UserTransaction {
  readonly handle: PgTx;
  #revoked = false;

  constructor(run: RunStatement) {
    this.handle = {
      query: async (statement: string | PgStatement, values?: readonly unknown[]) => {
        if (this.#revoked) {
          throw new TrueupError(
            "TX_REVOKED",
            "the callback of commit has ended: its tx cannot be used any more",
          );
        }
        refuseEscapes(typeof statement === "string" ? statement : statement.text);
        return (await run(statement, values)) as never;
      },
    };
  }

  revoke(): void {
    this.#revoked = true;
  }
}

/** What a statement may hold that only looks like an end of it: texts, names in quotes, bodies of functions, comments. */
const QUOTED =
  /\b[eE]'(?:[^'\\]|\\[^]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w$])\$([A-Za-z_]\w*)?\$[^]*?\$\1\$|--[^\n]*|\/\*(?:[^*]|\*(?!\/))*\*\//g;

const FIRST_WORDS = /^\s*([A-Za-z]+)(?:\s+([A-Za-z]+))?/;

const ENDS = new Set(["BEGIN", "START", "COMMIT", "END", "ABORT", "DISCARD"]);

function refuseEscapes(sql: string): void {
  for (const statement of sql.replace(QUOTED, " ").split(";")) {
    const [, first = "", second = ""] = FIRST_WORDS.exec(statement) ?? [];
    const [word, next] = [first.toUpperCase(), second.toUpperCase()];
    const toSavepoint = word === "ROLLBACK" && /\bTO\b/i.test(statement);
    const ends = ENDS.has(word) || word === "ROLLBACK" || (word === "PREPARE" && next === "TRANSACTION");
    if (ends && !toSavepoint)
      throw invalidOption(`tx does not run ${word}: the engine begins and ends the transaction`);
  }
}
