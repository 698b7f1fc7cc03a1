/**
 * The receiver as a handler of Fetch requests: Hono, Next.js, Bun, Deno, Workers.
 *
 * @module
 */

import type { Answer } from "./answer.ts";
import { BodyBuffer, NO_BYTES } from "../../http/body-buffer.ts";
import { DRAIN_BYTES, type BodyRead } from "./body-read.ts";
import type { RequestHead } from "./delivery.ts";
import type { Gate } from "./gate.ts";

type BodyReader = ReadableStreamDefaultReader<Uint8Array>;

export function fetchHandler(gate: Gate): (request: Request) => Promise<Response> {
  return async (request) => {
    try {
      const answer = await handle(gate, request);
      // What is left of a refused body is dropped while the answer is on its way.
      if (answer.code !== undefined) dropRest(gate, request);
      return toResponse(answer, request.method);
    } catch (error) {
      return toResponse(gate.failed(error, false), request.method);
    }
  };
}

async function handle(gate: Gate, request: Request): Promise<Answer> {
  const head = new FetchHead(request);
  const refused = gate.preflight(head);
  if (refused !== undefined) return refused;

  const body = await readBody(request, gate);
  if (body instanceof Uint8Array) return gate.accept(head, body);
  return body === "BODY_CONSUMED" ? gate.consumed() : gate.refuse(body);
}

class FetchHead implements RequestHead {
  readonly #request: Request;

  constructor(request: Request) {
    this.#request = request;
  }

  get method(): string {
    return this.#request.method;
  }

  /**
   * `Headers` has joined a header that came twice to `one, two`, so it cannot be told apart here. No signature, time or
   * id with a comma and a space in it verifies, and so a repeated one fails with 401 rather than 400.
   */
  header(name: string): string | undefined {
    return this.#request.headers.get(name) ?? undefined;
  }

  url(): string {
    return this.#request.url;
  }
}

async function readBody(request: Request, { maxBodyBytes, deadlines }: Gate): Promise<BodyRead> {
  if (request.bodyUsed || request.body?.locked) return "BODY_CONSUMED";
  if (request.body === null) return NO_BYTES;
  const reader = request.body.getReader() as BodyReader;
  let expired = false;
  const reading = deadlines.begin(() => {
    expired = true;
    cancel(reader);
  });
  const bytes = new BodyBuffer(maxBodyBytes);
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      if (!bytes.add(next.value)) return "BODY_TOO_LARGE";
    }
    return expired ? "BODY_TIMEOUT" : bytes.take();
  } catch {
    return expired ? "BODY_TIMEOUT" : "BODY_INCOMPLETE";
  } finally {
    deadlines.end(reading);
    reader.releaseLock();
  }
}

/** Reads and drops a bounded rest, as the Node adapter does and for the same reason. */
function dropRest(gate: Gate, request: Request): void {
  if (request.body === null || request.body.locked) return;
  const reader = request.body.getReader() as BodyReader;
  const reading = gate.deadlines.begin(() => cancel(reader));
  const drop = async () => {
    let left = DRAIN_BYTES;
    for (let next = await reader.read(); !next.done && left > 0; next = await reader.read())
      left -= next.value.length;
  };
  void drop()
    .catch(() => {}) // the sender went away
    .finally(() => {
      gate.deadlines.end(reading);
      cancel(reader);
    });
}

function cancel(reader: BodyReader): void {
  reader.cancel().catch(() => {}); // a stream that cannot even be cancelled is past caring for
}

function toResponse({ status, headers, body }: Answer, method: string): Response {
  const content = body === "" || method === "HEAD" ? null : (body as string | Uint8Array<ArrayBuffer>);
  return new Response(content, { status, headers });
}
