import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

/** One recorded delivery: what GitHub really sent, save for its headers. */
export interface Recording {
  /** What GitHub says in X-GitHub-Event. */
  readonly event: string;
  readonly payload: JsonObject;
}

/** Every recorded delivery of github.com in `@octokit/webhooks-examples`, in the package's order. */
export function loadRecordings(): Recording[] {
  // Read, not imported: a module of four megabytes of JSON would be type-checked as well.
  const file = fileURLToPath(import.meta.resolve("@octokit/webhooks-examples"));
  const definitions = JSON.parse(readFileSync(file, "utf8")) as { name: string; examples: JsonObject[] }[];
  return definitions.flatMap(({ name, examples }) =>
    examples.map((payload) => ({ event: name, payload: payload })),
  );
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A field as text; empty where it is none. */
export function textOf(value: Json | undefined): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}
