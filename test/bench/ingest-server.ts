/** One server of the ingest benchmark, in a process of its own: `bare` or `trueup`. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { SyncEngine } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { SECRET } from "./load.ts";
import { quiet, thingProvider } from "./thing.ts";

const [kind, path = ""] = process.argv.slice(2);

/** Reads the body and checks its HMAC: what any receiver must do. */
const bare: RequestListener = (request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const digest = createHmac("sha256", SECRET).update(Buffer.concat(chunks)).digest();
    const given = Buffer.from(String(request.headers["x-signature"]), "hex");
    const genuine = given.length === digest.length && timingSafeEqual(given, digest);
    const body = genuine ? '{"status":"accepted"}' : "{}";
    response.writeHead(genuine ? 200 : 401, {
      "content-type": "application/json",
      "content-length": body.length,
    });
    response.end(body);
  });
};

function durable(): RequestListener {
  const engine = new SyncEngine({
    providers: [thingProvider({})],
    store: sqliteStore({ path }),
    logger: quiet,
  });
  engine.handle("bench.thing", () => {});
  return engine.webhook("bench").node;
}

const server = createServer(kind === "bare" ? bare : durable());
server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as AddressInfo).port }));
process.on("message", () =>
  process.send?.({
    rssMb: process.memoryUsage.rss() / 1_048_576,
    cpuMs: process.cpuUsage().user / 1_000 + process.cpuUsage().system / 1_000,
  }),
);
