/**
 * Failures as they are recorded and told: without the connection's secrets (I12).
 *
 * @module
 */

import type { ConnectionRegistry } from "./connections.ts";
import { SchemaError } from "./errors.ts";
import type { Scope } from "./event.ts";
import { codeOf } from "./retry.ts";
import type { FailureRecord } from "./store.ts";

const MAX_MESSAGE_LENGTH = 1_000;
const WITHHELD = "(the text is withheld: the connection's secrets cannot be told apart in it)";

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
export function toldError(
  error: Error,
  scope: Pick<Scope, "provider" | "connection">,
  connections: ConnectionRegistry,
): Error {
  let message: string;
  try {
    const redact = connections.redactor(scope.provider, scope.connection);
    if (redact === undefined || !holdsSecret(error, redact)) return error;
    message = redact(error.message);
  } catch {
    message = WITHHELD;
  }
  const told = new Error(message);
  told.name = error.name;
  delete told.stack; // that of this line, and not of the failure
  return Object.assign(told, { code: codeOf(error) });
}

/** Parts of an error that are looked through. SDKs hang whole sockets on theirs: one that has more is not passed on. */
const MAX_PARTS = 10_000;

/** Whether a logger, however deep it goes, could come upon a secret. */
function holdsSecret(error: Error, redact: (text: string) => string): boolean {
  const visited = new Set<unknown>();
  const waiting: unknown[] = [error];
  while (waiting.length > 0) {
    const part = waiting.pop();
    if (typeof part === "string" && redact(part) !== part) return true;
    if (typeof part !== "object" || part === null || ArrayBuffer.isView(part) || visited.has(part)) continue;
    if (visited.add(part).size > MAX_PARTS) return true;
    if (part instanceof Error) waiting.push(part.name, part.message, part.stack, part.cause);
    if (part instanceof AggregateError) waiting.push(part.errors);
    if (part instanceof Map || part instanceof Set) waiting.push([...part]);
    for (const [name, member] of Object.entries(part)) waiting.push(name, member);
  }
  return false;
}

/** What an event says with the error that it has, if it has one, made safe to be told. */
export function toldEvent<Event extends object>(event: Event, connections: ConnectionRegistry): Event {
  const { error, ref, provider, connection } = event as Partial<Scope> & { error?: unknown; ref?: Scope };
  if (!(error instanceof Error)) return event;
  const scope =
    ref ?? (provider !== undefined && connection !== undefined ? { provider, connection } : undefined);
  if (scope === undefined) return event;
  const told = toldError(error, scope, connections);
  return told === error ? event : { ...event, error: told };
}

async function safeText(text: unknown, scope: Scope, connections: ConnectionRegistry): Promise<string> {
  try {
    return await connections.redact(scope.provider, scope.connection, String(text));
  } catch {
    return WITHHELD;
  }
}
