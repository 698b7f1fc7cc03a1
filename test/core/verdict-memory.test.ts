/** What a verdict leaves in the index: tombstones, hashes of both shapes, revisions, adopted versions. */

import { describe, expect, test } from "vitest";
import { contentHash } from "../../src/core/content.ts";
import type { Claim, IndexEntry } from "../../src/core/store.ts";
import {
  compareRow,
  compareSummary,
  type Evidence,
  judge,
  objectEvidence,
  sameContent,
} from "../../src/core/verdict.ts";
import type { Version } from "../../src/core/version.ts";
import { claimOf, entryOf, resourceOf } from "./fakes.ts";

const resource = resourceOf();
const gone: Evidence = { kind: "gone" };
const [ada, bea] = [contentHash("Ada"), contentHash("Bea")];

const fetched = (rev: number | undefined, name = "Ada", by = resource) =>
  objectEvidence(by, { id: "1", name, rev }, "fetch");
const row = (rev: number | undefined, name = "Ada", by = resource) =>
  objectEvidence(by, { id: "1", name, rev }, "row");

/** The index after evidence was believed. */
function indexAfter(claim: Partial<Claim>, evidence: Evidence, by = resource): IndexEntry | null {
  const verdict = judge(by, claimOf({ lags: 30, ...claim }), evidence, 0);
  if (verdict.kind === "wait") throw new Error(verdict.reason);
  return verdict.index;
}

const kindOf = (claim: Partial<Claim>, evidence: Evidence, by = resource) =>
  judge(by, claimOf(claim), evidence, 0).kind;

describe("a tombstone", () => {
  test("should keep the highest version that is known of the object", () => {
    const index = entryOf({ version: "n:5", hash: ada });
    expect(indexAfter({ index }, gone)).toMatchObject({
      state: "gone",
      version: "n:5",
      hash: null,
      rowHash: null,
    });
    expect(indexAfter({ index, hint: "delete", hintVersion: "n:6" }, gone)).toMatchObject({ version: "n:6" });
    expect(indexAfter({ index, hint: "delete", hintVersion: "n:4" }, gone)).toMatchObject({ version: "n:5" });
    expect(indexAfter({ index: entryOf(), hint: "delete", hintVersion: "n:4" }, gone)).toMatchObject({
      version: "n:4",
    });
  });

  test("should take the event's version where nothing orders the two", () => {
    const index = entryOf({ version: "s:etag-1" });
    expect(indexAfter({ index, hintVersion: "s:etag-2" }, gone)).toMatchObject({ version: "s:etag-2" });
  });

  test("should not be kept of what was never handed over", () => {
    expect(indexAfter({}, gone)).toBeNull();
    expect(indexAfter({ begun: true }, gone)).toMatchObject({ state: "gone" });
  });
});

describe("the hashes of the two shapes", () => {
  test("should be kept apart: a row says nothing about what a fetch returns", () => {
    expect(indexAfter({}, fetched(5))).toMatchObject({ hash: ada, rowHash: null });
    expect(indexAfter({}, row(5))).toMatchObject({ hash: null, rowHash: ada });
  });

  test("should stay as long as the content does", () => {
    const index = entryOf({ version: "n:5", hash: ada, rowHash: bea });
    expect(indexAfter({ index }, fetched(6))).toMatchObject({ version: "n:6", hash: ada, rowHash: bea });
    expect(indexAfter({ index }, row(6, "Bea"))).toMatchObject({ version: "n:6", hash: ada, rowHash: bea });
  });

  test("should be dropped with the content", () => {
    const index = entryOf({ version: "n:5", hash: ada, rowHash: bea });
    const cyd = contentHash("Cyd");
    expect(indexAfter({ index }, fetched(6, "Cyd"))).toMatchObject({ hash: cyd, rowHash: null });
    expect(indexAfter({ index }, row(6, "Cyd"))).toMatchObject({ hash: null, rowHash: cyd });
  });

  test("should not come back from behind a tombstone", () => {
    const index = entryOf({ state: "gone", version: "n:5", hash: ada, rowHash: bea });
    expect(indexAfter({ index }, fetched(6))).toMatchObject({ state: "present", hash: ada, rowHash: null });
  });

  test("should compare with their own shape, and with the other only where that is all there is", () => {
    const both = entryOf({ hash: ada, rowHash: bea });
    expect([sameContent(both, fetched(5)), sameContent(both, fetched(5, "Bea"))]).toEqual([true, false]);
    expect([sameContent(both, row(5, "Bea")), sameContent(both, row(5))]).toEqual([true, false]);
    const fetchOnly = entryOf({ hash: ada });
    expect([sameContent(fetchOnly, row(5)), sameContent(fetchOnly, row(5, "Bea"))]).toEqual([true, false]);
    expect(sameContent(entryOf(), fetched(5))).toBe(false);
  });
});

describe("an entry of which nothing is known", () => {
  // As a dead letter that is discarded leaves one where a handler may have begun.
  const nothing = entryOf({ version: null, hash: null, rowHash: null, revision: 0 });

  test.each([
    ["versions", resourceOf()],
    ["none", resourceOf({ versionOf: undefined })],
  ])("should be taken for no earlier revision of the object (I5), with %s", (_, by) => {
    expect(compareRow(by, nothing, row(5, "Ada", by))).toBe("stale");
    expect(kindOf({ index: nothing }, fetched(5, "Ada", by), by)).toBe("handle");
  });
});

describe("a raised revision", () => {
  const old = entryOf({ version: "n:5", hash: "of an earlier schema" });

  test("should be adopted quietly where the version is the same or unknown", () => {
    const next = resourceOf({ revision: 2 });
    expect(kindOf({ index: old }, fetched(5, "Ada", next), next)).toBe("unchanged");
    expect(indexAfter({ index: old }, fetched(5, "Ada", next), next)).toMatchObject({
      hash: ada,
      revision: 2,
    });
    const versionless = entryOf({ hash: "of an earlier schema" });
    expect(kindOf({ index: versionless }, fetched(undefined, "Ada", next), next)).toBe("unchanged");
  });

  test("should not hide a change that came with it", () => {
    const next = resourceOf({ revision: 2 });
    expect(kindOf({ index: old }, fetched(6, "Ada", next), next)).toBe("handle");
  });

  test("should be adopted though the version is written otherwise since", () => {
    const next = resourceOf({ revision: 2, versionOf: (contact) => BigInt(contact.rev ?? 0) });
    expect(kindOf({ index: old }, fetched(5, "Ada", next), next)).toBe("unchanged");
    expect(kindOf({ index: old }, fetched(6, "Ada", next), next)).toBe("handle");
  });

  test("should hand everything over again where onRevision says so", () => {
    const next = resourceOf({ revision: 2, onRevision: "handle" });
    const index = entryOf({ version: "n:5", hash: ada });
    expect(kindOf({ index }, fetched(5, "Ada", next), next)).toBe("handle");
    expect(kindOf({ index: { ...index, revision: 2 } }, fetched(5, "Ada", next), next)).toBe("unchanged");
  });
});

describe("a version without content, which adopt() recorded", () => {
  const adopted = entryOf({ version: "n:5" });

  test("should be believed as long as the provider's is the same", () => {
    expect(kindOf({ index: adopted }, fetched(5))).toBe("unchanged");
    expect(indexAfter({ index: adopted }, fetched(5))).toMatchObject({ version: "n:5", hash: ada });
    expect(compareRow(resource, adopted, row(5))).toBe("adopted");
  });

  test("should be believed though the copy writes it otherwise", () => {
    const dated = resourceOf({ versionOf: (contact): Version => `2024-05-0${contact.rev}T10:00:00Z` });
    const index = entryOf({ version: "d:2024-05-05T10:00:00.000Z" });
    expect(kindOf({ index }, fetched(5, "Ada", dated), dated)).toBe("unchanged");
    expect(compareRow(dated, index, row(5, "Ada", dated))).toBe("adopted");
    expect(compareRow(dated, index, row(6, "Ada", dated))).toBe("stale");
  });

  test("should not be believed when it moved, or where there is none", () => {
    expect(kindOf({ index: adopted }, fetched(6))).toBe("handle");
    expect(kindOf({ index: entryOf() }, fetched(undefined))).toBe("handle");
    expect(compareRow(resource, adopted, row(6))).toBe("stale");
  });

  test("should not be believed where an event says that something happened", () => {
    expect(kindOf({ index: adopted, eventCount: 1 }, fetched(5))).toBe("handle");
  });

  test("should be a trust that ends once the content is known", () => {
    const known = indexAfter({ index: adopted }, fetched(5)) as IndexEntry;
    expect(kindOf({ index: known }, fetched(5, "Bea"))).toBe("handle");
  });
});

describe("a row of a list, compared with the index", () => {
  const index = entryOf({ version: "n:5", hash: ada, rowHash: ada });

  test.each<[string, IndexEntry | undefined, Evidence & { kind: "object" }, string]>([
    ["nothing known", undefined, row(5), "missing"],
    ["the same content", index, row(5), "same"],
    ["the same content, with a version that moved", index, row(6), "same"],
    ["a newer one", index, row(6, "Bea"), "stale"],
    ["another content under the same version", index, row(5, "Bea"), "stale"],
    ["an older one (I4)", index, row(4, "Bea"), "regressed"],
    ["another content without a version", index, row(undefined, "Bea"), "stale"],
    ["a newer one than the tombstone", entryOf({ state: "gone", version: "n:5" }), row(6), "missing"],
    ["one behind the tombstone (I4)", entryOf({ state: "gone", version: "n:5" }), row(5), "regressed"],
    ["one that nothing orders with the tombstone (I4)", entryOf({ state: "gone" }), row(5), "regressed"],
    ["another shape, the same version", entryOf({ version: "n:5", hash: ada }), row(5, "Bea"), "unclear"],
    ["another shape, no version", entryOf({ hash: ada }), row(undefined, "Bea"), "unclear"],
    ["another shape, a newer version", entryOf({ version: "n:5", hash: ada }), row(6, "Bea"), "stale"],
    ["no content known at all", entryOf({ version: null }), row(5), "stale"],
  ])("should tell of %s", (_, known, evidence, expected) => {
    expect(compareRow(resource, known, evidence)).toBe(expected);
  });

  test("should go by the version alone where the user trusts it", () => {
    const trusting = resourceOf({ compare: "version" });
    expect(compareRow(trusting, index, row(5, "Bea", trusting))).toBe("same");
    expect(compareRow(trusting, index, row(6, "Bea", trusting))).toBe("stale");
    expect(compareRow(trusting, index, row(undefined, "Bea", trusting))).toBe("stale");
  });

  test("should be stale under a raised revision that is to be handled again", () => {
    expect(compareRow(resourceOf({ revision: 2, onRevision: "handle" }), index, row(5))).toBe("stale");
    expect(compareRow(resourceOf({ revision: 2 }), index, row(6))).toBe("stale");
    expect(compareRow(resourceOf({ revision: 2 }), index, row(5))).not.toBe("stale");
  });
});

describe("a summary of a list, compared with the index", () => {
  const index = entryOf({ version: "n:5", hash: ada });

  test.each<[string, IndexEntry | undefined, string | null, string]>([
    ["nothing known", undefined, "n:5", "missing"],
    ["the same version", index, "n:5", "same"],
    ["a newer one", index, "n:6", "stale"],
    ["an older one (I4)", index, "n:4", "regressed"],
    ["no version", index, null, "unclear"],
    ["a version where none was known", entryOf({ hash: ada }), "n:5", "unclear"],
    ["another opaque version", entryOf({ version: "s:a" }), "s:b", "stale"],
    ["a newer one than the tombstone", entryOf({ state: "gone", version: "n:5" }), "n:6", "missing"],
    ["one behind the tombstone (I4)", entryOf({ state: "gone", version: "n:5" }), "n:5", "regressed"],
    ["one without a version behind the tombstone (I4)", entryOf({ state: "gone" }), null, "regressed"],
    ["the same version of an earlier revision", entryOf({ version: "n:5", revision: 0 }), "n:5", "same"],
  ])("should tell of %s", (_, known, version, expected) => {
    expect(compareSummary(resource, known, version)).toBe(expected);
  });
});
