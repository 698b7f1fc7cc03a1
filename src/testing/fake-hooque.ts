/**
 * A server on this machine that behaves as Hooque does to consumers: one queue with a visibility timeout, redelivery,
 * dead letters, REST and stream. It can be made to fail.
 *
 * @module
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { systemClock, type Clock } from "../core/clock.ts";

export interface FakeHooqueOptions {
  /** @default the system's; a `TestClock` lets leases run out without waiting */
  readonly clock?: Clock | undefined;
  /** @default 30_000 */
  readonly visibilityTimeoutMs?: number | undefined;
  /** After so many deliveries a message becomes a dead letter. @default no limit */
  readonly maxAttempts?: number | undefined;
  /** How often a stream says that it lives. @default 15_000 */
  readonly keepAliveMs?: number | undefined;
  /** The bearer token that is accepted. @default "hq_tok_test" */
  readonly token?: string | undefined;
}

/** A message as the fake keeps it. */
export interface FakeHooqueMessage {
  readonly messageId: string;
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
  readonly attempts: number;
  /** Of the dead: the `reason` that came with the reject, or why the fake gave up. */
  readonly reason?: string | undefined;
}

/** A request as it came in. */
export interface FakeHooqueRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: string;
}

/** What to do to a request instead of answering it. `"hang-up"` breaks the connection; a number is a status. */
export type FakeHooqueFault = "hang-up" | number;

interface Kept {
  readonly messageId: string;
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
  attempts: number;
  /** The delivery that holds it, and until when. */
  deliveryId: string | undefined;
  heldUntil: number;
}

interface Stream {
  readonly response: ServerResponse;
  cancel: () => void;
}

const QUEUE = "/queues/cons_1/";
const ACTIONS = ["ack", "nack", "reject"] as const;

/**
 * @example
 * const hooque = new FakeHooque();
 * const url = await hooque.start();
 * hooque.send({ type: "contact.updated", id: "c_1" });
 * const source = hooqueSource({ provider: "crm", url, token: hooque.token });
 */
export class FakeHooque {
  readonly token: string;
  /** What came in, in order. */
  readonly requests: FakeHooqueRequest[] = [];
  readonly deadLetters: FakeHooqueMessage[] = [];
  /** Ids of the messages that were acked, in order. */
  readonly acked: string[] = [];
  /** Asked for each request before it is obeyed: returns a fault, or nothing. */
  fault: (request: FakeHooqueRequest) => FakeHooqueFault | undefined = () => undefined;
  /** Shapes the metadata of a delivery before it is sent. `undefined` leaves it out: then only `Link` has the actions. */
  meta: (meta: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>> | undefined = (meta) =>
    meta;
  readonly #options: FakeHooqueOptions;
  readonly #clock: Clock;
  readonly #kept = new Map<string, Kept>();
  readonly #streams = new Set<Stream>();
  #server: Server | undefined;
  #ids = 0;
  #cancelWake = (): void => {};

  constructor(options: FakeHooqueOptions = {}) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.token = options.token ?? "hq_tok_test";
  }

  /** Listens on a port of this machine. @returns the queue's `…/next` */
  async start(): Promise<string> {
    const server = createServer((request, response) => void this.#serve(request, response));
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}${QUEUE}next`;
  }

  async close(): Promise<void> {
    this.#cancelWake();
    this.cut();
    const server = this.#server;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** Breaks all connections. */
  cut(): void {
    for (const stream of this.#streams) stream.cancel();
    this.#streams.clear();
    this.#server?.closeAllConnections();
  }

  /** Messages that are not acked yet, those in somebody's hands included. */
  get remaining(): number {
    return this.#kept.size;
  }

  /** Those that nobody holds. */
  get pending(): readonly FakeHooqueMessage[] {
    return [...this.#kept.values()].filter((message) => !this.#isHeld(message)).map(snapshot);
  }

  /**
   * Puts a message into the queue, as a webhook that Hooque took in.
   * @param payload bytes and text as they are, anything else as JSON
   * @returns its `messageId`
   */
  send(payload: unknown, headers: Readonly<Record<string, string>> = {}): string {
    const messageId = `msg_${(this.#ids += 1)}`;
    const raw = payload instanceof Uint8Array || typeof payload === "string";
    const bytes = raw ? Buffer.from(payload) : Buffer.from(JSON.stringify(payload));
    this.#kept.set(messageId, {
      messageId,
      payload: bytes,
      headers,
      attempts: 0,
      deliveryId: undefined,
      heldUntil: 0,
    });
    this.#push();
    return messageId;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { authorization } = request.headers;
    const { method = "", url: path = "" } = request;
    const seen = { method, path, authorization, body: Buffer.concat(chunks).toString() };
    this.requests.push(seen);
    const fault = this.fault(seen);
    if (fault === "hang-up") {
      request.socket.destroy();
      return;
    }
    const unauthorized = authorization === `Bearer ${this.token}` ? undefined : 401;
    const status = fault ?? unauthorized ?? this.#answer(seen, response);
    if (status !== undefined) response.writeHead(status).end();
  }

  /** @returns a status, where nothing but that is to be answered */
  #answer({ body, method, path }: FakeHooqueRequest, response: ServerResponse): number | undefined {
    const { pathname } = new URL(path, "http://hooque");
    if (!pathname.startsWith(QUEUE)) return 404;
    const [action = "", deliveryId] = pathname.slice(QUEUE.length).split("/");
    if (method === "GET" && action === "next") return this.#next(response);
    if (method === "GET" && action === "stream") return this.#openStream(response);
    if (method !== "POST" || deliveryId === undefined) return 404;
    const message = [...this.#kept.values()].find((kept) => kept.deliveryId === deliveryId);
    // Late: it was given to somebody else, or will be.
    if (message === undefined || !this.#isHeld(message)) return 410;
    return this.#settle(action, message, reasonIn(body));
  }

  #settle(action: string, message: Kept, reason: string | undefined): number {
    switch (action) {
      case "ack":
        this.#kept.delete(message.messageId);
        this.acked.push(message.messageId);
        return 200;
      case "nack":
        message.deliveryId = undefined;
        this.#push();
        return 200;
      case "reject":
        this.#bury(message, reason);
        return 200;
      default:
        return 404;
    }
  }

  #bury(message: Kept, reason: string | undefined): void {
    this.#kept.delete(message.messageId);
    this.deadLetters.push({ ...snapshot(message), reason });
  }

  #next(response: ServerResponse): number | undefined {
    const message = this.#take();
    if (message === undefined) return 204;
    const meta = this.#metaOf(message);
    response.writeHead(200, {
      "content-type": "application/json",
      ...message.headers,
      link: ACTIONS.map((action) => `<${actionUrl(action, message)}>; rel="${action}"`).join(", "),
      ...(meta === undefined ? undefined : { "x-hooque-meta": JSON.stringify(meta) }),
    });
    response.end(message.payload);
    return undefined;
  }

  #openStream(response: ServerResponse): undefined {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    response.flushHeaders();
    const stream: Stream = { response, cancel: () => {} };
    const keepAlive = (): void => {
      response.write("event: keep-alive\ndata: {}\n\n");
      stream.cancel = this.#clock.setTimer(keepAlive, this.#options.keepAliveMs ?? 15_000);
    };
    keepAlive();
    this.#streams.add(stream);
    response.on("close", () => {
      stream.cancel();
      this.#streams.delete(stream);
    });
    this.#push();
    return undefined;
  }

  /** Sends what is free down the streams, in turn, and looks again when something is due to come free. */
  #push(): void {
    this.#cancelWake();
    const streams = [...this.#streams];
    for (let i = 0; streams.length > 0; i += 1) {
      const message = this.#take();
      if (message === undefined) break;
      const text = message.payload.toString();
      const data = JSON.stringify({ payload: parsed(text), meta: this.#metaOf(message) });
      // A payload's digits are sent as they came, as by a server that does not parse them into floating point.
      const exact = isJson(text) ? data.replace('"payload":null', () => `"payload":${text}`) : data;
      streams[i % streams.length]?.response.write(
        `event: message\ndata: ${exact.replaceAll(/[\r\n]/g, " ")}\n\n`,
      );
    }
    const due = Math.min(
      ...[...this.#kept.values()].map(({ heldUntil }) => heldUntil - this.#clock.monotonic()),
    );
    if (streams.length === 0 || due === Infinity) return;
    this.#cancelWake = this.#clock.setTimer(() => this.#push(), Math.max(1, due));
  }

  #take(): (Kept & { readonly payload: Buffer }) | undefined {
    for (const message of this.#kept.values()) {
      if (this.#isHeld(message)) continue;
      if (message.attempts >= (this.#options.maxAttempts ?? Infinity)) {
        this.#bury(message, "delivered too often");
        continue;
      }
      message.attempts += 1;
      message.deliveryId = `del_${(this.#ids += 1)}`;
      message.heldUntil = this.#clock.monotonic() + (this.#options.visibilityTimeoutMs ?? 30_000);
      return message as Kept & { readonly payload: Buffer };
    }
    return undefined;
  }

  #isHeld({ deliveryId, heldUntil }: Kept): boolean {
    return deliveryId !== undefined && heldUntil > this.#clock.monotonic();
  }

  #metaOf(kept: Kept): Readonly<Record<string, unknown>> | undefined {
    const { attempts, deliveryId, messageId } = kept;
    const [ackUrl, nackUrl, rejectUrl] = ACTIONS.map((action) => actionUrl(action, kept));
    return this.meta({ messageId, deliveryId, attempts, ackUrl, nackUrl, rejectUrl });
  }
}

function actionUrl(action: string, { attempts, deliveryId }: Kept): string {
  return `${QUEUE}${action}/${deliveryId}?attempt=${attempts}`;
}

function snapshot({ attempts, headers, messageId, payload }: Kept): FakeHooqueMessage {
  return { attempts, headers, messageId, payload };
}

/** `null` where it is JSON: it is put in afterwards. */
function parsed(text: string): string | null {
  return isJson(text) ? null : text;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function reasonIn(body: string): string | undefined {
  try {
    const { reason } = JSON.parse(body) as { readonly reason?: unknown };
    return typeof reason === "string" ? reason : undefined;
  } catch {
    return undefined;
  }
}
