/**
 * Failures as they are recorded and told: without secrets (I12).
 *
 * @module
 */

import { HttpError, SchemaError, TrueupError } from "./errors.ts";
import type { Scope } from "./event.ts";
import { codeOf } from "./retry.ts";
import type { Redact } from "./secrets.ts";
import type { FailureRecord } from "./store.ts";

const MAX_MESSAGE_LENGTH = 1_000;
/** A code is a word; some libraries put a whole text there. */
const MAX_CODE_LENGTH = 100;
const WITHHELD = "(the text is withheld: the connection's secrets cannot be told apart in it)";

/** Whose secrets a text may hold, as far as that is known. */
export type ToldScope = { readonly [Name in "provider" | "connection"]?: Scope[Name] | undefined };

/** Knows what to take out of texts. */
export interface Redacting {
  of(scope: ToldScope): Redact;
}

/** Never throws, whatever was thrown: work that failed must be settled. */
export function failureRecord(error: Error, scope: Scope, redactor: Redacting, at: number): FailureRecord {
  const safe = (text: unknown): string => {
    try {
      return redactor.of(scope)(String(text));
    } catch {
      return WITHHELD;
    }
  };
  return {
    code: safe(codeOf(error)).slice(0, MAX_CODE_LENGTH),
    message: safe(error.message).slice(0, MAX_MESSAGE_LENGTH),
    ...(error instanceof SchemaError ? { path: safe(error.path) } : undefined),
    at,
  };
}

/**
 * The error as listeners, logs and callers may see it: itself, or where any part of it holds a secret, one of the same
 * class with its name, code and safe text alone.
 */
export function toldError(error: Error, scope: ToldScope, redactor: Redacting): Error {
  let message: string;
  let code: string;
  try {
    const redact = redactor.of(scope);
    if (!holdsSecret(error, redact)) return error;
    message = redact(error.message);
    code = error instanceof TrueupError ? (error as TrueupError).code : redact(codeOf(error));
  } catch {
    message = WITHHELD;
    code = "HANDLER_FAILED";
  }
  return likeness(error, message, code);
}

/** What else of our own errors says how to go on, and is no text. */
const NUMBERS = ["status", "retryAfterMs", "delayMs"] as const;

/** Whoever steers by class, code or number still can. */
function likeness(error: Error, message: string, code: string): Error {
  const told = new Error(message);
  const { name } = error;
  const own = { value: name, enumerable: false, configurable: true, writable: true };
  if (error instanceof TrueupError) {
    Object.setPrototypeOf(told, Object.getPrototypeOf(error) as object);
    const numbers = NUMBERS.filter((number) => typeof Reflect.get(error, number) === "number");
    for (const number of numbers) Reflect.set(told, number, Reflect.get(error, number));
  }
  Object.defineProperty(told, "name", own);
  delete told.stack; // that of this line, and not of the failure
  return Object.assign(told, { code });
}

/** Parts of an error that are looked through. SDKs hang whole sockets on theirs: one that has more is not passed on. */
const MAX_PARTS = 10_000;

/** Whether a logger, however deep it goes, could come upon a secret. */
function holdsSecret(error: Error, redact: Redact): boolean {
  const visited = new Set<unknown>();
  const waiting: unknown[] = [error];
  while (waiting.length > 0) {
    const part = waiting.pop();
    if (typeof part === "string" && redact(part) !== part) return true;
    if (typeof part !== "object" || part === null || ArrayBuffer.isView(part) || visited.has(part)) continue;
    if (visited.add(part).size > MAX_PARTS) return true;
    if (part instanceof Error) waiting.push(part.name, part.message, part.stack, part.cause);
    if (part instanceof AggregateError) waiting.push(part.errors);
    if (part instanceof HttpError) waiting.push(part.data);
    if (part instanceof Map || part instanceof Set) waiting.push([...part]);
    for (const [name, member] of Object.entries(part)) waiting.push(name, member);
  }
  return false;
}

/** Texts of events beside their error. */
const TEXTS = ["message", "path", "during", "reason"] as const;

/** What an event says, made safe to be told: its error, if it has one, and its texts. */
export function toldEvent<Event extends object>(event: Event, redactor: Redacting): Event {
  const parts = event as Readonly<Record<string, unknown>>;
  let safe: Record<string, unknown> | undefined; // most events have nothing that could hold a secret
  const tell = (name: string, told: unknown) => {
    if (told !== parts[name]) (safe ??= {})[name] = told;
  };
  if (parts["error"] instanceof Error) tell("error", toldError(parts["error"], scopeOf(event), redactor));
  for (const name of TEXTS) {
    const text = parts[name];
    if (typeof text === "string") tell(name, redactor.of(scopeOf(event))(text));
  }
  return safe === undefined ? event : { ...event, ...safe };
}

/** Whose an event or a line of the log is. */
export function scopeOf(told: object): ToldScope {
  const { ref, scope, provider, connection } = told as ToldScope & { ref?: ToldScope; scope?: ToldScope };
  return ref ?? scope ?? { provider, connection };
}
