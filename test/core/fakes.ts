/** What the tests of the core share: small fakes, and ways to wait for facts. */

import { z } from "zod";
import type { ApiCall, ApiClients } from "../../src/core/api.ts";
import type { ObjectRef, Scope } from "../../src/core/event.ts";
import { type EventMap, Hooks } from "../../src/core/hooks.ts";
import { type AnyProvider, defineProvider } from "../../src/core/provider.ts";
import type { Route } from "../../src/core/registry.ts";
import { type AnyResource, defineResource, type ResourceDefinition } from "../../src/core/resource.ts";
import type { Claim, IndexEntry, Pause, Store } from "../../src/core/store.ts";

export const scope: Scope = { provider: "crm", connection: "default", resource: "contact" };

export function refOf(id: string): ObjectRef {
  return { ...scope, id };
}

export const contactSchema = z.object({
  id: z.union([z.string(), z.number()]),
  name: z.string(),
  rev: z.number().optional(),
});
export type Contact = z.infer<typeof contactSchema>;

/** A resource whose version is `rev`, and that keeps it out of its content. */
export function resourceOf(parts: Partial<ResourceDefinition<Contact>> = {}): AnyResource {
  return defineResource({
    schema: contactSchema,
    idOf: (contact) => contact.id,
    versionOf: (contact) => contact.rev,
    contentOf: (contact) => contact.name,
    fetch: async (id) => ({ id, name: "Ada" }),
    ...parts,
  }) as AnyResource;
}

export function providerOf(resources: Record<string, AnyResource> = { contact: resourceOf() }): AnyProvider {
  return defineProvider({ name: "crm", resources });
}

export function routeOf(resourceName = "contact"): Route {
  const resource = resourceOf();
  const provider = providerOf({ [resourceName]: resource });
  return { name: `crm.${resourceName}`, provider, resourceName, resource, handler: undefined };
}

export function claimOf(parts: Partial<Claim> = {}): Claim {
  return {
    ref: refOf("1"),
    key: 1,
    fence: 10,
    generation: 9,
    attempt: 1,
    lags: 0,
    begun: false,
    forced: false,
    lane: "live",
    origin: "webhook",
    hint: undefined,
    hintVersion: undefined,
    events: [],
    eventCount: 0,
    dirtySince: 0,
    index: undefined,
    ...parts,
  };
}

export function entryOf(parts: Partial<IndexEntry> = {}): IndexEntry {
  return { state: "present", version: null, hash: null, rowHash: null, revision: 1, evidence: 5, ...parts };
}

export type Told = { readonly [Name in keyof EventMap]: readonly EventMap[Name][] };

/** Hooks that remember what they were told by name, and what was logged as an error. */
export function recording(): { hooks: Hooks; told: Told; logged: { fields: object; message: string }[] } {
  const logged: { fields: object; message: string }[] = [];
  const hooks = new Hooks({
    debug: () => {},
    info: () => {},
    warn: () => {},
    error: (fields, message) => logged.push({ fields, message }),
  });
  const events: Partial<Record<keyof EventMap, unknown[]>> = {};
  const told = new Proxy(events, {
    get(target, name: keyof EventMap) {
      const known = target[name];
      if (known !== undefined) return known;
      return (target[name] = []);
    },
  }) as unknown as Told;
  hooks.has = () => true;
  const emit = hooks.emit.bind(hooks);
  hooks.emit = (name, event) => {
    (told[name] as unknown[]).push(event);
    emit(name, event);
  };
  return { hooks, told, logged };
}

/** An API that makes no requests; its contexts only carry what they were called with. */
export function fakeApis(serverDate?: number): ApiClients & { readonly calls: ApiCall[] } {
  const calls: ApiCall[] = [];
  const unused = async () => {
    throw new Error("these tests make no requests");
  };
  return {
    calls,
    of: (_provider, connection) => ({
      context: async (call) => {
        calls.push(call);
        if (serverDate !== undefined) call.onServerDate?.(serverDate);
        return {
          api: { get: unused, request: unused },
          connection: { id: connection, credentials: {} },
          signal: call.signal,
          limited: (run) => run(),
        };
      },
      saturated: () => false,
    }),
    forget: () => {},
    close: async () => {},
  };
}

/** A store that has what a test gives it, and nothing else: any other call is an error of its own. */
export function storeWith(parts: Partial<Store<unknown>>): Store<unknown> {
  return parts as Store<unknown>;
}

/** Checkpoints and pauses in memory. */
export function smallStore(): Store<unknown> & {
  readonly checkpoints: Map<string, string>;
  readonly paused: Map<string, Pause>;
} {
  const checkpoints = new Map<string, string>();
  const paused = new Map<string, Pause>();
  const parts: Partial<Store<unknown>> = {
    getCheckpoint: async (key) => checkpoints.get(key),
    pause: async (pause) => void paused.set(`${pause.provider}/${pause.connection}`, pause),
    resume: async (provider, connection) => void paused.delete(`${provider}/${connection}`),
    pauses: async () => [...paused.values()],
  };
  return Object.assign(storeWith(parts), { checkpoints, paused });
}

export interface Gate<T> {
  readonly promise: Promise<T>;
  readonly open: (value: T) => void;
  readonly fail: (reason: Error) => void;
}

/** A promise that the test settles. */
export function gate<T = void>(): Gate<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  return { promise, open: resolve, fail: reject };
}

/** What a promise rejects with; a promise that resolves is the failure. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error: unknown) => error as Error,
  );
  if (outcome instanceof Error) return outcome;
  throw new Error(`resolved with ${JSON.stringify(outcome.value)}`);
}

/** The code of what a call throws; a call that returns is the failure. */
export function thrownCode(call: () => unknown): string | undefined {
  try {
    call();
  } catch (thrown) {
    return (thrown as { code?: string }).code;
  }
  throw new Error("nothing was thrown");
}

/** A turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** Random numbers that are the same in every run. */
export function seeded(seed = 1): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}
