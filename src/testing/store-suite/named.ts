/**
 * Small named values: checkpoints and locks.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Topic } from "./fixture.ts";

export const namedTopic: Topic = {
  name: "checkpoints and locks",
  define(it) {
    it("should keep checkpoints by name, and delete them with `null`", async ({ store }) => {
      assert.equal(await store.getCheckpoint("one"), undefined);
      await store.setCheckpoint("one", '{"cursor":"ä/\u2028"}');
      await store.setCheckpoint("two", "2");
      assert.equal(await store.getCheckpoint("one"), '{"cursor":"ä/\u2028"}');
      await store.setCheckpoint("one", "next");
      assert.equal(await store.getCheckpoint("one"), "next");
      await store.setCheckpoint("one", null);
      await store.setCheckpoint("never set", null);
      assert.equal(await store.getCheckpoint("one"), undefined);
      assert.equal(await store.getCheckpoint("two"), "2");
    });

    it("should give a lock to one holder until it runs out", async ({ store, clock }) => {
      const first = await store.lock("pass", 10_000);
      assert.equal(first?.name, "pass");
      assert.equal(await store.lock("pass", 10_000), undefined);
      assert.notEqual(await store.lock("another", 10_000), undefined, "control: locks are by name");
      await clock.advance(9_999);
      assert.equal(await store.lock("pass", 10_000), undefined, "not run out yet");
      await clock.advance(2);
      const second = await store.lock("pass", 10_000);
      assert.ok(second !== undefined, "it has run out");
      assert.ok(second.fence > first.fence, "the fence grows with each taking");
    });

    it("should give a lock to one of several who ask at once", async ({ store }) => {
      const locks = await Promise.all(Array.from({ length: 10 }, () => store.lock("pass", 10_000)));
      assert.equal(locks.filter((lock) => lock !== undefined).length, 1);
    });

    it("should renew a lock for its holder", async ({ store, clock }) => {
      const first = await store.lock("pass", 10_000);
      await clock.advance(8_000);
      const renewed = await store.lock("pass", 10_000, first);
      assert.ok(renewed !== undefined && first !== undefined);
      await clock.advance(8_000);
      assert.equal(await store.lock("pass", 10_000), undefined, "16 s after taking, 8 s after renewing");
      await clock.advance(2_001);
      const second = await store.lock("pass", 10_000);
      assert.ok(second !== undefined && second.fence > renewed.fence);
      assert.equal(await store.lock("pass", 10_000, renewed), undefined, "who lost it cannot renew it");
    });

    it("should free a lock for its holder, and for nobody else", async ({ store, clock }) => {
      const first = await store.lock("pass", 10_000);
      assert.ok(first !== undefined);
      await store.unlock(first);
      const second = await store.lock("pass", 10_000);
      assert.ok(second !== undefined && second.fence > first.fence);
      await store.unlock(first);
      assert.equal(await store.lock("pass", 10_000), undefined, "the first holder has no say any more");
      await clock.advance(10_001);
      await store.unlock(second); // run out: nothing to free, and no error
      assert.notEqual(await store.lock("pass", 10_000), undefined);
    });
  },
};
