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
export type { RecordedEvent, TestEngine, TestEngineOptions } from "./test-engine.ts";
export type { Transport, TransportAnswer, TransportRequest } from "../http/transport.ts";
export { FAKE_SECRET, FakeProvider } from "./fake-provider.ts";
export type { FakeChangeOptions, FakeProviderOptions } from "./fake-provider.ts";
export type { FakeTraffic } from "./fake-provider/api.ts";
export type { FakeRateLimit } from "./fake-provider/budget.ts";
export type { FakeDelivery, FakeWebhook, Sign, WebhookTarget } from "./fake-provider/courier.ts";
export type { FakeEvent } from "./fake-provider/event-feed.ts";
export type { Faults } from "./fake-provider/faults.ts";
export type { FakeChange, FakeObject, FakeState } from "./fake-provider/objects.ts";
export { seededRandom } from "./seeded-random.ts";
export { testSource } from "./source-suite.ts";
export type { SentMessage, SourceSubject, SourceSuiteOptions, SourceWish } from "./source-suite/fixture.ts";
export { FakeHooque } from "./fake-hooque.ts";
export type {
  FakeHooqueFault,
  FakeHooqueMessage,
  FakeHooqueOptions,
  FakeHooqueRequest,
} from "./fake-hooque.ts";
