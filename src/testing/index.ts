/**
 * What users import to test their own adapters and stores.
 *
 * @module
 */

export { TestClock } from "./test-clock.ts";
export { testStore } from "./store-suite.ts";
export type { StoreSuiteOptions, TestRunner } from "./store-suite/fixture.ts";
