import { describe, expect, it } from "vitest";
import { compareCopy } from "../../examples/github-demo/compare.ts";
import { describeDifferences, table, type Details } from "../../examples/github-demo/report.ts";

const truth = new Map<string, Record<string, unknown>>([
  ["issue a/b 1", { number: 1, title: "one", labels: [{ name: "bug" }] }],
  ["issue a/b 2", { number: 2, title: "two", labels: [] }],
]);

describe("comparing the copy with GitHub", () => {
  it("finds nothing where they are equal, in whatever order", () => {
    expect(compareCopy(truth, new Map([...structuredClone(truth)].toReversed()))).toEqual([]);
  });

  it("finds what the copy lacks", () => {
    const copy = new Map([...truth].slice(1));
    expect(compareCopy(truth, copy)).toEqual([{ object: "issue a/b 1", kind: "missing", fields: [] }]);
  });

  it("finds what the copy has in another state, and names the fields", () => {
    const copy = new Map<string, Record<string, unknown>>([
      ...truth,
      ["issue a/b 1", { number: 1, title: "uno", labels: [{ name: "docs" }] }],
    ]);
    expect(compareCopy(truth, copy)).toEqual([
      { object: "issue a/b 1", kind: "stale", fields: ["title", "labels"] },
    ]);
  });

  it("finds fields that one side lacks", () => {
    const copy = new Map<string, Record<string, unknown>>([
      ...truth,
      ["issue a/b 2", { number: 2, title: "two", body: "" }],
    ]);
    expect(compareCopy(truth, copy)).toEqual([
      { object: "issue a/b 2", kind: "stale", fields: ["labels", "body"] },
    ]);
  });

  it("finds what exists in the copy alone", () => {
    const copy = new Map<string, Record<string, unknown>>([
      ...truth,
      ["issue a/b 3", { number: 3, title: "three", labels: [] }],
    ]);
    expect(compareCopy(truth, copy)).toEqual([{ object: "issue a/b 3", kind: "extra", fields: [] }]);
  });

  it("finds everything missing in an empty copy, and everything extra beside an empty truth", () => {
    expect(compareCopy(truth, new Map()).map(({ kind }) => kind)).toEqual(["missing", "missing"]);
    expect(compareCopy(new Map(), truth).map(({ kind }) => kind)).toEqual(["extra", "extra"]);
  });
});

describe("the demo's report", () => {
  it("says what differs, and what the engine itself found", () => {
    const differences = compareCopy(
      truth,
      new Map([["issue a/b 1", { number: 1, title: "uno", labels: [] }]]),
    );
    expect(describeDifferences({ differences, verified: 2 })).toEqual([
      "  missing  issue a/b 2",
      "  stale  issue a/b 1  title, labels",
      "  engine.verify found 2 to differ",
    ]);
  });

  it("shows a few of many differences", () => {
    const many = new Map(Array.from({ length: 25 }, (_, i) => [`issue a/b ${i}`, { number: i }]));
    const lines = describeDifferences({ differences: compareCopy(many, new Map()), verified: 0 });
    expect(lines).toHaveLength(11);
    expect(lines.at(-1)).toBe("  missing  and 15 more");
  });

  it("says nothing where nothing differs", () => {
    expect(describeDifferences({ differences: [], verified: 0 })).toEqual([]);
  });

  it("lines up its table", () => {
    const lines = table(someDetails).split("\n");
    expect(lines.map((line) => line.slice(0, 32).trim())).toEqual([
      "objects                     1234",
      "deliveries                     5",
      "duplicates                     2",
      "coalesced                      3",
      "fetches                       40",
      "304s                           6",
      "handled                        7",
      "repaired by reconciliation     8",
      "deleted                        9",
    ]);
  });
});

const someDetails: Details = {
  differences: [],
  verified: 0,
  backfilled: 1,
  lost: 0,
  duplicates: 2,
  ignored: 0,
  unchanged: 0,
  lagging: 0,
  pages: 0,
  repairs: { missing: 5, stale: 2, deleted: 1 },
  result: {
    objects: 1234,
    deliveries: 5,
    dropped: 1,
    duplicated: 1,
    coalesced: 3,
    fetches: 40,
    notModified: 6,
    handled: 7,
    repaired: 8,
    deleted: 9,
    kills: 1,
    drift: 0,
  },
};
