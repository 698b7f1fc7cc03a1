/**
 * A provider: an external system with its API, its webhook scheme and its resources.
 *
 * @module
 */

import type { StandardSchemaV1 } from "@standard-schema/spec";
import { invalidOption } from "./errors.ts";
import type { SyncEvent } from "./event.ts";
import type { AnyResource } from "./resource.ts";
import type { Outcome, Verifier, WebhookDelivery } from "./source.ts";

/** One account at a provider. */
// oxlint-disable-next-line typescript/no-explicit-any -- unknown until a provider's `credentials` schema types it
export interface Connection<Credentials = any> {
  readonly id: string;
  readonly credentials: Credentials;
}

export interface RateLimit {
  /** How many requests may start in `perMs`. */
  readonly requests?: number | undefined;
  /** @default 1_000 */
  readonly perMs?: number | undefined;
  /** How many requests may be under way at once. */
  readonly concurrent?: number | undefined;
  /** The share of `requests` that reconciliation may use while live work waits. @default 0.5 */
  readonly repairShare?: number | undefined;
}

/** What a response means, where the status alone misleads. */
export type ResponseClass = "retry" | "rate-limit" | "auth" | "fail";

/** A response as `api.classify` sees it. */
export interface ClassifiedResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** The decoded body, or `undefined` where it is empty or cannot be decoded. */
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON from outside
  readonly data: any;
}

export interface ApiDefinition<Credentials> {
  /** Absolute. Every path is relative to it, with or without a leading slash, and stays under it. */
  readonly baseUrl: string | ((connection: Connection<Credentials>) => string);
  /** Called for each request. */
  readonly headers?:
    | Readonly<Record<string, string>>
    | ((
        connection: Connection<Credentials>,
      ) => Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>)
    | undefined;
  /** Per connection. Without one, requests are only bounded by the engine's `concurrency`. */
  readonly rateLimit?: RateLimit | undefined;
  /** Overrides what a response means; `undefined` leaves it to the default. */
  readonly classify?: ((response: ClassifiedResponse) => ResponseClass | undefined) | undefined;
  /** For one request, from its start to the last byte of its answer. @default 10_000 */
  readonly timeoutMs?: number | undefined;
  /** Of the decoded body. @default 10_485_760 */
  readonly maxBodyBytes?: number | undefined;
}

export type Verifiers = Verifier | readonly Verifier[];

/** What `respond` may say instead of the default answer. */
export interface WebhookAnswer {
  readonly status?: number | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** An object is sent as JSON. */
  readonly body?: unknown;
}

export interface WebhookDefinition<Credentials> {
  /** One scheme, several (any that passes is enough), or a function that finds them for a connection. */
  readonly verify: Verifiers | ((connection: Connection<Credentials>) => Verifiers | Promise<Verifiers>);
  /** Whose delivery it is. Runs before `verify`, on bytes that nobody vouches for. Unknown: the delivery is ignored. */
  readonly connection?:
    | ((delivery: WebhookDelivery) => string | undefined | Promise<string | undefined>)
    | undefined;
  /** What a verified delivery says. None, one or many events; at most one for each 100 bytes of `maxBodyBytes`. */
  readonly events: (delivery: WebhookDelivery) => readonly SyncEvent[] | Promise<readonly SyncEvent[]>;
  /** Shapes the answer to a delivery that was accepted, a duplicate or ignored. */
  readonly respond?: ((outcome: Outcome, delivery: WebhookDelivery) => WebhookAnswer | undefined) | undefined;
  /** @default 1_048_576 */
  readonly maxBodyBytes?: number | undefined;
}

export interface ProviderDefinition<
  Name extends string = string,
  Resources extends Readonly<Record<string, AnyResource>> = Readonly<Record<string, AnyResource>>,
  CredentialsSchema extends StandardSchemaV1 = StandardSchemaV1,
> {
  /** Letters, digits, `-` and `_`; the first half of its routes. */
  readonly name: Name;
  /** Checks what `connections.get` gives, and types `connection.credentials`. */
  readonly credentials?: CredentialsSchema | undefined;
  readonly api?: ApiDefinition<StandardSchemaV1.InferOutput<CredentialsSchema>> | undefined;
  readonly webhook?: WebhookDefinition<StandardSchemaV1.InferOutput<CredentialsSchema>> | undefined;
  readonly resources: Resources;
  /** With a store whose durability is `"none"`: how long a delivery waits to be handled before it is refused with 503. @default 5_000 */
  readonly ackTimeoutMs?: number | undefined;
}

export interface Provider<
  Name extends string = string,
  Resources extends Readonly<Record<string, AnyResource>> = Readonly<Record<string, AnyResource>>,
  CredentialsSchema extends StandardSchemaV1 = StandardSchemaV1,
> extends ProviderDefinition<Name, Resources, CredentialsSchema> {
  readonly ackTimeoutMs: number;
}

/** A provider of any shape, where only the path's own needs matter. */
// oxlint-disable-next-line typescript/no-explicit-any -- types are erased here; schemas check at run time
export type AnyProvider = Provider<string, Readonly<Record<string, AnyResource>>, any>;

/** `"crm.contact" | "crm.deal"` for a union of providers. */
export type RouteOf<P> = P extends {
  readonly name: infer Name extends string;
  readonly resources: infer Resources;
}
  ? `${Name}.${Extract<keyof Resources, string>}`
  : never;

/** The resource behind a route. */
export type ResourceOf<P, Route extends string> = Route extends `${infer Name}.${infer Key}`
  ? P extends { readonly name: Name; readonly resources: infer Resources }
    ? Key extends keyof Resources
      ? Resources[Key]
      : never
    : never
  : never;

const NAME = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * Defines a provider.
 * @throws TrueupError `OPTION_INVALID`, naming the field
 */
export function defineProvider<
  const Name extends string,
  const Resources extends Readonly<Record<string, AnyResource>>,
  // oxlint-disable-next-line typescript/no-explicit-any -- without a schema, credentials are whatever `connections.get` gives
  CredentialsSchema extends StandardSchemaV1 = StandardSchemaV1<any, any>,
>(
  definition: ProviderDefinition<Name, Resources, CredentialsSchema>,
): Provider<Name, Resources, CredentialsSchema> {
  requireName(definition.name, "a provider's `name`");
  if (typeof definition.resources !== "object" || definition.resources === null)
    throw invalidOption(
      `provider "${definition.name}": \`resources\` must be an object of resources by name`,
    );
  for (const [name, resource] of Object.entries(definition.resources)) {
    requireName(name, `a resource's name in provider "${definition.name}"`);
    if (typeof resource?.fetch !== "function") {
      throw invalidOption(`resource "${definition.name}.${name}" must be made with defineResource`);
    }
  }
  if (definition.api !== undefined) requireApi(definition.api, definition.name);
  if (definition.webhook !== undefined) requireWebhook(definition.webhook, definition.name);
  const ackTimeoutMs = definition.ackTimeoutMs ?? 5_000;
  if (!(ackTimeoutMs > 0))
    throw invalidOption(`provider "${definition.name}": \`ackTimeoutMs\` must be above 0`);
  return Object.freeze({ ...definition, ackTimeoutMs });
}

function requireName(name: unknown, what: string): void {
  if (typeof name !== "string" || !NAME.test(name)) {
    throw invalidOption(`${what} must be 1 to 64 letters, digits, "-" or "_", not ${JSON.stringify(name)}`);
  }
}

function requireApi(api: { readonly baseUrl: unknown }, provider: string): void {
  if (typeof api.baseUrl === "function") return;
  if (typeof api.baseUrl !== "string" || !URL.canParse(api.baseUrl) || !/^https?:/.test(api.baseUrl)) {
    throw invalidOption(`provider "${provider}": \`api.baseUrl\` must be an absolute http(s) URL`);
  }
}

function requireWebhook(
  webhook: { readonly verify: unknown; readonly events: unknown },
  provider: string,
): void {
  if (typeof webhook.events !== "function") {
    throw invalidOption(`provider "${provider}": \`webhook.events\` must be a function`);
  }
  if (typeof webhook.verify === "function") return;
  const verifiers = Array.isArray(webhook.verify) ? (webhook.verify as unknown[]) : [webhook.verify];
  const usable = (verifier: unknown) => typeof (verifier as Verifier | undefined)?.verify === "function";
  if (verifiers.length === 0 || !verifiers.every(usable)) {
    throw invalidOption(
      `provider "${provider}": \`webhook.verify\` must be a signature scheme, a list of them, or a function that finds them`,
    );
  }
}
