import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dedupeKey, type Scope } from "../../src/core/event.ts";
import type { Logger } from "../../src/core/hooks.ts";
import type { AppendEntry, Claim, Settlement, StoreEnvironment } from "../../src/core/store.ts";
import type { Clock } from "../../src/core/clock.ts";

export const SCOPE: Scope = { provider: "crm", connection: "default", resource: "contact" };
export const ROUTE = { provider: "crm", resource: "contact" };
export const silentLogger: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export function environment(clock: Clock): StoreEnvironment {
  return { clock, random: () => 0.5, logger: silentLogger, eventTtlMs: 60_000, maxEventsPerChange: 10 };
}

/** An entry whose event has the object's id as its own. */
export function appendEntry(id: string, connection = "default"): AppendEntry {
  const ref = { ...SCOPE, connection, id };
  return {
    ref,
    dedupeKey: dedupeKey(ref, id),
    event: { id, origin: "webhook", receivedAt: 0 },
    origin: "webhook",
    lane: "live",
  };
}

export function doneWith(claim: Claim): Settlement {
  const index = {
    state: "present",
    version: null,
    hash: "h",
    rowHash: null,
    revision: 1,
    evidence: claim.fence,
  } as const;
  return { claim, kind: "done", index };
}

/** A directory that is removed when the scope that uses it ends. */
export function temporaryDirectory(): {
  readonly path: string;
  file(name: string): string;
  [Symbol.dispose](): void;
} {
  const path = mkdtempSync(join(tmpdir(), "trueup-"));
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}
