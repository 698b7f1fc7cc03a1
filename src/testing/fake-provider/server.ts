/**
 * The HTTP face of a fake provider: a real server, on a free port of the loopback interface.
 *
 * @module
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { FakeAnswer, FakeRequest } from "./answer.ts";

export class FakeServer {
  readonly #answer: (request: FakeRequest) => Promise<FakeAnswer>;
  #server: Server | undefined;

  constructor(answer: (request: FakeRequest) => Promise<FakeAnswer>) {
    this.#answer = answer;
  }

  /** @returns its origin */
  async start(): Promise<string> {
    const server = (this.#server ??= createServer(
      (request, response) => void this.#serve(request, response),
    ));
    if (!server.listening) {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(0, "127.0.0.1", resolve);
      });
    }
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    server.closeAllConnections();
    await new Promise<void>((resolve) => void server.close(() => resolve()));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "GET", url = "/" } = request;
    const headers = Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [
        name,
        Array.isArray(value) ? value.join(", ") : value,
      ]),
    );
    request.resume();
    const answer = await this.#answer({ method, url: new URL(url, "http://fake.example"), headers });
    switch (answer.kind) {
      case "silent":
        return;
      case "refused":
      case "reset":
        request.socket.destroy();
        return;
      case "answer":
        send(response, answer);
    }
  }
}

function send(response: ServerResponse, answer: FakeAnswer & { kind: "answer" }): void {
  const body = Buffer.from(answer.body);
  // A 304 has no body, and none of its length.
  const length = answer.status === 304 ? undefined : { "content-length": body.length };
  response.writeHead(answer.status, { ...answer.headers, ...length });
  if (answer.brokenAfter === undefined) response.end(body);
  else response.write(body.subarray(0, answer.brokenAfter), () => response.destroy());
}
