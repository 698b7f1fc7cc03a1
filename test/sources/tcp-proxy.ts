import { connect, createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";

/** Stands between a client and a broker, and can break what passes through it. */
export class TcpProxy {
  readonly #sockets = new Set<Socket>();
  readonly #target: { readonly host: string; readonly port: number };
  /** Called for each connection; what it returns sees all that the client sends. */
  listen: () => (chunk: Buffer) => void = () => () => {};
  #server: Server | undefined;

  constructor(host: string, port: number) {
    this.#target = { host, port };
  }

  /** @returns its port on 127.0.0.1 */
  async start(): Promise<number> {
    const server = createServer((client) => {
      const broker = connect(this.#target.port, this.#target.host);
      for (const socket of [client, broker]) {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => {
          this.#sockets.delete(socket);
          client.destroy();
          broker.destroy();
        });
      }
      client.on("data", this.listen());
      client.pipe(broker).pipe(client);
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return (server.address() as AddressInfo).port;
  }

  /** Breaks all connections that there are. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async stop(): Promise<void> {
    this.cut();
    const server = this.#server;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }
}

/** A proxy before the server that a URL names, and the URL that leads through it. */
export async function proxied(url: string): Promise<{ readonly proxy: TcpProxy; readonly url: string }> {
  const given = new URL(url);
  const proxy = new TcpProxy(given.hostname, Number(given.port));
  given.hostname = "127.0.0.1";
  given.port = String(await proxy.start());
  return { proxy, url: given.href };
}
