/**
 * A load generator that costs little: raw sockets, requests made before the clock starts, one request at a time on
 * each connection.
 */
import { createHmac } from "node:crypto";
import { connect, type Socket } from "node:net";

export interface LoadResult {
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers other than 200. */
  readonly refused: number;
}

export const SECRET = "bench secret of the hooks";

/** Requests as bytes, each about another object, with a body of about 1.5 kB and its signature. */
export function makeRequests(count: number, seed: string): Buffer[] {
  const filler = "x".repeat(1_300);
  return Array.from({ length: count }, (_, i) => {
    const body = JSON.stringify({
      id: `evt_${seed}_${i}`,
      type: "thing.updated",
      object: `obj_${seed}_${i}`,
      version: i,
      data: { filler },
    });
    const signature = createHmac("sha256", SECRET).update(body).digest("hex");
    return Buffer.from(
      `POST /hooks HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nx-signature: ${signature}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  });
}

/** Sends all requests over so many connections. */
export async function sendAll(
  port: number,
  requests: readonly Buffer[],
  connections: number,
): Promise<LoadResult> {
  const latencies: number[] = [];
  let next = 0;
  let refused = 0;
  const startedAt = performance.now();
  await Promise.all(
    Array.from(
      { length: connections },
      () =>
        new Promise<void>((resolve, reject) => {
          const socket = connect(port, "127.0.0.1");
          let sentAt = 0;
          const send = () => {
            const request = requests[next];
            if (request === undefined) {
              socket.end();
              resolve();
              return;
            }
            next += 1;
            sentAt = performance.now();
            socket.write(request);
          };
          socket.setNoDelay(true);
          socket.on("connect", send);
          socket.on("error", reject);
          onAnswers(socket, (status) => {
            latencies.push(performance.now() - sentAt);
            if (status !== 200) refused += 1;
            send();
          });
        }),
    ),
  );
  const seconds = (performance.now() - startedAt) / 1_000;
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
  return { requestsPerSecond: requests.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99), refused };
}

/** Calls back with the status of each answer. Answers have a content-length. */
function onAnswers(socket: Socket, onAnswer: (status: number) => void): void {
  let pending = "";
  socket.on("data", (chunk) => {
    pending += chunk.toString("latin1");
    for (;;) {
      const head = pending.indexOf("\r\n\r\n");
      if (head < 0) return;
      const length = Number(/content-length: (\d+)/i.exec(pending)?.[1] ?? 0);
      if (pending.length < head + 4 + length) return;
      const status = Number(pending.slice(9, 12));
      pending = pending.slice(head + 4 + length);
      onAnswer(status);
    }
  });
}
