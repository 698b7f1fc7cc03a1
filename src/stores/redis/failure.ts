/**
 * What Redis refuses, in the words of the store contract.
 *
 * @module
 */

import { TrueupError } from "../../core/errors.ts";

/** By the first word of an error reply. */
const refusals: Readonly<Record<string, string>> = {
  NOAUTH: "Redis wants a password, and none was given",
  WRONGPASS: "Redis refused the user name or password",
  NOPERM: "the Redis user lacks rights that the store needs (commands, its keys, or its channel)",
  READONLY: "this Redis is a replica that cannot be written to: give the store the address of the primary",
  NOREPLICAS: "Redis takes no writes while it has too few replicas (min-replicas-to-write)",
  MISCONF: "Redis takes no writes because it cannot write to its disk",
  LOADING: "Redis is still reading its data from disk",
  BUSY: "Redis is busy with a script that does not end",
  CLUSTERDOWN: "the Redis Cluster has no owner for some of its slots",
  WRONGTYPE: "another program uses the store's keys: give the store a prefix of its own",
  CROSSSLOT:
    "this Redis is part of a cluster, and the store was made without one: pass `client: new Cluster(…)`",
  MOVED: "this Redis is part of a cluster: pass `client: new Cluster(…)` instead of `url`",
};

/** An error of the driver or of the server as `STORE_FULL` or `STORE_FAILED`. */
export function storeError(error: unknown): TrueupError {
  if (error instanceof TrueupError) return error as TrueupError;
  const code = replyCode(error);
  if (code === "OOM") {
    return new TrueupError("STORE_FULL", "Redis is at its limit of memory (maxmemory)", { cause: error });
  }
  const known = code === undefined ? undefined : refusals[code];
  if (known !== undefined) return new TrueupError("STORE_FAILED", known, { cause: error });
  const message =
    code === undefined
      ? "Redis cannot be reached, or the connection broke"
      : "Redis refused what it was asked to do";
  return new TrueupError(
    "STORE_FAILED",
    `${message}: ${error instanceof Error ? error.message : String(error)}`,
    { cause: error },
  );
}

/** The first word of an error reply; `undefined` for an error that is none, after which nobody knows what was done. */
export function replyCode(error: unknown): string | undefined {
  const { name, message } = (error ?? {}) as { name?: unknown; message?: unknown };
  if (name !== "ReplyError" || typeof message !== "string") return undefined;
  const [code = ""] = message.split(" ", 1);
  // Older servers wrap what a script's command was refused with.
  return (code === "ERR" ? / -([A-Z]+) /.exec(message)?.[1] : undefined) ?? code;
}

export function timedOut(timeoutMs: number): TrueupError<"STORE_FAILED"> {
  return new TrueupError("STORE_FAILED", `Redis did not answer within ${timeoutMs} ms`);
}
