import { describe, expect, it } from "vitest";
import { describeWith } from "../../services.ts";
import { seededRandom } from "../crash/random.ts";
import { CLUSTER_STORES, startServer } from "./stores.ts";
import { Storm, type Trouble } from "./storm.ts";

const PROCESSES = 8;
const LEASE_MS = 2_000;
const PATIENCE_MS = 60_000;

/** Each of them, some twice. `npm run test:crash -- --cluster` has more. */
const troubles: readonly Trouble[] = [
  "kill",
  "stop",
  "cut",
  "replace",
  "break",
  "restart",
  "kill",
  "stop",
  "cut",
];

describe.each(CLUSTER_STORES)("eight processes on %s", (store) => {
  describeWith(store)("with a server of their own", () => {
    it(
      "lose nothing and share nothing, whatever is killed, stopped, cut or restarted (I2, I3, I5)",
      { timeout: 300_000 },
      async () => {
        await using server = await startServer[store]();
        const seed = Math.floor(Math.random() * 1_000_000);
        const options = { store, server, space: "cluster", leaseMs: LEASE_MS };
        await using storm = new Storm(options, seededRandom(seed), PATIENCE_MS);
        const over = storm.run(PROCESSES, troubles);
        await expect(over, `seed ${seed}`).resolves.toBeUndefined();
        expect(storm.cluster.members.size).toBe(PROCESSES);
      },
    );
  });
});
