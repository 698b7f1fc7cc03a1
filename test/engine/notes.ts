import { rmSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import {
  SyncEngine,
  type Change,
  type EngineOptions,
  type EventMap,
  type HandlerOptions,
  type ResourceDefinition,
} from "trueup";
import { sqliteStore, type SqliteTx } from "trueup/sqlite";
import { TestClock } from "trueup/testing";
import { notesProvider, signedRequest, World, type Note, type NotesDefinition } from "./world.ts";

export const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** A directory that goes with its test. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), "trueup-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export interface NotesOptions {
  readonly resource?: Partial<ResourceDefinition<Note>>;
  readonly provider?: NotesDefinition;
  readonly world?: World;
  readonly path?: string;
  readonly engine?: Partial<EngineOptions<never, SqliteTx>>;
  /** Instead of recording the change. */
  readonly handler?: (change: Change<Note, SqliteTx>) => unknown;
  readonly handling?: Partial<HandlerOptions>;
}

/** An engine over a world of notes, with a copy that its handler keeps. Not started. */
export function notesEngine(options: NotesOptions = {}) {
  const world = options.world ?? new World();
  const path = options.path ?? join(temporaryDirectory(), "sync.db");
  const engine = new SyncEngine({
    providers: [notesProvider(world, options.resource, options.provider)],
    store: sqliteStore({ path }),
    logger: silent,
    retry: { attempts: 3, minDelayMs: 1, maxDelayMs: 5 },
    ...options.engine,
  });
  /** What the handler was given, in order. */
  const seen: Change<Note, SqliteTx>[] = [];
  /** The user's copy. */
  const copy = new Map<string, Note>();
  engine.handle(
    "notes.note",
    async (change) => {
      seen.push(change);
      if (options.handler !== undefined) await options.handler(change);
      if (change.kind === "delete") copy.delete(change.ref.id);
      else copy.set(change.ref.id, change.object);
    },
    options.handling,
  );
  onTestFinished(() => engine.stop({ timeoutMs: 1_000 }));
  const receiver = engine.webhook("notes");
  const deliver = (...events: Parameters<typeof signedRequest>[0]) => receiver.fetch(signedRequest(events));
  return { world, path, engine, seen, copy, deliver };
}

/** An engine over notes whose time stands still until `pass` moves it. Its backoffs are not drawn: each is the longest. */
export function timedEngine(options: NotesOptions = {}) {
  const clock = new TestClock();
  const made = notesEngine({
    ...options,
    engine: { clock, random: () => 0.999_999, leaseMs: 3_600_000, pollMs: 60_000, ...options.engine },
  });
  onTestFinished(async () => {
    const stopped = made.engine.stop({ timeoutMs: 1_000 });
    await clock.advance(1_000);
    await stopped;
  });
  return { ...made, clock, pass: (ms: number) => passTime(clock, ms) };
}

/** Lets time pass from one timer to the next; the engine, and a database on a disk, do all they can at each moment. */
export async function passTime(clock: TestClock, ms: number): Promise<void> {
  const end = clock.monotonic() + ms;
  for (;;) {
    await turns(TURNS_OF_WORK);
    const timerInMs = clock.nextTimerInMs;
    if (timerInMs === undefined || clock.monotonic() + timerInMs > end) break;
    await clock.advance(timerInMs);
  }
  await clock.advance(end - clock.monotonic());
}

/** Of the event loop: what one object takes from its wake-up to its settling, many times over. */
const TURNS_OF_WORK = 100;

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
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

/** The events of a name from now on, in order. */
export function recorded<Name extends keyof EventMap>(
  engine: Pick<SyncEngine, "on">,
  name: Name,
): EventMap[Name][] {
  const events: EventMap[Name][] = [];
  engine.on(name, (event) => events.push(event));
  return events;
}

/** Resolves with the error that a promise rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<Error & { readonly code?: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it did not fail");
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
