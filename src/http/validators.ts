/**
 * Conditional requests: what was answered before is kept with its validator, and asked about instead of fetched again.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { Headers } from "../core/api.ts";
import { serverDate } from "./headers.ts";

/** An answer that was kept. */
export interface Kept {
  readonly headers: Headers;
  readonly bytes: Buffer;
  /** What asks whether it is still so: `if-none-match` or `if-modified-since`. */
  readonly condition: Headers;
}

/** Of all the capacity, one answer may take this share: a handful of huge lists must not drive out everything else. */
const LARGEST_SHARE = 1 / 16;
/** Of an entry beside its body and headers: its key, and what the engine keeps of objects. */
const ENTRY_BYTES = 1_024;

/** The least recently used go first. Bounded by the bytes of the bodies and headers kept, each with a flat sum for the rest. */
export class ValidatorCache {
  readonly #entries = new Map<string, Kept & { readonly owner: string }>();
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  find(key: string): Kept | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  /** Keeps a 200, or forgets what was kept where this one has no validator to ask by. */
  keep(key: string, owner: string, headers: Headers, bytes: Buffer): void {
    this.#remove(key);
    const condition = conditionOf(headers);
    const size = sizeOf({ headers, bytes });
    if (condition === undefined || size > this.#maxBytes * LARGEST_SHARE) return;
    this.#entries.set(key, { owner, headers, bytes, condition });
    this.#bytes += size;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#remove(oldest);
    }
  }

  forget(owner: string): void {
    for (const [key, entry] of this.#entries) {
      if (entry.owner === owner) this.#remove(key);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= sizeOf(entry);
  }
}

function sizeOf({ headers, bytes }: Pick<Kept, "headers" | "bytes">): number {
  const ofHeaders = Object.entries(headers).reduce(
    (sum, [name, value]) => sum + name.length + value.length,
    0,
  );
  return bytes.length + ofHeaders + ENTRY_BYTES;
}

/**
 * The key of an answer: its URL and every header that the adapter or the provider set, credentials included. An answer
 * depends on who asks, and so does an ETag at some providers. Hashed, so that no credential is kept.
 */
export function validatorKey(owner: string, href: string, headers: Headers): string {
  const sorted = Object.entries(headers).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256")
    .update(JSON.stringify([owner, "GET", href, sorted]))
    .digest("base64");
}

/** Headers by which a caller asks conditionally, or for a part: the answer is the caller's then, and not kept. */
export function asksForItself(headers: Headers): boolean {
  return ["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"].some(
    (name) => headers[name] !== undefined,
  );
}

/** RFC 9110 §8.8.2.2: a date with whole seconds proves nothing about changes close to it. */
const SETTLED_MS = 60_000;

/**
 * An ETag as RFC 9110 §8.8.3 has it, in ASCII, and no longer than any server's limit for a request. What is none proves
 * nothing, and `*`, sent back, would match whatever the object has become.
 */
const ETAG = /^(?:W\/)?"[\x21\x23-\x7e]{0,1000}"$/;

/**
 * What a later request asks by. An ETag where there is one; else `Last-Modified`, and that only where the server's own
 * `Date` is well behind it, because an object that changes twice in one second has one date for two states.
 * None where the server forbids keeping its answer, or says that it depends on more than the request.
 */
function conditionOf(headers: Headers): Headers | undefined {
  if (/(?:^|[\s,])no-store(?:$|[\s,;])/i.test(headers["cache-control"] ?? "")) return undefined;
  if (headers["vary"]?.trim() === "*") return undefined;
  const etag = headers["etag"];
  if (etag !== undefined && ETAG.test(etag)) return { "if-none-match": etag };
  const modified = headers["last-modified"];
  const sentAt = serverDate(headers);
  if (modified === undefined || sentAt === undefined) return undefined;
  return sentAt - Date.parse(modified) >= SETTLED_MS ? { "if-modified-since": modified } : undefined;
}
