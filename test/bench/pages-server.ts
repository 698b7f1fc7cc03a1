/** Serves a list of unchanging things, page by page, in a process of its own. Rows are some 480 bytes. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const [count = "0", size = "1000"] = process.argv.slice(2);
const total = Number(count);
const pageSize = Number(size);
const filler = "x".repeat(400);

function page(from: number): string {
  const items = Array.from({ length: Math.min(pageSize, total - from) }, (_, i) => {
    // A bijection over the ids, so that pages come in no order that the index could profit from.
    const n = ((from + i) * 7_919) % total;
    return { id: `obj_${n}`, version: 1, name: "a thing", filler };
  });
  const next = from + pageSize < total ? String(from + pageSize) : null;
  return JSON.stringify({ items, next });
}

const server = createServer((request, response) => {
  const from = Number(new URL(request.url ?? "/", "http://bench").searchParams.get("cursor") ?? 0);
  const body = page(from);
  response.writeHead(200, { "content-type": "application/json", "content-length": body.length });
  response.end(body);
});
server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as AddressInfo).port }));
