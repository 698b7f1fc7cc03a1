/**
 * Places at which a process of a test dies. They come in from outside, over the seams that are there anyway (the store,
 * the driver of the database, the adapter, the handler): the sources know nothing of them.
 */
import { DatabaseSync, type SQLInputValue, type StatementResultingChanges, StatementSync } from "node:sqlite";
import { Client } from "pg";
import type { Store, WorkSession } from "../../../src/core/store.ts";

/** Calls of a store that write. */
const STORE_CALLS = ["append", "work", "lock", "unlock", "endPass"] as const;
const SESSION_CALLS = ["claim", "settle", "commit", "recordPage"] as const;

type Around<Name extends string> = `${Name}: before` | `${Name}: after`;

const around = <Name extends string>(names: readonly Name[]): Around<Name>[] =>
  names.flatMap((name): Around<Name>[] => [`${name}: before`, `${name}: after`]);

/** Of every store. */
export const STORE_POINTS = around([...STORE_CALLS, ...SESSION_CALLS]);
/** Of SQLite's transactions, whichever call they belong to. */
export const SQLITE_POINTS = [...around(["BEGIN", "COMMIT"] as const), "write: after"] as const;
/** Of every statement to PostgreSQL, also when it is under way and nobody will hear what came of it. */
export const POSTGRES_POINTS = [...around(["statement"] as const), "statement: sent"] as const;
/** Of every key that a Keyv sets or deletes, one of which may be the first of a call and not its last. */
export const KEYV_POINTS = around(["key"] as const);
export const PATH_POINTS = [
  "webhook: received",
  "webhook: answered",
  ...around(["fetch", "list", "handler"] as const),
  "handler: inside commit",
] as const;

export type Failpoint =
  | (typeof STORE_POINTS)[number]
  | (typeof SQLITE_POINTS)[number]
  | (typeof POSTGRES_POINTS)[number]
  | (typeof KEYV_POINTS)[number]
  | (typeof PATH_POINTS)[number];

export interface Aim {
  readonly point: Failpoint;
  /** How often it is passed before: 1 is the first time. */
  readonly hit: number;
  readonly signal: "SIGKILL" | "SIGSTOP";
}

/** Those of one process, of which one at most is aimed at. */
export class Failpoints {
  #aim: Aim | undefined;
  #hits = 0;

  constructor(aim: Aim | undefined) {
    this.aim(aim);
  }

  aim(aim: Aim | undefined): void {
    this.#aim = aim;
    this.#hits = 0;
  }

  /** Ends the process here, or suspends it, if that is what is aimed at. */
  readonly pass = (point: Failpoint): void => {
    if (this.#aim?.point !== point) return;
    this.#hits += 1;
    if (this.#hits !== this.#aim.hit) return;
    const { signal } = this.#aim;
    process.kill(process.pid, signal);
    // The signal may take a moment, in which nothing more must happen.
    if (signal === "SIGKILL") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  };
}

/** The store, with a failpoint before and after each call that writes. */
export function withFailpoints<Tx>(store: Store<Tx>, { pass }: Failpoints): Store<Tx> {
  const session = (made: WorkSession<Tx>) =>
    surrounded<WorkSession<Tx>, (typeof SESSION_CALLS)[number]>(made, SESSION_CALLS, pass);
  return surrounded<Store<Tx>, (typeof STORE_CALLS)[number]>(store, STORE_CALLS, pass, (name, result) =>
    name === "work" ? session(result as WorkSession<Tx>) : result,
  );
}

function surrounded<T extends object, Name extends string>(
  target: T,
  names: readonly Name[],
  pass: (point: Around<Name>) => void,
  mapped: (name: Name, result: unknown) => unknown = (_, result) => result,
): T {
  return new Proxy(target, {
    get(_, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      const call = (...given: unknown[]): unknown => Reflect.apply(value, target, given);
      const name = names.find((one) => one === property);
      if (name === undefined) return call;
      return async (...given: unknown[]) => {
        pass(`${name}: before`);
        const result = await call(...given);
        pass(`${name}: after`);
        return mapped(name, result);
      };
    },
  });
}

/** Puts failpoints around every transaction of Node's driver, in this process, for good. */
export function breakSqlite({ pass }: Failpoints): void {
  // oxlint-disable-next-line typescript/unbound-method -- called with its own `this`
  const { exec } = DatabaseSync.prototype;
  DatabaseSync.prototype.exec = function breaking(this: DatabaseSync, sql: string) {
    if (!sql.startsWith("BEGIN IMMEDIATE")) return exec.call(this, sql);
    pass("BEGIN: before");
    exec.call(this, sql);
    pass("BEGIN: after");
  };
  // oxlint-disable-next-line typescript/unbound-method -- called with its own `this`
  const run = StatementSync.prototype.run as (...given: SQLInputValue[]) => StatementResultingChanges;
  StatementSync.prototype.run = function breaking(this: StatementSync, ...given: never[]) {
    const commits = this.sourceSQL === "COMMIT";
    if (commits) pass("COMMIT: before");
    const result = run.apply(this, given);
    pass(commits ? "COMMIT: after" : "write: after");
    return result;
  };
}

/** Puts failpoints around every statement of the driver, in this process, for good. */
export function breakPostgres({ pass }: Failpoints): void {
  // oxlint-disable-next-line typescript/unbound-method -- called with its own `this`
  const query = Client.prototype.query as (...given: unknown[]) => unknown;
  Client.prototype.query = function breaking(this: Client, ...given: unknown[]) {
    pass("statement: before");
    const running = query.apply(this, given);
    pass("statement: sent");
    if (!(running instanceof Promise)) return running;
    return running.then((result: unknown) => {
      pass("statement: after");
      return result;
    });
  } as typeof Client.prototype.query;
}
