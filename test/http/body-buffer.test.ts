import { Readable } from "node:stream";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BodyBuffer } from "../../src/http/body-buffer.ts";
import { collect } from "../../src/http/response-body.ts";

describe("BodyBuffer", () => {
  test("should give back the bytes of all chunks, up to its cap", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), fc.nat(400), (chunks, cap) => {
        const copies = chunks.map((chunk) => chunk.slice());
        const buffer = new BodyBuffer(cap);
        let kept = Buffer.alloc(0);
        for (const chunk of chunks) {
          const fits = kept.length + chunk.length <= cap;
          expect(buffer.add(chunk)).toBe(fits);
          if (fits) kept = Buffer.concat([kept, chunk]);
        }
        expect(Buffer.from(buffer.take())).toEqual(kept);
        expect(chunks, "chunks belong to others").toEqual(copies);
      }),
    );
  });

  test("should hold many small chunks in little memory", () => {
    const cap = 1_048_576;
    const buffer = new BodyBuffer(cap);
    for (let at = 0; at < cap; at += 1) buffer.add(Uint8Array.of(at % 256));
    expect(buffer.take().buffer.byteLength).toBe(cap);
  });
});

test("should keep none of an answer's chunks but the first: a server may send a byte in each (I10)", async () => {
  const cap = 10_000;
  const shared = Buffer.alloc(1);
  async function* drip() {
    yield Buffer.of(1);
    for (let at = 1; at < cap; at += 1) {
      shared[0] = at % 256;
      yield shared;
      await Promise.resolve();
    }
  }
  const body = await collect(Readable.from(drip(), { highWaterMark: 1 }), cap);
  expect(body.length).toBe(cap);
  expect([...body.subarray(0, 3), body.at(-1)]).toEqual([1, 1, 2, (cap - 1) % 256]);
});
