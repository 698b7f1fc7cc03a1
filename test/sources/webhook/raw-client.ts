import { connect, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** A connection on which a test writes bytes as it likes. `closed` has all that came back. */
export class RawClient {
  readonly socket: Socket;
  readonly closed: Promise<string>;
  #received = "";
  #waiting: (() => void)[] = [];

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    this.socket.setEncoding("latin1");
    this.socket.on("data", (chunk: string) => {
      this.#received += chunk;
      for (const check of this.#waiting) check();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on("close", () => resolve(this.#received));
    });
    this.socket.on("error", () => {}); // a reset; `closed` says what came before
  }

  /** Resolves once the bytes are on their way: false where the connection is closed. */
  write(text: string | Uint8Array): Promise<boolean> {
    return new Promise((resolve) => {
      this.socket.write(text, (error) => resolve(error == null));
    });
  }

  /** Resolves with what came back once it holds `text`. */
  received(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (this.#received.includes(text)) resolve(this.#received);
      };
      this.#waiting.push(check);
      check();
      void this.closed.then((all) => reject(new Error(`closed after ${JSON.stringify(all)}`)));
    });
  }
}

export function rawClient(port: number): RawClient {
  const client = new RawClient(port);
  onTestFinished(() => {
    client.socket.destroy();
  });
  return client;
}
