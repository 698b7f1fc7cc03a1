/**
 * Runs passes on their schedules, in-process: each scope in its own time, a few at once, never two of one, and what
 * was missed while busy is skipped rather than piled up.
 *
 * @module
 */

import type { Clock, Random } from "./clock.ts";
import type { Scope } from "./event.ts";
import type { Hooks } from "./hooks.ts";
import { parsePassRecord, passKey, type PassMode } from "./pass.ts";
import type { Route } from "./registry.ts";
import { asError, backoff } from "./retry.ts";
import { Semaphore } from "./semaphore.ts";
import type { Store } from "./store.ts";

export interface Schedule {
  readonly route: Route;
  readonly everyMs: number;
  readonly mode: PassMode;
}

export interface SchedulerOptions {
  readonly store: Store<unknown>;
  readonly clock: Clock;
  readonly random: Random;
  readonly hooks: Hooks;
  readonly schedules: readonly Schedule[];
  /** All connections of a provider, the user's and the store's. */
  readonly connectionsOf: (provider: string) => Promise<readonly string[]>;
  /** @returns false when it did not run: another holder is at it, or it is not due any more */
  readonly runPass: (route: Route, scope: Scope, mode: PassMode, run: ScheduledRun) => Promise<boolean>;
}

export interface ScheduledRun {
  readonly signal: AbortSignal;
  /** To be asked when nobody else can be at it any more. */
  readonly isDue: () => Promise<boolean>;
}

/** Passes at once, over all routes and connections. */
const PASSES_AT_ONCE = 4;
/** How soon a pass that left no checkpoint runs again, where its interval is longer. */
const LEAST_MS = 1_000;
/** How soon a pass is looked at again that another holder was at, who may have died since. */
const BUSY_MS = 10_000;
/** How often connections are looked up anew. */
const LOOK_MS = 60_000;
/** The same after a look-up that failed, then twice as long: a database that starts late should not cost a minute. */
const LOOK_AGAIN_MS = 5_000;
/** Runs are spread over this part of their interval, so that a thousand connections do not start together. */
const JITTER = 0.1;
const RETRY = { attempts: Infinity, minDelayMs: 30_000, maxDelayMs: 900_000 };

interface Job {
  readonly schedule: Schedule;
  readonly scope: Scope;
  /** Milliseconds since the epoch. */
  nextAt: number;
  failures: number;
  running: boolean;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #jobs = new Map<string, Job>();
  readonly #permits = new Semaphore(PASSES_AT_ONCE);
  readonly #running = new Set<Promise<void>>();
  readonly #stopped = new AbortController();
  /** When connections are to be looked up, by the monotonic clock. */
  #lookAt = -Infinity;
  #lookAgainMs = LOOK_AGAIN_MS;
  #cancelTimer = () => {};
  /** Whether a timer runs; `runDue` needs none. */
  #armed = false;

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#options.schedules.length === 0) return;
    void this.#turn();
  }

  /** Starts nothing more; passes under way stop after their page, and go on from there another time. */
  async stop(reason: Error): Promise<void> {
    this.#stopped.abort(reason);
    this.#cancelTimer();
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  /** Runs what is due, once, and waits for it. */
  async runDue(): Promise<void> {
    await this.#launchDue();
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  async #turn(): Promise<void> {
    try {
      await this.#launchDue();
    } catch (thrown) {
      this.#options.hooks.emit("error", { error: asError(thrown), during: "scheduling" });
    }
    this.#armed = true;
    this.#arm();
  }

  /** Sets the timer to the next job that is due. */
  #arm(): void {
    if (!this.#armed || this.#stopped.signal.aborted) return;
    const { clock } = this.#options;
    this.#cancelTimer();
    let delayMs = this.#lookAt - clock.monotonic();
    for (const job of this.#jobs.values())
      if (!job.running) delayMs = Math.min(delayMs, job.nextAt - clock.now());
    this.#cancelTimer = clock.setTimer(() => void this.#turn(), Math.max(10, delayMs));
  }

  async #launchDue(): Promise<void> {
    const { clock } = this.#options;
    if (clock.monotonic() >= this.#lookAt) await this.#lookUpJobs();
    for (const job of this.#jobs.values()) {
      // The wall clock can be set back: then no wait is longer than it was meant to be.
      job.nextAt = Math.min(job.nextAt, clock.now() + longest(job.schedule));
      if (job.running || job.nextAt > clock.now() || this.#stopped.signal.aborted) continue;
      job.running = true;
      const run = this.#run(job).finally(() => {
        job.running = false;
        this.#running.delete(run);
        this.#arm(); // the timer was set without this job, whose next time is known only now
      });
      this.#running.add(run);
    }
  }

  /** Finds connections that are new, and when each of their passes ran last, in whatever process. */
  async #lookUpJobs(): Promise<void> {
    const { clock, connectionsOf, hooks, schedules } = this.#options;
    const startedAt = clock.monotonic();
    this.#lookAt = startedAt + this.#lookAgainMs; // unless all of it can be found
    this.#lookAgainMs = Math.min(LOOK_MS, this.#lookAgainMs * 2);
    let complete = true;
    const found = new Set<string>();
    for (const schedule of schedules) {
      const { provider, resourceName } = schedule.route;
      let connections: readonly string[];
      try {
        connections = await connectionsOf(provider.name);
      } catch (thrown) {
        if (this.#stopped.signal.aborted) return;
        // Its passes go on as they were known, and those of other providers are not its business.
        complete = false;
        hooks.emit("error", {
          error: asError(thrown),
          during: `listing the connections of ${provider.name}`,
        });
        for (const [key, job] of this.#jobs) if (job.schedule === schedule) found.add(key);
        continue;
      }
      for (const connection of connections) {
        const scope = { provider: provider.name, connection, resource: resourceName };
        const key = passKey(scope, schedule.mode);
        found.add(key);
        if (this.#jobs.has(key)) continue;
        this.#jobs.set(key, {
          schedule,
          scope,
          nextAt: await this.#nextAt(scope, schedule),
          failures: 0,
          running: false,
        });
      }
    }
    for (const [key, job] of this.#jobs) if (!found.has(key) && !job.running) this.#jobs.delete(key);
    if (!complete) return;
    this.#lookAt = startedAt + LOOK_MS;
    this.#lookAgainMs = LOOK_AGAIN_MS;
  }

  async #run(job: Job): Promise<void> {
    const { clock, random, runPass, store } = this.#options;
    const { schedule, scope } = job;
    if (!this.#permits.tryAcquire()) await this.#permits.acquire();
    try {
      if (this.#stopped.signal.aborted) return;
      if (!(await this.#isDue(job))) return; // another process ran it meanwhile
      const paused = (await store.pauses()).find(
        (pause) => pause.provider === scope.provider && pause.connection === scope.connection,
      );
      if (paused !== undefined) {
        job.nextAt = paused.until ?? clock.now() + LOOK_MS;
        return;
      }
      const { signal } = this.#stopped;
      const ran = await runPass(schedule.route, scope, schedule.mode, {
        signal,
        isDue: () => this.#isDue(job),
      });
      job.failures = 0;
      if (!ran) {
        if (await this.#isDue(job)) job.nextAt = clock.now() + Math.min(schedule.everyMs, BUSY_MS);
        return;
      }
      const start = await this.#lastStart(scope, schedule.mode);
      // A pass that left no checkpoint (its connection was forgotten meanwhile) must not run in a hot loop.
      const anew = clock.now() + Math.min(schedule.everyMs, LEAST_MS);
      job.nextAt = start === undefined ? anew : this.#after(start, schedule);
    } catch {
      // The reconciler has told of it. The checkpoint stands, so trying again soon costs only what is left.
      job.failures += 1;
      job.nextAt =
        clock.now() + Math.min(schedule.everyMs, RETRY.minDelayMs + backoff(job.failures, RETRY, random));
    } finally {
      this.#permits.release();
    }
  }

  /** Whether nobody ran it within its interval; where somebody did, its next time is set. */
  async #isDue(job: Job): Promise<boolean> {
    const { schedule, scope } = job;
    const last = await this.#lastStart(scope, schedule.mode);
    const now = this.#options.clock.now();
    if (last === undefined || last + schedule.everyMs <= now) return true;
    // It began in the future: the clock was set back since, by more than the clocks of two machines differ.
    if (last > now + LOOK_MS) return true;
    job.nextAt = this.#after(last, schedule);
    return false;
  }

  async #nextAt(scope: Scope, schedule: Schedule): Promise<number> {
    const last = await this.#lastStart(scope, schedule.mode);
    return last === undefined ? this.#options.clock.now() : this.#after(last, schedule);
  }

  /** When the last complete pass began; `undefined` where there was none, or one was interrupted and should go on. */
  async #lastStart(scope: Scope, mode: PassMode): Promise<number | undefined> {
    const record = parsePassRecord(await this.#options.store.getCheckpoint(passKey(scope, mode)));
    return record.current === null ? record.last?.startedAt : undefined;
  }

  #after(lastStart: number, { everyMs }: Schedule): number {
    return lastStart + everyMs * (1 + JITTER * this.#options.random());
  }
}

/** The longest wait between two passes; a pause that lasts longer is looked at again by then. */
function longest({ everyMs }: Schedule): number {
  return everyMs * (1 + JITTER);
}
