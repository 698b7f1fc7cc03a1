/**
 * What the engine knows of each route: its provider, its resource, its handler.
 *
 * @module
 */

import type { BatchHandler, Handler } from "./change.ts";
import { TrueupError } from "./errors.ts";
import type { BatchHandlerOptions, HandlerOptions } from "./handling.ts";
import type { AnyProvider } from "./provider.ts";
import type { AnyResource } from "./resource.ts";

export type RegisteredHandler =
  | { readonly kind: "single"; readonly run: Handler<unknown, unknown>; readonly options: HandlerOptions }
  | {
      readonly kind: "batch";
      readonly run: BatchHandler<unknown, unknown>;
      readonly options: BatchHandlerOptions;
    };

export interface Route {
  /** `"provider.resource"`. */
  readonly name: string;
  readonly provider: AnyProvider;
  readonly resourceName: string;
  readonly resource: AnyResource;
  readonly handler: RegisteredHandler | undefined;
}

export class RouteRegistry {
  readonly providers = new Map<string, AnyProvider>();
  readonly #routes = new Map<string, Route>();

  constructor(providers: readonly AnyProvider[]) {
    for (const provider of providers) {
      if (this.providers.has(provider.name)) {
        throw new TrueupError("OPTION_INVALID", `two providers are named "${provider.name}"`);
      }
      this.providers.set(provider.name, provider);
      for (const [resourceName, resource] of Object.entries(provider.resources)) {
        const name = `${provider.name}.${resourceName}`;
        this.#routes.set(name, { name, provider, resourceName, resource, handler: undefined });
      }
    }
  }

  /** @throws TrueupError `ROUTE_UNKNOWN` */
  get(name: string): Route {
    const route = this.#routes.get(name);
    if (route === undefined) {
      const known = [...this.#routes.keys()].join(", ");
      throw new TrueupError(
        "ROUTE_UNKNOWN",
        `no provider defines the route ${JSON.stringify(name)}; there are: ${known}`,
      );
    }
    return route;
  }

  find(provider: string, resourceName: string): Route | undefined {
    return this.#routes.get(`${provider}.${resourceName}`);
  }

  all(): Route[] {
    return [...this.#routes.values()];
  }

  /** Routes that this process works on. */
  handled(): Route[] {
    return this.all().filter((route) => route.handler !== undefined);
  }

  /** @throws TrueupError `DUPLICATE_HANDLER`, `ROUTE_UNKNOWN` */
  setHandler(name: string, handler: RegisteredHandler): void {
    const route = this.get(name);
    if (route.handler !== undefined)
      throw new TrueupError("DUPLICATE_HANDLER", `${name} has a handler already`);
    this.#routes.set(name, { ...route, handler });
  }
}

/** @throws TrueupError `HANDLER_MISSING` */
export function requireHandler(route: Route): void {
  if (route.handler !== undefined) return;
  throw new TrueupError(
    "HANDLER_MISSING",
    `${route.name} is declared and has no handler: call engine.handle("${route.name}", …), or leave the resource out`,
  );
}
