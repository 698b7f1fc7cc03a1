import { rmSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import {
  SyncEngine,
  type Change,
  type EngineOptions,
  type EventMap,
  type ResourceDefinition,
  type Store,
} from "trueup";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { notesProvider, signedRequest, World, type Note } from "./world.ts";

export const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** A directory that goes with its test. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), "trueup-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export interface NotesOptions {
  readonly resource?: Partial<ResourceDefinition<Note>>;
  readonly world?: World;
  readonly path?: string;
  readonly engine?: Partial<EngineOptions<never, SqliteTx>>;
  /** Instead of recording the change. */
  readonly handler?: (change: Change<Note, SqliteTx>) => unknown;
}

/** An engine over a world of notes, with a copy that its handler keeps. Not started. */
export function notesEngine(options: NotesOptions = {}) {
  const world = options.world ?? new World();
  const path = options.path ?? join(temporaryDirectory(), "sync.db");
  const engine = new SyncEngine({
    providers: [notesProvider(world, options.resource)],
    store: sqliteStore({ path }) as Store<SqliteTx>,
    logger: silent,
    retry: { attempts: 3, minDelayMs: 1, maxDelayMs: 5 },
    ...options.engine,
  });
  /** What the handler was given, in order. */
  const seen: Change<Note, SqliteTx>[] = [];
  /** The user's copy. */
  const copy = new Map<string, Note>();
  engine.handle("notes.note", async (change) => {
    seen.push(change);
    if (options.handler !== undefined) await options.handler(change);
    if (change.kind === "delete") copy.delete(change.ref.id);
    else copy.set(change.ref.id, change.object);
  });
  onTestFinished(() => engine.stop({ timeoutMs: 1_000 }));
  const receiver = engine.webhook("notes");
  const deliver = (...events: Parameters<typeof signedRequest>[0]) => receiver.fetch(signedRequest(events));
  return { world, path, engine, seen, copy, deliver };
}

/** Resolves with the next event of a name that satisfies. */
export function next<Name extends keyof EventMap>(
  engine: Pick<SyncEngine, "on">,
  name: Name,
  satisfies: (event: EventMap[Name]) => boolean = () => true,
): Promise<EventMap[Name]> {
  return new Promise((resolve) => {
    const off = engine.on(name, (event) => {
      if (!satisfies(event)) return;
      off();
      resolve(event);
    });
  });
}

/** Counts the events of a name from now on. */
export function counting<Name extends keyof EventMap>(
  engine: Pick<SyncEngine, "on">,
  name: Name,
): () => number {
  let count = 0;
  engine.on(name, () => (count += 1));
  return () => count;
}
