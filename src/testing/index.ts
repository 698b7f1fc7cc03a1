/**
 * What users import to test their own adapters and stores.
 *
 * @module
 */

export { TestClock } from "./test-clock.ts";
export { testStore } from "./store-suite.ts";
export type { StoreSuiteOptions, TestRunner, TransactionProbe } from "./store-suite/fixture.ts";
export { createChange } from "./create-change.ts";
export type { ChangeParts } from "./create-change.ts";
export { testEngine } from "./test-engine.ts";
export type { RecordedEvent, TestEngine } from "./test-engine.ts";
export { testSource } from "./source-suite.ts";
export type { SentMessage, SourceSubject, SourceSuiteOptions, SourceWish } from "./source-suite/fixture.ts";
export { FakeHooque } from "./fake-hooque.ts";
export type {
  FakeHooqueFault,
  FakeHooqueMessage,
  FakeHooqueOptions,
  FakeHooqueRequest,
} from "./fake-hooque.ts";
