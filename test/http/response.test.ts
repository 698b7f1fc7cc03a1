import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { rejection, setup } from "./harness.ts";

/** What a body with these headers is decoded to. */
async function received(body: string | Buffer, headers: Record<string, string>, status = 200) {
  const { api } = await setup((_request, response) => void response.writeHead(status, headers).end(body));
  return api.get("x");
}

describe("a body", () => {
  test.each<[string, string | Buffer, string | undefined, unknown]>([
    ["JSON", '{"a":[1,"ü"]}', "application/json", { a: [1, "ü"] }],
    ["JSON in capitals with a charset", "[1]", "Application/JSON; charset=UTF-8", [1]],
    ["JSON by suffix", "[1]", "application/vnd.api+json", [1]],
    ["a JSON word", "null", "application/problem+json", null],
    ["JSON behind a byte order mark", "\ufeff[1]", "application/json", [1]],
    ["text, however it looks", "[1]", "text/plain", "[1]"],
    ["text in Latin-1", Buffer.from([0xe9]), 'text/plain; charset="iso-8859-1"', "é"],
    ["JSON without a type", '{"a":1}', undefined, { a: 1 }],
    ["text without a type", "12", undefined, "12"],
    ["broken JSON without a type", "{a", undefined, "{a"],
  ])("should be decoded: %s", async (_, body, type, expected) => {
    expect(await received(body, type === undefined ? {} : { "content-type": type })).toEqual(expected);
  });

  test.each<[string, Buffer | string, string]>([
    ["JSON that breaks off", '{"secret":"canary', "application/json"],
    ["JSON that is not UTF-8", Buffer.from([0x22, 0xff, 0x22]), "application/json"],
    ["text that is not UTF-8", Buffer.from([0xff]), "text/plain"],
    ["text in an unknown charset", "a", "text/plain; charset=klingon"],
  ])("should be refused: %s", async (_, body, type) => {
    const error = await rejection(received(body, { "content-type": type }));
    expect(error).toMatchObject({ code: "RESPONSE_INVALID" });
    expect(error.message).toMatch(/^crm: GET \/x: /);
    expect(`${error.message} ${String(error.cause)}`).not.toContain("canary");
  });

  test.each([200, 204])(
    "should never be missing from a `get`, which would read as gone: %i",
    async (status) => {
      expect(await rejection(received("", {}, status))).toMatchObject({ code: "RESPONSE_INVALID" });
    },
  );

  test("should be undefined for a request that is answered without one", async () => {
    const bare = await setup((_request, response) => void response.writeHead(204).end());
    expect(await bare.api.request({ path: "x" })).toMatchObject({ status: 204, data: undefined });
    const { api } = await setup(
      (_request, response) =>
        void response
          .writeHead(200, {
            "content-type": "application/json",
            "content-encoding": "gzip",
            "content-length": "30",
          })
          .end(),
    );
    expect(await api.request({ method: "head", path: "x" })).toMatchObject({ status: 200, data: undefined });
  });

  test("should keep the digits of integers that a number cannot hold", async () => {
    const text =
      '{"id":12345678901234567890,"neg":-9007199254740993,"list":[9007199254740992,1],"safe":9007199254740991,' +
      '"short":1e300,"fraction":0.12345678901234567890,"text":"a 12345678901234567890","big":1234567890123456789.5}';
    expect(await received(text, { "content-type": "application/json" })).toEqual({
      id: 12345678901234567890n,
      neg: -9007199254740993n,
      list: [9007199254740992n, 1],
      safe: 9007199254740991,
      short: 1e300,
      fraction: Number("0.1234567890123456789"),
      text: "a 12345678901234567890",
      big: Number("1234567890123456789.5"),
    });
    expect(await received("12345678901234567890", { "content-type": "application/json" })).toBe(
      12345678901234567890n,
    );
  });
});

describe("a compressed body", () => {
  const text = JSON.stringify({ a: "é".repeat(1_000) });
  test.each([
    ["gzip", gzipSync(text)],
    ["x-gzip", gzipSync(text)],
    ["br", brotliCompressSync(text)],
    ["deflate", deflateSync(text)],
    ["deflate", deflateRawSync(text)],
    ["identity", Buffer.from(text)],
    ["GZIP", gzipSync(text)],
  ])("should be uncompressed: %s", async (encoding, body) => {
    expect(
      await received(body, { "content-type": "application/json", "content-encoding": encoding }),
    ).toEqual(JSON.parse(text));
  });

  test("should be asked for", async () => {
    const { api, server } = await setup((_request, response) => void response.end());
    await api.request({ path: "x" });
    expect(server.seen[0]?.headers["accept-encoding"]).toBe("gzip, br, deflate");
  });

  test.each([
    ["two encodings", "gzip, gzip", gzipSync(gzipSync(text))],
    ["an unknown encoding", "zstd", Buffer.from("x")],
    ["an inherited name", "constructor", Buffer.from("x")],
    ["no gzip at all", "gzip", Buffer.from("hello")],
    ["a gzip that breaks off", "gzip", gzipSync(text).subarray(0, 20)],
  ])("should be refused: %s", async (_, encoding, body) => {
    const error = await rejection(received(body, { "content-encoding": encoding }));
    expect(error).toMatchObject({ code: "RESPONSE_INVALID" });
  });

  test("should not unfold beyond the cap, whatever it is worth", async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000));
    expect(bomb.length).toBeLessThan(100_000);
    const { api } = await setup(
      (_request, response) => void response.writeHead(200, { "content-encoding": "gzip" }).end(bomb),
      { api: { maxBodyBytes: 1_000_000 } },
    );
    const before = process.memoryUsage().arrayBuffers;
    expect(await rejection(api.get("x"))).toMatchObject({ code: "BODY_TOO_LARGE" });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });
});

describe("a body over the cap", () => {
  test("should be cut off where it passes the cap, whatever length it announces", async () => {
    let sent = 0;
    const { api } = await setup(
      (_request, response) => {
        const more = () => {
          while (!response.destroyed && response.write(Buffer.alloc(10_000))) sent += 10_000;
        };
        response.on("drain", more);
        more();
      },
      { api: { maxBodyBytes: 50_000 } },
    );
    expect(await rejection(api.get("x"))).toMatchObject({
      code: "BODY_TOO_LARGE",
      message: expect.stringMatching(/50000/) as string,
    });
    // Far from endless: what was in flight when the client hung up.
    expect(sent).toBeLessThan(50_000_000);
  });

  test("should fit exactly", async () => {
    const { api } = await setup((_request, response) => void response.end("x".repeat(100)), {
      api: { maxBodyBytes: 100 },
    });
    expect(await api.get("x")).toHaveLength(100);
  });

  test("should not hide what the status says", async () => {
    const { api } = await setup((_request, response) => void response.writeHead(404).end("x".repeat(101)), {
      api: { maxBodyBytes: 100 },
    });
    const error = await rejection(api.get("x"));
    expect(error).toMatchObject({ code: "HTTP_STATUS", status: 404, data: undefined });
  });
});

describe("an answer", () => {
  test("should have lower-case headers, repeated ones joined, and the status", async () => {
    const { api } = await setup((_request, response) => {
      response.writeHead(
        201,
        [
          ["X-Thing", "a"],
          ["X-Thing", "b"],
          ["Link", "<x>; rel=next"],
        ].flat(),
      );
      response.end();
    });
    const { status, headers } = await api.request({ path: "x" });
    expect(status).toBe(201);
    expect(headers).toMatchObject({ "x-thing": "a, b", link: "<x>; rel=next" });
  });
});
