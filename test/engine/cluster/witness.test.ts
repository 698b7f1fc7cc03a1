import { describe, expect, it } from "vitest";
import { Witness } from "./witness.ts";

const LEASE_MS = 100;

describe("the witness of a cluster", () => {
  it("should see two that handle one object at once", () => {
    const witness = new Witness(LEASE_MS, () => 0);
    witness.begin({ member: 1, id: "a", fence: 1, rev: 1 });
    witness.begin({ member: 2, id: "b", fence: 2, rev: 1 });
    expect(witness.all(), "control").toEqual([]);
    witness.begin({ member: 2, id: "a", fence: 2, rev: 1 });
    expect(witness.all()).toHaveLength(1);
  });

  it("should not mind one after another, nor one in the place of one that died", () => {
    const witness = new Witness(LEASE_MS, () => 0);
    const run = { member: 1, id: "a", fence: 1, rev: 1 };
    witness.begin(run);
    witness.end(run);
    witness.begin({ ...run, fence: 2 });
    witness.died(1);
    witness.begin({ ...run, member: 2, fence: 3 });
    expect([witness.all(), witness.overtaken]).toEqual([[], 0]);
  });

  it("should not mind a run whose process says that it was silent for a lease", () => {
    let now = 1_000;
    const witness = new Witness(LEASE_MS, () => now);
    witness.begin({ member: 1, id: "a", fence: 1, rev: 1 });
    witness.begin({ member: 2, id: "a", fence: 2, rev: 1 });
    now = 1_050;
    witness.wasSilent(2, 500);
    expect(witness.all(), "it is not the one that lost").toHaveLength(1);
    witness.wasSilent(1, 150);
    expect([witness.all(), witness.overtaken]).toEqual([[], 1]);
    now = 1_050 + LEASE_MS + 1;
    witness.begin({ member: 3, id: "a", fence: 3, rev: 1 });
    expect(witness.all(), "long after, it should have noticed; and the other was silent before").toHaveLength(
      2,
    );
  });

  it("should see a state that comes after a later one, and refuse an old fence", () => {
    const witness = new Witness(LEASE_MS, () => 0);
    witness.write({ member: 1, id: "a", fence: 5, rev: 7 }, "seven");
    witness.write({ member: 2, id: "a", fence: 4, rev: 8 }, "eight");
    expect(witness.refused).toBe(1);
    expect(witness.copy.get("a")).toMatchObject({ text: "seven" });
    witness.write({ member: 2, id: "a", fence: 6, rev: 6 }, "six");
    expect(witness.violations).toHaveLength(1);
  });
});
