import type { StoreEnvironment } from "../../src/core/store.ts";
import type { TestClock } from "../../src/testing/index.ts";

/** What `open` is handed, over a clock that stands still. */
export function environmentOf(clock: TestClock): StoreEnvironment {
  const ignore = () => {};
  return {
    clock,
    random: () => 0.5,
    logger: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    eventTtlMs: 60_000,
    maxEventsPerChange: 5,
  };
}
