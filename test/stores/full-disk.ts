import { execFile } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import type { PostgresServer } from "./postgres-server.ts";

const run = promisify(execFile);

/** A database whose disk can be filled, and tidied up. */
export interface Disk extends AsyncDisposable {
  readonly url: string;
  fill(): Promise<void>;
  free(): Promise<void>;
}

/** The store's, in it. */
export const SCHEMA = "sync";

const SIZE_MB = 64;
const BALLAST = "ballast";

/** Two roads to the same error: a disk that is full, where this machine lets one be mounted, and what a server says of one. */
export const disks: Readonly<Record<string, (server: PostgresServer) => Promise<Disk | undefined>>> = {
  "a disk that is full": async (server) => {
    const directory = mkdtempSync(join(tmpdir(), "trueup-disk-"));
    const options = `size=${SIZE_MB}m`;
    const mounted = await run("mount", ["-t", "tmpfs", "-o", options, "tmpfs", directory]).then(
      () => true,
      () => false,
    );
    if (!mounted) {
      rmSync(directory, { recursive: true });
      return undefined;
    }
    await run("chown", ["postgres", directory]); // who can mount is root, and the server is not
    // The log of the server is elsewhere: without room for that, it ends.
    await on(
      server.url,
      `CREATE TABLESPACE small LOCATION '${directory}'`,
      "CREATE DATABASE small TABLESPACE small",
    );
    const url = new URL("/small", server.url).href;
    await on(url, "SELECT 1"); // the first connection to a database writes something of its own
    const ballast = join(directory, BALLAST);
    return {
      url,
      async fill() {
        for (let size = 1 << 20; size >= 4_096;) {
          try {
            appendFileSync(ballast, Buffer.alloc(size));
          } catch {
            size /= 2; // no room for so much any more
          }
        }
      },
      free: async () => rmSync(ballast, { force: true }),
      async [Symbol.asyncDispose]() {
        await server.stop("immediate");
        await run("umount", [directory]);
        rmSync(directory, { recursive: true });
      },
    };
  },
  "a server that says so": async (server) => {
    await on(server.url, "CREATE DATABASE small");
    const url = new URL("/small", server.url).href;
    const raise = `RAISE EXCEPTION 'could not extend file "base/1/2": No space left on device' USING ERRCODE = '53100'`;
    return {
      url,
      // For tables that are made, and for rows that are written in those that there are.
      fill: () =>
        on(
          url,
          `CREATE FUNCTION public.no_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${raise}; END $$`,
          `DO $$ DECLARE v_table regclass; BEGIN
            FOR v_table IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '${SCHEMA}' AND c.relkind = 'r' LOOP
              EXECUTE format('CREATE TRIGGER no_row BEFORE INSERT OR UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION public.no_row()', v_table);
            END LOOP;
          END $$`,
          `CREATE FUNCTION public.no_table() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN ${raise}; END $$`,
          "CREATE EVENT TRIGGER no_table ON ddl_command_start EXECUTE FUNCTION public.no_table()",
        ),
      free: () =>
        on(
          url,
          "DROP EVENT TRIGGER no_table",
          "DROP FUNCTION public.no_table",
          "DROP FUNCTION public.no_row CASCADE",
        ),
      async [Symbol.asyncDispose]() {},
    };
  },
};

async function on(url: string, ...statements: string[]): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}
