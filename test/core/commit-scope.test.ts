import { describe, expect, test } from "vitest";
import { insideCommit, refuseInsideCommit } from "../../src/core/commit-scope.ts";
import { thrownCode, turn } from "./fakes.ts";

const refused = () => refuseInsideCommit("trigger");

describe("inside a commit callback", () => {
  test("should be refused what would wait for itself", async () => {
    await expect(insideCommit(refused)).rejects.toMatchObject({ code: "NESTED_COMMIT" });
  });

  test("should be free what it started and did not wait for, once it has ended", async () => {
    const ended = Promise.withResolvers<void>();
    let later: Promise<unknown> | undefined;
    await insideCommit(() => {
      later = ended.promise.then(refused);
    });
    ended.resolve();
    await later;
  });

  test("should be all that it awaits and all that it calls", async () => {
    const after = insideCommit(async () => {
      await turn();
      return thrownCode(refused);
    });
    expect(await after).toBe("NESTED_COMMIT");
  });
});

describe("outside of it", () => {
  test("should be free: before, meanwhile and after", async () => {
    expect(refused).not.toThrow();
    const inside = insideCommit(() => turn());
    expect(refused).not.toThrow();
    await inside;
    expect(refused).not.toThrow();
  });
});
