/**
 * A pass's checkpoint: where it goes on, where the next one starts, and what is known of those before it.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import type { Scope } from "./event.ts";
import {
  emptyCounts,
  goesOnAs,
  newCycle,
  parsePassRecord,
  passKey,
  type CompletedPass,
  type PassHandle,
  type PassMode,
  type PassRecord,
  type PassState,
} from "./pass.ts";
import type { AnyResource } from "./resource.ts";
import type { Lock, Store, WorkSession } from "./store.ts";

export interface PassCheckpointOptions {
  readonly store: Store<unknown>;
  readonly session: WorkSession<unknown>;
  readonly clock: Clock;
  readonly scope: Scope;
  readonly mode: PassMode;
  readonly resource: Pick<AnyResource, "overlapMs" | "pageSize">;
  readonly handle: PassHandle;
  /** Instead of where the last pass ended. */
  readonly since: Date | undefined;
  readonly pageSize: number | undefined;
  readonly lock: Lock;
}

export class PassCheckpoint {
  readonly #options: PassCheckpointOptions;
  /** The last pass of this mode that was complete. */
  #last: CompletedPass | null = null;
  #resumed = false;

  constructor(options: PassCheckpointOptions) {
    this.#options = options;
  }

  get key(): string {
    return passKey(this.#options.scope, this.#options.mode);
  }

  /** Whether the pass goes on where an earlier one had stopped. */
  get resumed(): boolean {
    return this.#resumed;
  }

  /** How far the list is known to have been read, in milliseconds since the epoch by the provider's clock. */
  get watermark(): number | null {
    return this.#last?.watermark ?? null;
  }

  /** Where the pass goes on, or a new one. */
  async begin(): Promise<PassState> {
    const { handle: asked, pageSize, since, store } = this.#options;
    const { current, last } = parsePassRecord(await store.getCheckpoint(this.key));
    this.#last = last;
    const handle = current === null ? undefined : goesOnAs(current, asked);
    if (current === null || handle === undefined || since !== undefined) return this.anew();
    if (pageSize !== undefined && pageSize !== current.pageSize) return this.anew();
    this.#resumed = true;
    return { ...current, handle };
  }

  async anew(handle = this.#options.handle): Promise<PassState> {
    const { clock, mode, pageSize, resource, scope, since, store } = this.#options;
    this.#resumed = false;
    await this.#end(); // what an earlier pass has seen is not what this one sees
    return {
      handle,
      startedAt: clock.now(),
      startMark: await store.counter(scope),
      since: mode === "full" ? null : (since?.getTime() ?? (await this.#sinceLastPass())),
      pageSize: pageSize ?? resource.pageSize,
      watermark: null,
      cursor: null,
      phase: "list",
      sweptTo: null,
      unreadable: false,
      counts: emptyCounts(),
      cycle: newCycle(),
    };
  }

  /** As the store keeps it. */
  text(current: PassState | null): string {
    return JSON.stringify({ current, last: this.#last } satisfies PassRecord);
  }

  /** Keeps how far the pass got, apart from its pages. @throws TrueupError `LEASE_LOST` where the lock is another's */
  async save(state: PassState): Promise<void> {
    const { lock, scope, session } = this.#options;
    await session.recordPage({
      scope,
      pass: this.key,
      lock,
      mark: state.startMark,
      seen: [],
      differing: [],
      lease: false,
      checkpoint: this.text(state),
    });
  }

  async complete(state: PassState): Promise<void> {
    const { startedAt, counts } = state;
    const watermark = (await this.#provesWatermark(state)) ? state.watermark : this.watermark;
    this.#last = { startedAt, finishedAt: this.#options.clock.now(), watermark, counts };
    await this.#end();
  }

  async #end(): Promise<void> {
    const { lock, scope, store } = this.#options;
    await store.endPass(scope, this.key, lock, this.text(null));
  }

  /** The watermark of the last complete pass of either mode, less the overlap. */
  async #sinceLastPass(): Promise<number | null> {
    const { resource, scope, store } = this.#options;
    const watermark = await lastWatermark(store, scope);
    return watermark === undefined ? null : watermark - resource.overlapMs;
  }

  /** A pass that was told to begin later than the last one ended leaves a gap, and must not hide it. */
  async #provesWatermark({ since }: PassState): Promise<boolean> {
    if (since === null) return true;
    const { scope, store } = this.#options;
    const last = await lastWatermark(store, scope);
    return last !== undefined && since <= last;
  }
}

/** Whether any pass over the scope was complete, of either mode. */
export async function completedBefore(store: Store<unknown>, scope: Scope): Promise<boolean> {
  return (await passRecords(store, scope)).some((record) => record.last !== null);
}

/** How far a complete pass of any mode has got, in milliseconds since the epoch by the provider's clock. */
async function lastWatermark(store: Store<unknown>, scope: Scope): Promise<number | undefined> {
  const records = await passRecords(store, scope);
  const watermarks = records.flatMap((record) =>
    record.last?.watermark == null ? [] : [record.last.watermark],
  );
  return watermarks.length === 0 ? undefined : Math.max(...watermarks);
}

function passRecords(store: Store<unknown>, scope: Scope): Promise<PassRecord[]> {
  return Promise.all(
    (["incremental", "full"] as const).map(async (mode) =>
      parsePassRecord(await store.getCheckpoint(passKey(scope, mode))),
    ),
  );
}
