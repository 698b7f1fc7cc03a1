/**
 * What the pages of a list say about the API that lists them: rows that nobody can read, and a filter that is ignored.
 *
 * @module
 */

import type { Scope } from "./event.ts";
import type { Hooks } from "./hooks.ts";
import type { ListedPage, Row } from "./lister.ts";
import type { Route } from "./registry.ts";
import { compareEncoded, encodeVersion } from "./version.ts";

export class ListWarnings {
  readonly #route: Route;
  readonly #scope: Scope;
  readonly #hooks: Hooks;
  #filterWarned = false;

  constructor(route: Route, scope: Scope, hooks: Hooks) {
    this.#route = route;
    this.#scope = scope;
    this.#hooks = hooks;
  }

  /** @param since what the page was asked for, in milliseconds since the epoch */
  page(since: number | null, { rows, unreadable }: Pick<ListedPage, "rows" | "unreadable">): void {
    const { name } = this.#route;
    if (unreadable.length > 0)
      this.#warn(
        "LIST_INVALID",
        `${unreadable.length} rows of ${name} have no id that can be read: ${unreadable[0]?.message}`,
      );
    if (this.#filterWarned || since === null || rows.length === 0) return;
    if (!rows.every((row) => this.#isFromBefore(since, row))) return;
    this.#filterWarned = true;
    this.#warn(
      "LIST_FILTER_IGNORED",
      `the list of ${name} returned only rows from before \`since\`: the API seems to ignore the filter`,
    );
  }

  #isFromBefore(since: number, row: Row): boolean {
    const { compareVersions } = this.#route.resource;
    const version =
      row.kind === "object" ? row.evidence.version : row.kind === "summary" ? row.version : null;
    // Who compares versions otherwise has versions that are no dates.
    const compare = compareVersions === undefined ? undefined : () => undefined;
    return (compareEncoded(version, encodeVersion(new Date(since)), compare) ?? 0) < 0;
  }

  #warn(code: string, message: string): void {
    this.#hooks.emit("warning", { code, message, scope: this.#scope });
  }
}
