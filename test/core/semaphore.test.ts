import { describe, expect, test } from "vitest";
import { Semaphore } from "../../src/core/semaphore.ts";
import { turn } from "./fakes.ts";

describe("a semaphore", () => {
  test("should give as many permits as it has, and take them back", () => {
    const semaphore = new Semaphore(2);
    expect(semaphore.free).toBe(2);
    expect([semaphore.tryAcquire(), semaphore.tryAcquire(), semaphore.tryAcquire()]).toEqual([
      true,
      true,
      false,
    ]);
    expect(semaphore.free).toBe(0);
    semaphore.release();
    expect(semaphore.free).toBe(1);
    expect(semaphore.tryAcquire()).toBe(true);
  });

  test("should serve who waits in the order of asking", async () => {
    const semaphore = new Semaphore(1);
    const order: string[] = [];
    const worker = async (name: string) => {
      await semaphore.acquire();
      order.push(name);
      await turn();
      semaphore.release();
    };
    await Promise.all(["a", "b", "c"].map(worker));
    expect(order).toEqual(["a", "b", "c"]);
    expect(semaphore.free).toBe(1);
  });

  test("should let nobody past who waits", async () => {
    const semaphore = new Semaphore(1);
    await semaphore.acquire();
    const waiting = semaphore.acquire();
    semaphore.release(); // goes to the one who waits, and is never free
    expect([semaphore.free, semaphore.tryAcquire()]).toEqual([0, false]);
    await waiting;
    semaphore.release();
    expect(semaphore.tryAcquire()).toBe(true);
  });

  test("should never let more in than it has permits", async () => {
    const semaphore = new Semaphore(3);
    let inside = 0;
    let most = 0;
    const worker = async (i: number) => {
      await semaphore.acquire();
      inside += 1;
      most = Math.max(most, inside);
      for (let n = 0; n < i % 3; n += 1) await turn();
      inside -= 1;
      semaphore.release();
    };
    await Promise.all(Array.from({ length: 30 }, (_, i) => worker(i)));
    expect([most, inside, semaphore.free]).toEqual([3, 0, 3]);
  });

  test("should give every second one to who does not wait, where that one takes it", async () => {
    const semaphore = new Semaphore(2);
    const order: string[] = [];
    let wanted = 2;
    semaphore.onFree = () => {
      if (wanted === 0 || !semaphore.tryAcquire()) return;
      wanted -= 1;
      order.push("taken");
    };
    await Promise.all([semaphore.acquire(), semaphore.acquire()]);
    expect([semaphore.free, semaphore.expected]).toEqual([0, 0]);
    const waiting = ["a", "b", "c", "d"].map(async (name) => {
      await semaphore.acquire();
      order.push(name);
    });
    expect([semaphore.free, semaphore.expected]).toEqual([0, 1]);
    for (let i = 0; i < 6; i += 1) {
      semaphore.release();
      await turn();
    }
    await Promise.all(waiting);
    expect(order).toEqual(["a", "taken", "b", "taken", "c", "d"]);
    semaphore.release();
    semaphore.release();
    expect(semaphore.free).toBe(2);
  });
});
