/**
 * A stand-in for the network, in tests: requests are answered by a function.
 *
 * @module
 */

import { Readable } from "node:stream";
import type { Dispatcher } from "undici";
import { abortable } from "../core/abortable.ts";

export interface TransportRequest {
  readonly method: string;
  /** Absolute. */
  readonly url: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface TransportAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** The connection breaks behind what there is of the body. */
  readonly broken?: boolean | undefined;
}

/** Answers a request; or rejects with an error that has the `code` of a socket's, `ECONNREFUSED` say. */
export type Transport = (request: TransportRequest) => Promise<TransportAnswer>;

/** What the API client needs of a dispatcher, over a transport. */
export function transportDispatcher(transport: Transport): Dispatcher {
  const dispatcher: Pick<Dispatcher, "close"> & {
    request(options: Dispatcher.RequestOptions): Promise<unknown>;
  } = {
    async request({ headers, method, origin, path, signal }) {
      const asked = transport({
        method: String(method),
        url: `${String(origin)}${path}`,
        headers: headers as Record<string, string>,
      });
      // Every request of the client has a signal, which ends it as it would a socket.
      const answer = await abortable(asked, signal as AbortSignal);
      const body = new Readable({ read() {} });
      if (answer.body.length > 0) body.push(answer.body);
      if (answer.broken === true)
        body.destroy(Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" }));
      else body.push(null);
      return {
        statusCode: answer.status,
        headers: answer.headers,
        body: Object.assign(body, { dump: async () => void body.destroy() }),
      };
    },
    close: async () => {},
  };
  return dispatcher as unknown as Dispatcher;
}
