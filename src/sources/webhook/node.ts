/**
 * The receiver as a handler of `node:http`, which is also what Express and Fastify are built on.
 *
 * @module
 */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import { TrueupError } from "../../core/errors.ts";
import type { Answer } from "./answer.ts";
import { BodyBuffer } from "../../http/body-buffer.ts";
import { DRAIN_BYTES, type BodyRead } from "./body-read.ts";
import type { RequestHead } from "./delivery.ts";
import type { Gate } from "./gate.ts";
import type { ReadDeadlines } from "./read-deadlines.ts";

/** What body parsers and frameworks add to a request. */
interface ParsedRequest extends IncomingMessage {
  readonly originalUrl?: unknown;
  readonly body?: unknown;
  readonly rawBody?: unknown;
}

export function nodeHandler(
  gate: Gate,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  return async (request, response) => {
    try {
      const head = new NodeHead(request);
      const refused = gate.preflight(head);
      if (refused !== undefined) return await refuseUnread(gate, request, response, refused);
      const body = parsedBody(request) ?? (await readBody(request, gate));
      if (typeof body === "string") return await refuseBody(gate, request, response, body);
      if (body.length > gate.maxBodyBytes) return send(response, gate.refuse("BODY_TOO_LARGE"));
      return send(response, await gate.accept(head, body));
    } catch (error) {
      // Nothing above throws by design; were it to, a rejection that nobody awaits would end the process.
      gate.report(error, "answering a webhook");
      response.destroy();
    }
  };
}

class NodeHead implements RequestHead {
  readonly #request: ParsedRequest;

  constructor(request: ParsedRequest) {
    this.#request = request;
  }

  get method(): string {
    return this.#request.method ?? "";
  }

  // `request.headers` joins what came twice, or drops the second; the raw list tells.
  header(name: string): string | undefined {
    const { rawHeaders } = this.#request;
    const wanted = name.toLowerCase();
    if (rawHeaders.length === 0) return this.#parsedHeader(wanted);
    let value: string | undefined;
    for (let at = 0; at < rawHeaders.length; at += 2) {
      const key = rawHeaders[at] ?? "";
      if (key.length !== wanted.length || key.toLowerCase() !== wanted) continue;
      if (value !== undefined) throw repeated(name);
      value = rawHeaders[at + 1];
    }
    return value;
  }

  /** Not the public one behind a proxy: headers that claim to know it can be forged. */
  url(): string {
    const { originalUrl, url = "/", socket } = this.#request;
    // Express cuts the path of a mounted router off `url`.
    const target = typeof originalUrl === "string" ? originalUrl : url;
    const host = this.header("host") ?? this.header(":authority");
    if (!target.startsWith("/") || host === undefined) return target;
    return `${(socket as Partial<TLSSocket> | undefined)?.encrypted ? "https" : "http"}://${host}${target}`;
  }

  /** Adapters of serverless platforms make requests without raw headers. */
  #parsedHeader(name: string): string | undefined {
    const value = this.#request.headers[name];
    if (!Array.isArray(value)) return value;
    if (value.length > 1) throw repeated(name);
    return value[0];
  }
}

function repeated(name: string): TrueupError<"HEADER_REPEATED"> {
  return new TrueupError("HEADER_REPEATED", `the header ${name} came more than once`);
}

/** The bytes that a parser kept; `undefined` where the stream still has them all. */
function parsedBody(request: ParsedRequest): Uint8Array | "BODY_CONSUMED" | undefined {
  const { rawBody, body } = request;
  if (rawBody instanceof Uint8Array) return rawBody;
  if (body instanceof Uint8Array) return body;
  // A stream that decodes has lost bytes that are not UTF-8. Parsers that pass leave the stream alone, whatever `body` is.
  const read = request.readableDidRead || request.readableEnded || request.readableEncoding !== null;
  return read ? "BODY_CONSUMED" : undefined;
}

function readBody(request: IncomingMessage, { maxBodyBytes, deadlines }: Gate): Promise<BodyRead> {
  if (request.destroyed) return Promise.resolve("BODY_INCOMPLETE");
  return new Promise((resolve) => {
    const bytes = new BodyBuffer(maxBodyBytes);
    let open = true;
    const settle = (result: BodyRead) => {
      if (!open) return;
      open = false;
      deadlines.end(reading);
      resolve(result);
    };
    const reading = deadlines.begin(() => settle("BODY_TIMEOUT"));
    request.on("data", (chunk: Uint8Array) => {
      if (open && !bytes.add(chunk)) settle("BODY_TOO_LARGE");
    });
    request.on("end", () => settle(bytes.take()));
    // A sender that goes away: "error", or only "close" where something destroyed the request.
    const brokeOff = () => settle("BODY_INCOMPLETE");
    request.on("error", brokeOff);
    request.on("close", brokeOff);
  });
}

/** The refusal of a body that was not read to its end. */
async function refuseBody(
  gate: Gate,
  request: IncomingMessage,
  response: ServerResponse,
  why: Exclude<BodyRead, Uint8Array>,
): Promise<void> {
  if (why === "BODY_CONSUMED") return send(response, gate.consumed());
  if (why === "BODY_TOO_LARGE") return refuseUnread(gate, request, response, gate.refuse(why));
  return send(response, gate.refuse(why), true);
}

/** Sends an answer in one piece. Where somebody else answered, or the sender is gone, there is nothing to send. */
function send(response: ServerResponse, answer: Answer, close = false): void {
  if (response.headersSent || response.destroyed) return;
  writeHead(response, answer, close);
  response.end(answer.body);
}

function writeHead(response: ServerResponse, { status, headers, body }: Answer, close: boolean): void {
  const sent: Record<string, string | number> = { ...headers };
  if (status !== 204 && status !== 304) {
    sent["content-length"] = typeof body === "string" ? Buffer.byteLength(body) : body.length;
  }
  // HTTP/2 knows no such header.
  if (close && response.req.httpVersionMajor < 2) sent["connection"] = "close";
  response.writeHead(status, sent);
}

/**
 * Answers before the body has arrived. Closing a connection with unread bytes resets it, and the sender might never see
 * the answer: so the answer goes out first, a bounded rest is read and dropped, and only then the response ends.
 */
async function refuseUnread(
  gate: Gate,
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
): Promise<void> {
  if (response.headersSent || response.destroyed) return;
  if (request.readableEnded || request.destroyed) return send(response, answer);
  writeHead(response, answer, answer.status === 413);
  response.flushHeaders();
  if (request.method !== "HEAD") response.write(answer.body);
  const whole = await drain(request, gate.deadlines);
  response.end(() => {
    if (!whole) request.destroy();
  });
}

function drain(request: IncomingMessage, deadlines: ReadDeadlines): Promise<boolean> {
  return new Promise((resolve) => {
    let left = DRAIN_BYTES;
    const settle = (whole: boolean) => {
      deadlines.end(reading);
      resolve(whole);
    };
    const reading = deadlines.begin(() => settle(false));
    request.on("data", (chunk: Uint8Array) => {
      left -= chunk.length;
      if (left < 0) settle(false);
    });
    request.on("end", () => settle(true));
    request.on("error", () => settle(false));
    request.on("close", () => settle(false));
  });
}
