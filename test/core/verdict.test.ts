import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { contentHash } from "../../src/core/content.ts";
import type { Claim, IndexEntry } from "../../src/core/store.ts";
import { type Evidence, judge, lagDelay, objectEvidence, type Verdict } from "../../src/core/verdict.ts";
import { claimOf, entryOf, resourceOf } from "./fakes.ts";

const resource = resourceOf();
const gone: Evidence = { kind: "gone" };

/** What a fetch found: an object with this version, and this content. */
const found = (rev: number | undefined, name = "Ada") =>
  objectEvidence(resource, { id: "1", name, rev }, "fetch");

const present = (parts: Partial<IndexEntry> = {}) =>
  entryOf({ version: "n:5", hash: contentHash("Ada"), ...parts });
const tombstone = (parts: Partial<IndexEntry> = {}) => entryOf({ state: "gone", version: "n:5", ...parts });

function outcome(verdict: Verdict): string {
  if (verdict.kind !== "handle") return verdict.kind;
  return `${verdict.change}${verdict.regressed ? ", regressed" : ""}`;
}

const judged = (claim: Partial<Claim>, evidence: Evidence, by = resource) =>
  outcome(judge(by, claimOf(claim), evidence, 0));

/** So often waited for that the API is believed. */
const BELIEVED = { lags: 30 };

type Case = [what: string, claim: Partial<Claim>, evidence: Evidence, first: string, atLast: string];

const nothingKnown: Case[] = [
  ["an object", {}, found(5), "upsert", "upsert"],
  ["no object", {}, gone, "unchanged", "unchanged"],
  ["no object, though a handler may have begun", { begun: true }, gone, "delete", "delete"],
  ["no object, though handling was forced", { forced: true }, gone, "delete", "delete"],
];

const copyHasIt: Case[] = [
  ["the same", { index: present() }, found(5), "unchanged", "unchanged"],
  ["the same, with a version that moved", { index: present() }, found(6), "unchanged", "unchanged"],
  ["the same, with a version that went back", { index: present() }, found(4), "unchanged", "unchanged"],
  ["a newer one", { index: present() }, found(6, "Bea"), "upsert", "upsert"],
  ["another content under the same version", { index: present() }, found(5, "Bea"), "upsert", "upsert"],
  ["an older one (I4)", { index: present() }, found(4, "Bea"), "wait", "upsert, regressed"],
  ["another one without a version", { index: present() }, found(undefined, "Bea"), "upsert", "upsert"],
  ["the same, and handling was forced", { index: present(), forced: true }, found(5), "upsert", "upsert"],
  ["the same, and a handler may have begun", { index: present(), begun: true }, found(5), "upsert", "upsert"],
  ["none", { index: present() }, gone, "delete", "delete"],
];

const copyHasTheDeletion: Case[] = [
  ["none", { index: tombstone() }, gone, "unchanged", "unchanged"],
  ["none, and handling was forced", { index: tombstone(), forced: true }, gone, "delete", "delete"],
  ["one newer than the tombstone", { index: tombstone() }, found(6), "upsert", "upsert"],
  ["one as old as the tombstone (I4)", { index: tombstone() }, found(5), "wait", "upsert, regressed"],
  ["one behind the tombstone (I4)", { index: tombstone() }, found(4), "wait", "upsert, regressed"],
  [
    "one that nothing orders (I4)",
    { index: tombstone({ version: null }) },
    found(6),
    "wait",
    "upsert, regressed",
  ],
  ["one without a version (I4)", { index: tombstone() }, found(undefined), "wait", "upsert, regressed"],
];

const upsert = (hintVersion?: string): Partial<Claim> => ({ hint: "upsert", hintVersion });
const deletion = (hintVersion?: string): Partial<Claim> => ({ hint: "delete", hintVersion });

const announced: Case[] = [
  ["an upsert, and none is there", upsert(), gone, "wait", "unchanged"],
  ["an upsert, and the copy's is not there", { ...upsert(), index: present() }, gone, "wait", "delete"],
  [
    "an upsert that an older tombstone does not know",
    { ...upsert("n:6"), index: tombstone() },
    gone,
    "wait",
    "unchanged",
  ],
  [
    "an upsert that the tombstone covers",
    { ...upsert("n:5"), index: tombstone() },
    gone,
    "unchanged",
    "unchanged",
  ],
  [
    "an upsert without a version, after a tombstone",
    { ...upsert(), index: tombstone() },
    gone,
    "wait",
    "unchanged",
  ],
  ["an upsert, and it is there", upsert(), found(5), "upsert", "upsert"],
  ["a version, and an older one is there", upsert("n:6"), found(5), "wait", "upsert"],
  ["a version without a hint, and an older one is there", { hintVersion: "n:6" }, found(5), "wait", "upsert"],
  ["a version, and that is there", upsert("n:5"), found(5), "upsert", "upsert"],
  ["a version, and a newer one is there", upsert("n:4"), found(5), "upsert", "upsert"],
  ["a version, and an object without any is there", upsert("n:6"), found(undefined), "wait", "upsert"],
  ["a version that nothing orders", upsert("s:etag"), found(5), "upsert", "upsert"],
  [
    "a version, and the copy's old one is still there",
    { ...upsert("n:6"), index: present() },
    found(5),
    "wait",
    "unchanged",
  ],
  ["a deletion, and it is still there", deletion(), found(5), "wait", "upsert"],
  [
    "a deletion, and the copy's is still there",
    { ...deletion(), index: present() },
    found(5),
    "wait",
    "unchanged",
  ],
  ["a deletion of just that version", deletion("n:5"), found(5), "wait", "upsert"],
  ["a deletion, and a later one is there", deletion("n:5"), found(6), "upsert", "upsert"],
  ["a deletion, and it is gone", { ...deletion(), index: present() }, gone, "delete", "delete"],
  ["a deletion of what the copy never had", deletion(), gone, "unchanged", "unchanged"],
  [
    "a deletion again, and an object behind the tombstone",
    { ...deletion(), index: tombstone() },
    found(4),
    "wait",
    "upsert, regressed",
  ],
];

describe.each([
  ["where nothing is known, and the API has", nothingKnown],
  ["where the copy has the object, and the API has", copyHasIt],
  ["where the copy has the deletion, and the API has", copyHasTheDeletion],
  ["where an event announced (I13)", announced],
] as const)("%s", (_, cases) => {
  test.each(cases)("%s", (_what, claim, evidence, first, atLast) => {
    expect([judged(claim, evidence), judged({ ...claim, ...BELIEVED }, evidence)]).toEqual([first, atLast]);
  });
});

describe("a tombstone (I4)", () => {
  test("should have the highest version that is known of, from an event or from before", () => {
    const indexAfter = (claim: Partial<Claim>) => {
      const verdict = judge(resource, claimOf({ ...claim, ...BELIEVED }), gone, 0);
      return verdict.kind === "wait" ? undefined : verdict.index;
    };
    expect(indexAfter({ ...upsert("n:6"), index: tombstone() })).toMatchObject({ version: "n:6" });
    expect(indexAfter({ ...deletion("n:4"), index: tombstone() })).toMatchObject({ version: "n:5" });
    expect(indexAfter({ ...deletion("n:6"), index: present() })).toMatchObject({ version: "n:6" });
    expect(indexAfter({ ...deletion("n:4"), index: present() })).toMatchObject({ version: "n:5" });
  });
});

describe("a deletion of what nobody knew", () => {
  const indexAfter = (claim: Partial<Claim>) => {
    const verdict = judge(resource, claimOf(claim), gone, 0);
    return verdict.kind === "unchanged" ? verdict.index : verdict.kind;
  };

  test("should be remembered with its version, so that a replica that still shows the object is doubted", () => {
    const index = indexAfter({ ...deletion("n:6"), fence: 12 });
    expect(index).toEqual(tombstone({ version: "n:6", evidence: 12 }));
    const known = { index: index as IndexEntry };
    expect(judged({ ...upsert("n:5"), ...known }, found(5))).toBe("wait");
    expect(judged({ ...upsert("n:5"), ...known, lags: 1 }, gone)).toBe("unchanged");
    expect(judged({ ...upsert("n:7"), ...known }, found(7))).toBe("upsert");
  });

  test("should leave nothing without a version, with which to tell an object that is made later", () => {
    expect(indexAfter(deletion())).toBeNull();
    expect(indexAfter({})).toBeNull();
    expect(indexAfter({ hint: "upsert", hintVersion: "n:6", ...BELIEVED })).toBeNull();
  });
});

describe("an announcement that comes while an earlier doubt is waited for (I13)", () => {
  const { believeAfterMs, firstRetryMs } = resource.freshness;
  const [first] = [...Array(20).keys()].filter((lags) => lagDelay(lags, resource.freshness) === undefined);
  /** How often an API that stays behind is asked about an announcement that came when the schedule was at its end. */
  const retries = (receivedAt: number, parts: Partial<Claim> = {}, evidence: Evidence = found(5)) => {
    const delays: number[] = [];
    let now = receivedAt + 10;
    for (let lags = first as number; lags < 100; lags += 1) {
      const event = { version: "n:6", origin: "webhook", receivedAt } as const;
      const claim = claimOf({ ...upsert("n:6"), events: [event], lags, ...parts });
      const verdict = judge(resource, claim, evidence, now);
      if (verdict.kind !== "wait") break;
      delays.push(verdict.retryInMs);
      now += verdict.retryInMs;
    }
    return delays;
  };

  test("should be waited for in its own time, from its receipt", () => {
    const delays = retries(1_000_000);
    expect(delays[0]).toBe(firstRetryMs);
    expect(delays.slice(1, 4)).toEqual([510, 1_020, 2_040]);
    expect(delays.reduce((sum, delay) => sum + delay, 10)).toBeLessThanOrEqual(believeAfterMs);
    expect(retries(1_000_000, {}, gone)).toEqual(delays);
  });

  test("should be waited for with no more retries than the schedule has, even where its clock is ahead", () => {
    const ahead = { events: [{ version: "n:6", origin: "webhook", receivedAt: 9e12 } as const] };
    expect(retries(1_000_000, ahead)).toEqual(Array(first).fill(firstRetryMs));
  });

  test("should not be waited for where it is old, or where the doubt is about something else", () => {
    const old = { events: [{ version: "n:6", origin: "webhook", receivedAt: 0 } as const] };
    expect(retries(1_000_000, old)).toEqual([]);
    const silent = { events: [{ origin: "webhook", receivedAt: 1_000_000 } as const] };
    expect(retries(1_000_000, silent)).toEqual([]);
    const behind = { hint: undefined, hintVersion: undefined, index: present({ version: "n:9" }) };
    expect(retries(1_000_000, behind, found(5, "Bea"))).toEqual([]);
  });
});

describe("waiting (I13)", () => {
  test("should never happen without a hint or a contradiction", () => {
    for (const lags of [0, 1, 30]) {
      expect(judged({ lags }, found(1))).toBe("upsert");
      expect(judged({ lags, index: present() }, gone)).toBe("delete");
    }
  });

  test("should not happen at all where freshness.believeAfterMs is 0", () => {
    const hasty = resourceOf({ freshness: { believeAfterMs: 0 } });
    expect(judged({ hint: "upsert", index: present() }, gone, hasty)).toBe("delete");
    expect(judged({ index: present() }, found(4, "Bea"), hasty)).toBe("upsert, regressed");
  });

  test("should be over when its retries have taken believeAfterMs, to the millisecond", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100_000 }),
        fc.nat(10_000_000),
        (firstRetryMs, believeAfterMs) => {
          const delays: number[] = [];
          for (;;) {
            const delay = lagDelay(delays.length, { firstRetryMs, believeAfterMs });
            if (delay === undefined) break;
            delays.push(delay);
            expect(delays.length).toBeLessThan(30);
          }
          expect(delays.reduce((sum, delay) => sum + delay, 0)).toBe(believeAfterMs);
          const undisturbed = delays.slice(0, -1);
          expect(undisturbed).toEqual(undisturbed.map((_, i) => firstRetryMs * 2 ** i));
          expect(delays.every((delay) => delay > 0)).toBe(true);
        },
      ),
    );
  });

  test("should follow the documented schedule by default", () => {
    const delays = Array.from({ length: 8 }, (_, lags) => lagDelay(lags, resource.freshness));
    expect(delays).toEqual([500, 1_000, 2_000, 4_000, 8_000, 14_500, undefined, undefined]);
    const verdict = judge(resource, claimOf({ hint: "upsert", lags: 5 }), gone, 0);
    expect(verdict).toMatchObject({ kind: "wait", retryInMs: 14_500 });
  });

  test("should end however often it was waited", () => {
    for (const lags of [31, 1_023, 1_100, 1e9]) expect(lagDelay(lags, resource.freshness)).toBeUndefined();
  });
});

describe("the order of versions", () => {
  test("should be the user's where there is one", () => {
    const rank = ["draft", "open", "closed"];
    const ranked = resourceOf({
      versionOf: (contact) => rank[contact.rev ?? 0],
      compareVersions: (a, b) => rank.indexOf(a as string) - rank.indexOf(b as string),
    });
    const at = (rev: number) => objectEvidence(ranked, { id: "1", name: `as ${rank[rev]}`, rev }, "fetch");
    const index = present({ version: "s:open" });
    expect(judged({ index }, at(0), ranked)).toBe("wait");
    expect(judged({ index }, at(2), ranked)).toBe("upsert");
    expect(judged({ hint: "upsert", hintVersion: "s:closed" }, at(1), ranked)).toBe("wait");
  });
});

describe("properties of every verdict", () => {
  const versions = fc.constantFrom(null, "n:4", "n:5", "n:6", "s:etag");
  const names = fc.constantFrom("Ada", "Bea");
  const entries = fc.option(
    fc.record({
      state: fc.constantFrom("present" as const, "gone" as const),
      version: versions,
      hash: fc.option(names.map(contentHash)),
      rowHash: fc.option(names.map(contentHash)),
      revision: fc.constantFrom(1, 2),
      evidence: fc.constant(5),
    }),
    { nil: undefined },
  );
  const claims = fc.record({
    hint: fc.constantFrom(undefined, "upsert" as const, "delete" as const),
    hintVersion: fc.constantFrom(undefined, "n:4", "n:5", "n:6"),
    lags: fc.constantFrom(0, 30),
    begun: fc.boolean(),
    forced: fc.boolean(),
    index: entries,
  });
  const evidences: fc.Arbitrary<Evidence> = fc.oneof(
    fc.constant(gone),
    fc.record({
      kind: fc.constant("object" as const),
      object: fc.constant({}),
      version: versions,
      hash: names.map(contentHash),
      shape: fc.constantFrom("fetch" as const, "row" as const),
    }),
  );

  test("should hand nothing over as older than before unless it was waited for (I4)", () => {
    fc.assert(
      fc.property(claims, evidences, (claim, evidence) => {
        const verdict = judge(resource, claimOf(claim), evidence, 0);
        if (verdict.kind === "handle" && verdict.regressed) expect(claim.lags).toBe(30);
        if (claim.lags === 30) expect(verdict.kind).not.toBe("wait");
      }),
      { numRuns: 1_000 },
    );
  });

  test("should leave the same question unchanged once it was answered (I5)", () => {
    fc.assert(
      fc.property(claims, evidences, (claim, evidence) => {
        const verdict = judge(resource, claimOf({ ...claim, ...BELIEVED }), evidence, 0);
        if (verdict.kind === "wait") throw new Error("nobody waits for ever");
        const index = verdict.index ?? undefined;
        expect(judged({ index }, evidence)).toBe("unchanged");
      }),
      { numRuns: 1_000 },
    );
  });

  test("should record the claim's fence as evidence and the resource's revision", () => {
    fc.assert(
      fc.property(claims, evidences, (claim, evidence) => {
        const verdict = judge(resource, claimOf({ ...claim, fence: 77 }), evidence, 0);
        if (verdict.kind !== "wait" && verdict.index !== null)
          expect(verdict.index).toMatchObject({ evidence: 77, revision: 1 });
      }),
    );
  });
});
