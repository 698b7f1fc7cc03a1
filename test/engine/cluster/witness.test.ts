import { describe, expect, it } from "vitest";
import { Witness } from "./witness.ts";

const LEASE_MS = 100;

describe("the witness of a cluster", () => {
  const begun = (silence: (witness: Witness, at: (now: number) => void) => void) => {
    let now = 0;
    const witness = new Witness(LEASE_MS, () => now);
    const at = (moment: number) => (now = moment);
    silence(witness, at);
    witness.begin({ member: 1, id: "a", fence: 1, rev: 1 });
    witness.begin({ member: 2, id: "a", fence: 2, rev: 1 });
    return { violations: witness.all().length, overtaken: witness.overtaken };
  };

  it("should see two that handle one object at once", () => {
    expect(begun(() => {})).toEqual({ violations: 1, overtaken: 0 });
    expect(begun((witness) => witness.silent(2))).toEqual({ violations: 1, overtaken: 0 });
  });

  it("should not mind a run whose lease may have been lost", () => {
    expect(begun((witness) => witness.silent(1))).toEqual({ violations: 0, overtaken: 1 });
    expect(begun((witness) => witness.silent())).toEqual({ violations: 0, overtaken: 1 });
    const before = begun((witness, at) => {
      witness.silent(1)();
      at(2 * LEASE_MS + 1);
    });
    expect(before, "long after its process was silent, it should have a new one").toEqual({
      violations: 1,
      overtaken: 0,
    });
  });

  it("should not mind one after another, nor one in the place of one that died", () => {
    const witness = new Witness(LEASE_MS, () => 0);
    const run = { member: 1, id: "a", fence: 1, rev: 1 };
    witness.begin(run);
    witness.end(run);
    witness.begin({ ...run, fence: 2 });
    witness.died(1);
    witness.begin({ ...run, member: 2, fence: 3 });
    expect(witness.all()).toEqual([]);
  });

  it("should hear of a silence later, from the process itself", () => {
    let now = 0;
    const witness = new Witness(LEASE_MS, () => now);
    witness.begin({ member: 1, id: "a", fence: 1, rev: 1 });
    now = 1_000;
    witness.begin({ member: 2, id: "a", fence: 2, rev: 1 });
    expect(witness.all()).toHaveLength(1);
    now = 1_050;
    witness.wasSilent(2, 500);
    expect(witness.all(), "it is not the one that lost").toHaveLength(1);
    witness.wasSilent(1, 150);
    expect(witness.all()).toEqual([]);
    expect(witness.overtaken).toBe(1);
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
