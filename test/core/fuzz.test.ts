import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ApiClients, Context } from "../../src/core/api.ts";
import { Deadlines } from "../../src/core/deadline.ts";
import { SchemaError, TrueupError } from "../../src/core/errors.ts";
import { type SyncEvent, validateEvent } from "../../src/core/event.ts";
import { listPages } from "../../src/core/lister.ts";
import { emptyCounts, newCycle, parsePassRecord, type PassRecord } from "../../src/core/pass.ts";
import type { Page } from "../../src/core/resource.ts";
import {
  compareEncoded,
  decodeVersion,
  encodeVersion,
  type Version,
  versionOrder,
} from "../../src/core/version.ts";
import { TestClock } from "../../src/testing/test-clock.ts";
import { HOSTILE_TEXTS, hostileText, hostileValue, LONG_UNITS, longOf } from "../hostile.ts";
import { resourceOf, scope } from "./fakes.ts";

describe("an event of an adapter", () => {
  const hostileEvent = fc.oneof(
    hostileValue,
    fc.record(
      {
        resource: fc.oneof(fc.constantFrom("contact", "*"), hostileValue),
        objectId: fc.oneof(fc.constantFrom("1", 1, 1n), hostileValue),
        id: hostileValue,
        hint: hostileValue,
        version: hostileValue,
        occurredAt: hostileValue,
        type: hostileValue,
        data: hostileValue,
      },
      { requiredKeys: [] },
    ),
  );

  test("should be refused with EVENT_INVALID, or become JSON within its bounds", () => {
    const context = { origin: "webhook", receivedAt: 0, deliveryId: "d" } as const;
    fc.assert(
      fc.property(hostileEvent, (event) => {
        let valid: ReturnType<typeof validateEvent>;
        try {
          valid = validateEvent(event as SyncEvent, context, { maxEventDataBytes: 1_000 });
        } catch (error) {
          expect(error).toMatchObject({ name: "TrueupError", code: "EVENT_INVALID" });
          return;
        }
        const json = JSON.stringify(valid.stored);
        expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(JSON.parse(json))));
        expect(json.length).toBeLessThan(20_000);
        for (const text of [valid.id ?? "", valid.objectId]) {
          expect(text.isWellFormed() && !text.includes("\0") && text.length <= 1_024).toBe(true);
        }
      }),
      { numRuns: 3_000 },
    );
  });
});

describe("a version", () => {
  const version = fc.oneof(
    hostileValue,
    fc.date().map((date) => (Number.isNaN(date.getTime()) ? date : date.toISOString())),
    fc.stringMatching(/^-?[0-9]{1,40}$/),
    fc.double(),
    fc.bigInt(),
  );

  test("of any kind should be refused, or come back as it was, ordered with every other or not at all", () => {
    const encoded = (value: unknown): string | null => {
      try {
        return encodeVersion(value as Version);
      } catch (error) {
        expect(error).toMatchObject({ name: "TrueupError", code: "OPTION_INVALID" });
        return null;
      }
    };
    fc.assert(
      fc.property(version, version, (one, other) => {
        const [a, b] = [encoded(one), encoded(other)];
        const [there, back] = [compareEncoded(a, b), compareEncoded(b, a)];
        expect([undefined, -1, 0, 1]).toContain(there);
        expect(there === undefined ? back : back! + there).toBe(there === undefined ? undefined : 0);
        if (a === null) return;
        expect(encodeVersion(decodeVersion(a))).toBe(a);
        expect(a.length).toBeLessThanOrEqual(1_026);
      }),
      { numRuns: 3_000 },
    );
  });

  test("should be refused when it is no version but a content (I10)", () => {
    for (const long of ["x".repeat(1_025), 10n ** 1_024n]) expect(() => encodeVersion(long)).toThrow("1024");
    expect(encodeVersion("x".repeat(1_024))).toHaveLength(1_026);
  });

  test("should be ordered in time that grows with its length alone (I10)", () => {
    for (const unit of [...LONG_UNITS, "2026-01-01T00:00:00.", "1-"]) {
      expect(versionOrder(`s:${longOf(unit)}`)).toBeNull();
      expect(versionOrder(`s:2026-01-01T00:00:00.${longOf(unit)}`)).toBeNull();
    }
  });
});

describe("a page of an adapter's list", () => {
  const page = fc.oneof(
    hostileValue,
    fc.record(
      {
        items: fc.oneof(
          fc.array(fc.oneof(hostileValue, fc.record({ id: hostileValue, name: hostileText }))),
          hostileValue,
        ),
        next: fc.oneof(hostileText, hostileValue),
        deleted: fc.oneof(fc.array(hostileValue, { maxLength: 3 }), hostileValue),
        asOf: hostileValue,
      },
      { requiredKeys: ["items"] },
    ),
  );

  test.each(["full", "summary"] as const)(
    "should be read or refused, with rows (%s) that name something and a cursor that can be kept",
    async (listItems) => {
      await fc.assert(
        fc.asyncProperty(page, async (given) => {
          const pages: Page[] = [given as Page, { items: [] }];
          let calls = 0;
          const request = {
            scope,
            resource: resourceOf({ listItems, list: async () => pages[Math.min(calls++, 1)]! }),
            since: null,
            limit: 10,
            cursor: null,
            cycle: newCycle(),
            mark: async () => 1,
            onRequest: () => {},
            signal: new AbortController().signal,
          };
          const apis = { of: () => ({ context: async () => ({}) as Context }) } as unknown as ApiClients;
          const options = { apis, deadlines: new Deadlines(new TestClock()), fetchTimeoutMs: 1_000 };
          try {
            for await (const { next, rows, deleted, unreadable } of listPages(request, options)) {
              expect(JSON.parse(JSON.stringify({ next }))).toEqual({ next });
              for (const id of [...rows.map((row) => row.id), ...deleted])
                expect(id !== "" && id.isWellFormed() && !id.includes("\0")).toBe(true);
              expect(unreadable.every((error) => error instanceof Error)).toBe(true);
            }
          } catch (error) {
            expect(error).toBeInstanceOf(TrueupError);
            expect(error).not.toBeInstanceOf(SchemaError);
          }
        }),
        { numRuns: 500 },
      );
    },
  );
});

describe("a checkpoint", () => {
  const state = {
    startedAt: 1,
    handle: "changed",
    startMark: 2,
    since: null,
    pageSize: 100,
    watermark: null,
    cursor: "c",
    phase: "list",
    sweptTo: null,
    unreadable: false,
    counts: emptyCounts(),
    cycle: newCycle(),
  } as const;
  const record: PassRecord = {
    current: state,
    last: { startedAt: 1, finishedAt: 2, watermark: 3, counts: emptyCounts() },
  };

  test("should be read as it was written", () => {
    expect(parsePassRecord(JSON.stringify(record))).toEqual(record);
    expect(parsePassRecord(undefined)).toEqual({ current: null, last: null });
  });

  test("should be none where it cannot be read, so that the pass begins anew instead of failing for ever", () => {
    const whole = JSON.stringify(record);
    const damaged = fc.oneof(
      hostileText,
      fc.constantFrom(...HOSTILE_TEXTS),
      hostileValue.map(
        (current) => JSON.stringify({ current: current ?? null, last: null }, withoutBigInts) ?? "",
      ),
      fc.nat(whole.length).map((length) => whole.slice(0, length)),
      fc.constantFrom(...Object.keys(state)).map((name) => {
        const { [name]: _, ...rest } = state as Record<string, unknown>;
        return JSON.stringify({ current: rest, last: null });
      }),
    );
    fc.assert(
      fc.property(damaged, (text) => {
        fc.pre(text !== whole);
        expect(parsePassRecord(text)).toEqual({ current: null, last: null });
      }),
      { numRuns: 1_000 },
    );
  });

  function withoutBigInts(_key: string, value: unknown): unknown {
    return typeof value === "bigint" ? String(value) : value;
  }
});
