/**
 * One connection's requests: retried for some seconds, and once more when new credentials may help.
 *
 * @module
 */

import type { Dispatcher } from "undici";
import type { ApiCall, ApiRequest, ApiResponse } from "../core/api.ts";
import type { Clock, Random } from "../core/clock.ts";
import { invalidOption } from "../core/errors.ts";
import type { Hooks, Logger } from "../core/hooks.ts";
import type { ApiDefinition } from "../core/provider.ts";
import { abortable } from "../core/abortable.ts";
import { Attempt, Refused } from "./attempt.ts";
import type { Credentials } from "./credentials.ts";
import type { Limiter } from "./limiter.ts";
import { encodeBody, type RequestBody } from "./request-body.ts";
import { withRetries } from "./retries.ts";
import type { ValidatorCache } from "./validators.ts";

/** What all connections share. */
export interface Shared {
  readonly clock: Clock;
  readonly random: Random;
  readonly hooks: Hooks;
  readonly logger: Logger;
  readonly validators: ValidatorCache;
  dispatcher(): Promise<Dispatcher>;
  /** Notes secrets that a request of this connection carries. */
  learn(state: ConnectionState, what: string, secrets: readonly string[]): void;
}

/** One connection, and what is remembered of it. */
export interface ConnectionState {
  readonly key: string;
  readonly provider: string;
  readonly id: string;
  readonly api: ApiDefinition<unknown> | undefined;
  readonly limiter: Limiter;
  readonly credentials: Credentials;
}

/** A request as every attempt sends it. */
export interface Prepared {
  readonly method: string;
  readonly request: ApiRequest;
  readonly body: RequestBody | undefined;
}

/** Performs one logical request. Throws as `ApiClient` promises. */
export async function send(
  shared: Shared,
  state: ConnectionState,
  call: ApiCall,
  request: ApiRequest,
): Promise<ApiResponse<unknown>> {
  const { api, provider } = state;
  if (api === undefined) {
    throw invalidOption(
      `provider "${provider}" has no \`api\`: define one, or run a vendor SDK's calls under \`limited\``,
    );
  }
  const prepared: Prepared = { method: methodOf(request), request, body: encodeBody(request.body) };
  const retries = {
    clock: shared.clock,
    random: shared.random,
    signal: call.signal,
    onRetry: (error: Error, delayMs: number) =>
      shared.logger.debug(
        { provider, connection: state.id, error, delayMs },
        "an API request is tried again",
      ),
  };
  for (let refreshed = false; ; refreshed = true) {
    const held = await abortable(state.credentials.held(), call.signal);
    const attempt = new Attempt({ shared, state, api, call, prepared, connection: held.connection });
    try {
      return await withRetries(() => attempt.perform(), retries);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (refreshed) throw error.final();
    }
    await abortable(state.credentials.refresh(held), call.signal);
  }
}

function methodOf(request: ApiRequest): string {
  const method = (request.method ?? "GET").toUpperCase();
  if (!/^[A-Z]{1,32}$/.test(method) || method === "CONNECT" || method === "TRACE") {
    throw invalidOption(`${JSON.stringify(request.method)} is no method that can be sent`);
  }
  return method;
}
