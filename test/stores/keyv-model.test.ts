import { Keyv } from "keyv";
import type { Store } from "../../src/core/store.ts";
import { keyvStore } from "../../src/stores/keyv.ts";
import { testAgainstModel } from "./model/run.ts";

testAgainstModel("keyvStore in memory", { create: () => keyvStore() });

const keyvs = new WeakMap<Store, Keyv>();
const over = (keyv: Keyv) => {
  const store = keyvStore(keyv);
  keyvs.set(store, keyv);
  return store;
};
testAgainstModel("keyvStore over a Keyv that lasts", {
  create: () => over(new Keyv({ store: new Map() })),
  reopen: (store) => over(keyvs.get(store)!),
  overtakes: false, // within one process a session is believed to live until it says otherwise
});
