import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import * as fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { defineProvider, defineResource, hmacSignature, SyncEngine } from "trueup";
import { sqliteStore } from "trueup/sqlite";
import { TrueupError } from "../../../src/core/errors.ts";
import { parseBody } from "../../../src/sources/webhook/body.ts";
import { connectionIdText, isUsableId } from "../../../src/sources/webhook/delivery.ts";
import { silent, temporaryDirectory } from "../../engine/notes.ts";
import { HOSTILE_TEXTS, hostileBytes, hostileText, hostileValue, LONG_UNITS, longOf } from "../../hostile.ts";
import { rawClient } from "./raw-client.ts";

const SECRET = "of the receiver";
const MAX_BODY_BYTES = 65_536;
const sign = (body: Uint8Array | string, secret = SECRET) =>
  createHmac("sha256", secret).update(body).digest("hex");

/** A receiver with a real store behind it. Bytes choose the connection and the events, as they do in real adapters. */
function receiver() {
  const store = sqliteStore({ path: join(temporaryDirectory(), "sync.db") });
  const note = defineResource({
    schema: z.object({ id: z.string() }),
    idOf: (row) => row.id,
    fetch: async (id) => ({ id }),
    list: async () => ({ items: [] }),
  });
  const provider = defineProvider({
    name: "notes",
    webhook: {
      maxBodyBytes: MAX_BODY_BYTES,
      connection: (delivery) => delivery.header("x-connection") ?? delivery.json?.connection ?? "default",
      verify: hmacSignature({
        secret: SECRET,
        header: "x-signature",
        algorithm: "sha256",
        encoding: "hex",
        idHeader: "x-id",
      }),
      events: ({ json }) => json.events,
    },
    resources: { note },
  });
  const engine = new SyncEngine({
    providers: [provider],
    store,
    logger: silent,
    connections: { get: (_, id) => (id === "nobody" ? undefined : { id, credentials: {} }) },
  });
  engine.handle("notes.note", () => {});
  onTestFinished(() => engine.stop({ timeoutMs: 1_000 }));
  const broken: unknown[] = [];
  engine.on("error", ({ error }) => {
    if (!(error instanceof TrueupError)) broken.push(error);
  });
  const { node, fetch } = engine.webhook("notes");
  const scope = { provider: "notes", connection: "default", resource: "note" };
  /** All that a delivery could have changed. */
  const state = async () => {
    await engine.status(); // opens it
    return JSON.stringify([
      await store.counter(scope),
      await store.counts(),
      await store.pending(Number.MAX_SAFE_INTEGER),
      await store.connections("notes"),
      await store.pauses(),
      await store.listDead({}, { cursor: undefined, limit: 10 }),
    ]);
  };
  return { broken, fetch, node, state };
}

const json = (id: string) => JSON.stringify({ events: [{ resource: "note", objectId: id }] });

/** Refusals and the neutral answer; never a 500, which would be a fault of ours. */
const STATUSES = [200, 400, 401, 405, 413, 415];

const headerText = hostileText.filter((text) => {
  try {
    return new Headers({ x: text }).get("x") !== null && text.length < 4_000;
  } catch {
    return false;
  }
});

describe("unsigned bytes at a receiver (I11)", () => {
  test("should change nothing behind the Fetch face, whatever they are", async () => {
    const { broken, fetch, state } = receiver();
    const before = await state();
    const request = fc.record({
      method: fc.constantFrom("POST", "POST", "POST", "PUT", "GET", "DELETE"),
      body: fc.oneof(hostileBytes, fc.constant(Buffer.from(json("n1")))),
      type: fc.constantFrom("application/json", "application/x-www-form-urlencoded", "text/plain", ""),
      signature: fc.oneof(
        headerText,
        fc.constant(sign("another body")),
        fc.constant(sign("", "another secret")),
      ),
      connection: fc.option(fc.oneof(headerText, fc.constantFrom("nobody", "default", "acme"))),
      id: headerText,
    });
    await fc.assert(
      fc.asyncProperty(request, async ({ method, body, type, signature, connection, id }) => {
        fc.pre(signature !== sign(body));
        const response = await fetch(
          new Request("http://receiver.example/hook?__proto__=1", {
            method,
            headers: {
              "content-type": type,
              "x-signature": signature,
              "x-id": id,
              ...(connection === null ? {} : { "x-connection": connection }),
            },
            ...(method === "GET" ? {} : { body: Buffer.from(body) }),
          }),
        );
        expect(STATUSES).toContain(response.status);
        const answer = (await response.json()) as { status?: string };
        if (response.status === 200) expect(answer.status).toBe("ignored");
      }),
      { numRuns: 300 },
    );
    expect(await state()).toBe(before);
    expect(broken).toEqual([]);
    await expectControl(fetch, state, before);
  });

  test("should change nothing behind the Node face, whatever comes over the wire", async () => {
    const { broken, fetch, node, state } = receiver();
    const server = createServer(node).listen(0, "127.0.0.1");
    await new Promise((resolve) => void server.once("listening", resolve));
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    const before = await state();
    const body = json("n1");
    const head = (lines: readonly string[]) =>
      `POST /hook HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${lines.join("\r\n")}\r\n\r\n`;
    const signature = `x-signature: ${sign("another body")}`;
    const length = `content-length: ${body.length}`;
    const shapes: fc.Arbitrary<string | Uint8Array> = fc.oneof(
      hostileBytes,
      hostileText.map((text) => head([length, `x-signature: ${text}`]) + body),
      hostileText.map((text) => head([length, signature, `x-connection: ${text}`]) + body),
      hostileText.map((text) => head([`content-length: ${Buffer.byteLength(text)}`, signature]) + text),
      hostileText.map((text) => head([`content-length: ${text.slice(0, 20)}`, signature]) + body),
      hostileText.map((text) => head(["transfer-encoding: chunked", signature]) + text),
      fc.constantFrom(
        // A second signature, a request smuggled behind the first, a body that breaks off, two lengths.
        head([length, `x-signature: ${sign(body)}`, signature]) + body,
        head([length, signature, `x-signature: ${sign(body)}`]) + body,
        head(["content-length: 4000", `x-signature: ${sign(body)}`]) + body,
        head([length, "transfer-encoding: chunked", `x-signature: ${sign(body)}`]) + body,
        head([length, `content-length: 0`, `x-signature: ${sign(body)}`]) + body,
        head([length, "content-encoding: gzip", `x-signature: ${sign(body)}`]) + body,
        head([length, ` x-signature: ${sign(body)}`]) + body,
        head([length, `x-signature : ${sign(body)}`]) + body,
        head([`content-length: ${MAX_BODY_BYTES + 1}`, `x-signature: ${sign(body)}`]) + body,
      ),
    );
    await fc.assert(
      fc.asyncProperty(shapes, async (bytes) => {
        const client = rawClient(port);
        await client.write(bytes);
        client.socket.end();
        // Of a connection that cannot be any, a delivery is ignored with a 200.
        expect(await client.closed).not.toMatch(/HTTP\/1\.1 500|"accepted":[1-9]|"duplicates":[1-9]/);
      }),
      { numRuns: 200 },
    );
    expect(await state()).toBe(before);
    expect(broken).toEqual([]);
    await expectControl(fetch, state, before);
  });

  /** The control: the same receiver takes a signed one, and it shows. */
  async function expectControl(
    fetch: (request: Request) => Promise<Response>,
    state: () => Promise<string>,
    before: string,
  ): Promise<void> {
    const body = json("control");
    const headers = { "x-signature": sign(body) };
    const response = await fetch(
      new Request("http://receiver.example/hook", { method: "POST", body, headers }),
    );
    expect(response.status).toBe(200);
    expect(await state()).not.toBe(before);
  }
});

describe("signed bytes at a receiver", () => {
  test("should be taken or refused, and never be a fault of ours, whatever they say", async () => {
    const { broken, fetch } = receiver();
    const events = fc.array(
      fc.record(
        {
          resource: fc.oneof(fc.constantFrom("note", "*", "other", "__proto__", "constructor"), hostileValue),
          objectId: hostileValue,
          id: hostileValue,
          hint: fc.oneof(fc.constantFrom("upsert", "delete"), hostileValue),
          version: hostileValue,
          occurredAt: hostileValue,
          type: hostileValue,
          data: hostileValue,
        },
        { requiredKeys: [] },
      ),
      { maxLength: 4 },
    );
    const body = fc.oneof(
      hostileBytes,
      fc.oneof(events, hostileValue).map((all) => {
        try {
          return Buffer.from(
            JSON.stringify({ events: all }, (_, v: unknown) => (typeof v === "bigint" ? String(v) : v)),
          );
        } catch {
          return Buffer.from('{"events":[{}]}');
        }
      }),
    );
    await fc.assert(
      fc.asyncProperty(body, async (bytes) => {
        const response = await fetch(
          new Request("http://receiver.example/hook", {
            method: "POST",
            headers: { "x-signature": sign(bytes) },
            body: Buffer.from(bytes),
          }),
        );
        expect([200, 400, 413]).toContain(response.status);
      }),
      { numRuns: 300 },
    );
    expect(broken).toEqual([]);
  });
});

describe("a body", () => {
  const types = fc.constantFrom(
    undefined,
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain",
  );

  test("should be parsed, or refused with BODY_INVALID, and bring no key __proto__", () => {
    fc.assert(
      fc.property(hostileBytes, types, (bytes, type) => {
        let value: unknown;
        try {
          value = parseBody(bytes, type);
        } catch (error) {
          expect(error).toMatchObject({ name: "TrueupError", code: "BODY_INVALID" });
          return;
        }
        expect(keysOf(value)).not.toContain("__proto__");
      }),
      { numRuns: 1_000 },
    );
    expect(({} as { admin?: unknown }).admin).toBeUndefined();
  });

  test("should be read in time that grows with its length alone (I10)", () => {
    for (const unit of [...LONG_UNITS, '{"', "1,", "&", '"__proto__', ', "__proto__" ', "\\u005f"]) {
      for (const text of [longOf(unit), `[${longOf(unit)}]`, `"${longOf(unit)}"`, `[${longOf(unit)}.5]`]) {
        for (const type of ["application/json", "application/x-www-form-urlencoded"]) {
          try {
            parseBody(Buffer.from(text), type);
          } catch (error) {
            expect(error).toMatchObject({ code: "BODY_INVALID" });
          }
        }
      }
    }
  });

  /** Of a value from JSON, without recursion: it may be deep. */
  function keysOf(value: unknown): string[] {
    const keys: string[] = [];
    const waiting = [value];
    while (waiting.length > 0) {
      const next = waiting.pop();
      if (typeof next !== "object" || next === null) continue;
      keys.push(...Object.keys(next).filter((key) => !/^\d+$/.test(key)));
      waiting.push(...Object.values(next));
    }
    return keys;
  }
});

describe("the id of a connection or a delivery", () => {
  test("should be text that every store can keep, or none", () => {
    fc.assert(
      fc.property(fc.oneof(hostileValue, fc.constantFrom(...HOSTILE_TEXTS)), (id) => {
        let text: string | undefined;
        try {
          text = connectionIdText(id);
        } catch (error) {
          expect(error).toMatchObject({ code: "EVENTS_FAILED" });
          expect(typeof id).not.toBe("string");
          return;
        }
        if (text === undefined) return;
        expect(text.length).toBeGreaterThan(0);
        expect(text.length).toBeLessThanOrEqual(1_024);
        expect(Buffer.from(text).toString()).toBe(text);
        expect(text).not.toContain("\0");
        expect(isUsableId(text)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });
});
