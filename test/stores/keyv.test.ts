import { Keyv } from "keyv";
import { describe, it } from "vitest";
import type { Store } from "../../src/core/store.ts";
import { keyvStore } from "../../src/stores/keyv.ts";
import { testStore } from "../../src/testing/index.ts";

describe("keyvStore in memory", () => {
  testStore({ describe, it }, { create: () => keyvStore() });
});

// What the store promises nobody, it does all the same while nothing fails: over a Keyv that keeps what it is given,
// everything is found again. Here it has to prove that, as a store would that says so.
describe("keyvStore over a Keyv that lasts", () => {
  const keyvs = new WeakMap<Store, Keyv>();
  const over = (keyv: Keyv) => {
    const store = Object.defineProperty(keyvStore(keyv), "guarantees", {
      value: { durability: "process", shared: false, transactional: false },
    });
    keyvs.set(store, keyv);
    return store;
  };
  testStore(
    { describe, it },
    { create: () => over(new Keyv({ store: new Map() })), reopen: (store) => over(keyvs.get(store)!) },
  );
});
