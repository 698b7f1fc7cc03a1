/**
 * The webhook receiver: takes in a provider's deliveries, over `node:http` or Fetch.
 *
 * @module
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { fetchHandler } from "./fetch.ts";
import { Gate, type ReceiverOptions } from "./gate.ts";
import { nodeHandler } from "./node.ts";

export type { ReceiverOptions } from "./gate.ts";

/**
 * Handlers for a provider's webhook route. Both do the same, both can be passed on by themselves, and neither rejects.
 *
 * | status | when |
 * |---|---|
 * | 200 | the events are in the store, or were there already, or nobody wants them: `{ status, accepted, duplicates, ignored }` |
 * | 400 | the delivery cannot be understood, or a header came twice that must be single |
 * | 401 | no signature scheme accepts the delivery |
 * | 405, 408, 413, 415 | not a POST; too slow; over `maxBodyBytes`; compressed |
 * | 500 | the adapter's or the receiver's own fault; `BODY_CONSUMED` says how to mount the route |
 * | 503 | the engine stops, or the store cannot take the events; with `Retry-After` |
 *
 * Refusals are `{ error: { code, message } }` with fixed texts.
 */
export interface Receiver {
  /**
   * For Fetch servers. With Hono: `app.post("/hooks/crm", (c) => receiver.fetch(c.req.raw))`.
   *
   * `Headers` cannot tell a header that came twice; it then fails to verify, with 401 instead of 400.
   */
  readonly fetch: (request: Request) => Promise<Response>;
  /**
   * For `node:http`, `node:https`, the compatibility API of `node:http2`, and what is built on them.
   *
   * Typed as `createServer` wants a listener to be. What it returns is a promise all the same, which resolves when the
   * answer is written, for platforms that wait for one.
   *
   * ```ts
   * createServer(receiver.node);
   * app.post("/hooks/crm", receiver.node); // Express: before express.json(), or after express.raw()
   * fastify.register(async (hooks) => {
   *   // Fastify parses bodies unless told otherwise; in a plugin of its own this concerns only its routes.
   *   hooks.removeAllContentTypeParsers();
   *   hooks.addContentTypeParser("*", (request, payload, done) => done(null));
   *   hooks.post("/hooks/crm", (request, reply) => {
   *     reply.hijack();
   *     receiver.node(request.raw, reply.raw);
   *   });
   * });
   * ```
   *
   * Bytes that a parser kept as a `Buffer` in `request.body` or `request.rawBody` are used. A body that was parsed and
   * not kept cannot be verified: 500 with `BODY_CONSUMED`, and a `warning` that says what to do.
   */
  readonly node: (
    request: IncomingMessage | Http2ServerRequest,
    response: ServerResponse | Http2ServerResponse,
  ) => void;
}

/**
 * Makes the handlers of a provider's webhook route.
 *
 * A delivery is read within 10 s and `maxBodyBytes`, its connection is found, its signature verified, its events read
 * and handed to the sink; whatever fails, nothing is changed before the signature is verified (I11).
 *
 * @throws TrueupError `OPTION_INVALID` for a provider without `webhook`
 */
export function createReceiver(options: ReceiverOptions): Receiver {
  const gate = new Gate(options);
  return {
    fetch: fetchHandler(gate),
    // The compatibility API of HTTP/2 has the same members under other types.
    node: nodeHandler(gate) as Receiver["node"],
  };
}
