/**
 * Watches how events arrive: hears of them by the hooks, keeps the last of each kind in the store, and says when
 * webhooks have gone quiet.
 *
 * Counts are of this process and go with it. When the last event came is kept, since that is what one wants to know
 * after a restart, or in a process that receives none itself: at most one small write a minute for each connection.
 *
 * @module
 */

import type { Clock } from "./clock.ts";
import { DeliveryHealth, SOURCE_KINDS, type DeliveryStatus, type LastEvents } from "./delivery-health.ts";
import type { ConnectionRef, Hooks, PassRef } from "./hooks.ts";
import type { AnyProvider } from "./provider.ts";
import { asError } from "./retry.ts";
import { connectionKey, type Store } from "./store.ts";

export interface DeliveryWatchOptions {
  readonly store: Store<unknown>;
  readonly clock: Clock;
  readonly hooks: Hooks;
  readonly providers: ReadonlyMap<string, AnyProvider>;
}

const SAVE_EVERY_MS = 60_000;
/** `status` reads one checkpoint for each connection, and shows so many. */
const MOST_SHOWN = 1_000;
/** Of connections whose last event may not be written yet. */
const MOST_REMEMBERED = 10_000;
/** Where a refusal does not say whose delivery it was. */
const ANY_CONNECTION = "*";

interface Saving extends ConnectionRef {
  /** By the monotonic clock, of the last write. */
  at: number;
  /** Whether something came since. */
  pending: boolean;
}

export class DeliveryWatch {
  readonly #options: DeliveryWatchOptions;
  readonly #health: DeliveryHealth;
  readonly #saving = new Map<string, Saving>();
  /** Most events come for the same connection as the one before. */
  #latest: Saving | undefined;
  readonly #writes = new Set<Promise<void>>();

  constructor(options: DeliveryWatchOptions) {
    const { clock, hooks } = options;
    this.#options = options;
    this.#health = new DeliveryHealth(clock.now());
    hooks.on("delivery", (event) => {
      const { accepted, duplicates, ignored, origin } = event;
      this.#health.delivered(event, origin, accepted + duplicates + ignored, clock.now());
      this.#saveSoon(event);
    });
    hooks.on("delivery.refused", ({ code, connection = ANY_CONNECTION, provider }) => {
      if (code === "SIGNATURE_INVALID") this.#health.signatureRefused({ provider, connection }, clock.now());
    });
    hooks.on("change.handled", ({ origin, ref }) => this.#health.changed(ref, origin, clock.now()));
    hooks.on("pass.started", (pass) => {
      if (pass.purpose === "reconcile") this.#health.passStarted(pass, { news: !pass.backfill }, clock.now());
    });
    hooks.on("pass.finished", (pass) => {
      if (pass.purpose !== "reconcile" || !pass.complete) return;
      this.#health.passCompleted(pass, clock.now());
      this.#judge(pass).catch((thrown: unknown) =>
        hooks.emit("error", { error: asError(thrown), during: "looking for the last event" }),
      );
    });
  }

  /** How events arrive, for connections that this process has heard of, and for those given. */
  async status(others: readonly ConnectionRef[]): Promise<DeliveryStatus[]> {
    const shown = new Map<string, ConnectionRef>();
    for (const { connection, provider } of [...this.#health.connections(), ...others]) {
      if (shown.size === MOST_SHOWN) break;
      shown.set(keyOf({ provider, connection }), { provider, connection });
    }
    await Promise.all(Array.from(shown.values(), (ref) => this.#recall(ref)));
    return Array.from(shown.values(), (ref) => this.#health.status(ref, this.#options.clock.now()));
  }

  /** Writes what is not written yet. */
  async flush(): Promise<void> {
    for (const saving of this.#saving.values()) if (saving.pending) this.#save(saving);
    await Promise.all(this.#writes);
  }

  /** Resolves when nothing of it is written any more. */
  async forget(ref: ConnectionRef): Promise<void> {
    this.#health.forget(ref);
    this.#latest = undefined;
    this.#saving.delete(shortKeyOf(ref));
    await Promise.all(this.#writes);
  }

  /** Another process may have been told what this one missed: the store knows, before anybody is alarmed. */
  async #judge({ connection, provider }: PassRef): Promise<void> {
    const { clock, hooks, providers } = this.#options;
    const ref = { provider, connection };
    if (providers.get(provider)?.webhook === undefined) return;
    if (this.#health.suspects(ref, clock.now()) === undefined) return;
    await this.#recall(ref);
    const quiet = this.#health.suspects(ref, clock.now());
    if (quiet === undefined) return;
    this.#health.quietTold(ref, quiet);
    hooks.emit("webhooks.quiet", { ...ref, ...quiet });
  }

  async #recall(ref: ConnectionRef): Promise<void> {
    this.#health.remembered(ref, await this.#stored(ref));
  }

  #saveSoon(ref: ConnectionRef): void {
    const saving = this.#savingOf(ref);
    saving.pending = true;
    if (this.#options.clock.monotonic() >= saving.at + SAVE_EVERY_MS) this.#save(saving);
  }

  #savingOf({ connection, provider }: ConnectionRef): Saving {
    const latest = this.#latest;
    if (latest?.connection === connection && latest.provider === provider) return latest;
    const key = shortKeyOf({ provider, connection });
    const saving = this.#saving.get(key) ?? { provider, connection, at: -Infinity, pending: false };
    if (this.#saving.size >= MOST_REMEMBERED && !this.#saving.has(key)) {
      this.#saving.delete(this.#saving.keys().next().value as string);
    }
    this.#saving.set(key, saving);
    this.#latest = saving;
    return saving;
  }

  #save(saving: Saving): void {
    saving.at = this.#options.clock.monotonic();
    saving.pending = false;
    // What the store cannot take now, a later event brings again; that the store fails, the path tells.
    const write: Promise<void> = this.#merge(saving)
      .catch(() => void (saving.pending = true))
      .finally(() => this.#writes.delete(write));
    this.#writes.add(write);
  }

  /** Other processes write it too: of each kind the later moment stays. */
  async #merge(ref: ConnectionRef): Promise<void> {
    const stored = await this.#stored(ref);
    const known = this.#health.lastEvents(ref);
    const isNews = SOURCE_KINDS.some((kind) => (known[kind] ?? 0) > (stored[kind] ?? 0));
    if (!isNews) return;
    const latest = SOURCE_KINDS.flatMap((kind) => {
      const at = Math.max(known[kind] ?? 0, stored[kind] ?? 0);
      return at === 0 ? [] : [[kind, at]];
    });
    await this.#options.store.setCheckpoint(keyOf(ref), JSON.stringify(Object.fromEntries(latest)));
  }

  async #stored(ref: ConnectionRef): Promise<LastEvents> {
    const text = await this.#options.store.getCheckpoint(keyOf(ref));
    return text === undefined ? {} : (JSON.parse(text) as LastEvents);
  }
}

function keyOf({ connection, provider }: ConnectionRef): string {
  return `${connectionKey(provider, connection)}last-events`;
}

/** Quicker to make than the store's: one is made on the way of many a webhook. */
function shortKeyOf({ connection, provider }: ConnectionRef): string {
  return `${provider}/${connection}`;
}
