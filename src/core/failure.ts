/**
 * Failures as they are recorded and told: without the connection's secrets (I12).
 *
 * @module
 */

import { inspect } from "node:util";
import type { ConnectionRegistry } from "./connections.ts";
import { SchemaError } from "./errors.ts";
import type { Scope } from "./event.ts";
import { codeOf } from "./retry.ts";
import type { FailureRecord } from "./store.ts";

const MAX_MESSAGE_LENGTH = 1_000;

/** Never rejects, whatever was thrown: work that failed must be settled. */
export async function failureRecord(
  error: Error,
  scope: Scope,
  connections: ConnectionRegistry,
  at: number,
): Promise<FailureRecord> {
  return {
    code: codeOf(error),
    message: (await safeText(error.message, scope, connections)).slice(0, MAX_MESSAGE_LENGTH),
    ...(error instanceof SchemaError ? { path: error.path } : undefined),
    at,
  };
}

/** The error as listeners and logs may see it: itself, or where any part of it holds a secret, its name, code and safe text. */
export async function toldError(error: Error, scope: Scope, connections: ConnectionRegistry): Promise<Error> {
  const whole = inspect(error);
  if ((await safeText(whole, scope, connections)) === whole) return error;
  const told = new Error(await safeText(error.message, scope, connections));
  told.name = error.name;
  delete told.stack; // that of this line, and not of the failure
  return Object.assign(told, { code: codeOf(error) });
}

async function safeText(text: unknown, scope: Scope, connections: ConnectionRegistry): Promise<string> {
  try {
    return await connections.redact(scope.provider, scope.connection, String(text));
  } catch {
    return "(the text is withheld: the connection's secrets cannot be told apart in it)";
  }
}
