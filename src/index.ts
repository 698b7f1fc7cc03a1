/**
 * trueup keeps your own copy of a provider's objects right: events only trigger, the authoritative object is fetched,
 * and reconciliation finds what no event told.
 *
 * @module
 */

export { SyncEngine } from "./engine.ts";
export type { AnyEngine, ChangeOf, HandlerOf, TxOf } from "./engine.ts";
export type {
  ConnectionOption,
  ModeOf,
  ReconcileOptions,
  ScheduleOptions,
  VerifyOptions,
  WebhookOptions,
} from "./core/calls.ts";
export type { EngineOptions, Connections } from "./core/options.ts";
export type { StartOptions } from "./core/lifecycle.ts";
export type { DrainResult, EngineStatus, RouteStatus } from "./core/status.ts";
export type { Arrival, DeliveryStatus, SourceKind } from "./core/delivery-health.ts";
export type { AdoptRow } from "./core/adopt.ts";
export type { DeadLetter, DeadLetterPage, DeadLetterQuery, DeadLetters } from "./core/dead-letters.ts";

export { defineProvider } from "./core/provider.ts";
export type {
  AnyProvider,
  ApiDefinition,
  ClassifiedResponse,
  Connection,
  Provider,
  ProviderDefinition,
  RateLimit,
  ResourceOf,
  ResponseClass,
  RouteOf,
  Verifiers,
  WebhookAnswer,
  WebhookDefinition,
} from "./core/provider.ts";
export { defineResource } from "./core/resource.ts";
export type {
  AnyResource,
  Freshness,
  IdValue,
  ListArguments,
  ObjectOf,
  Page,
  Resource,
  ResourceDefinition,
  ShrinkGuard,
  SummaryRow,
} from "./core/resource.ts";
export type { ApiClient, ApiRequest, ApiResponse, Context, Headers, Query, QueryValue } from "./core/api.ts";

export type { Hint, ObjectRef, Origin, ReceivedEvent, Scope, StoredEvent, SyncEvent } from "./core/event.ts";
export type { CompareVersions, Version } from "./core/version.ts";
export type { Batch, BatchHandler, Change, Handler } from "./core/change.ts";
export type { BatchHandlerOptions, HandlerOptions } from "./core/handling.ts";
export type {
  CompletedPass,
  DriftReport,
  DriftSample,
  PassCounts,
  PassMode,
  ReconcileReport,
} from "./core/pass.ts";
export type { EventMap, Listener, Logger } from "./core/hooks.ts";
export type {
  EventDelivery,
  Outcome,
  OutcomeStatus,
  RawDelivery,
  Sink,
  Source,
  SourceEnvironment,
  Verifier,
  WebhookDelivery,
} from "./core/source.ts";
export { pollSource } from "./core/poll-source.ts";
export type { PollArguments, PollResult, PollSourceOptions } from "./core/poll-source.ts";
export type { Clock, Random } from "./core/clock.ts";
export type { RetryPolicy } from "./core/retry.ts";

export {
  HttpError,
  RateLimitError,
  RejectError,
  RetryLaterError,
  SchemaError,
  SignatureError,
  TrueupError,
} from "./core/errors.ts";
export type { ErrorCode } from "./core/errors.ts";

export type {
  AppendEntry,
  AppendResult,
  Claim,
  ClaimRequest,
  DeadLetterFilter,
  DeadRecord,
  FailureRecord,
  IndexEntry,
  LaneKind,
  Lock,
  Lookup,
  PageRecord,
  Pause,
  Pending,
  RouteCounts,
  Settlement,
  SettleOutcome,
  Store,
  StoreEnvironment,
  StoreGuarantees,
  WorkSession,
} from "./core/store.ts";

export { cursorPages, linkPages, offsetPages, pageNumbers, urlPath } from "./http/index.ts";
export type {
  CursorPagesOptions,
  LinkPagesOptions,
  ListFunction,
  OffsetArguments,
  OffsetPagesOptions,
  PageNumberArguments,
  PageNumbersOptions,
  PagesOptions,
} from "./http/index.ts";

export type { Receiver } from "./sources/webhook/receiver.ts";
export { relay } from "./sources/relay.ts";
export type { Relay, RelayOptions } from "./sources/relay.ts";
export { queueSource } from "./sources/queue/source.ts";
export type {
  DriverEnvironment,
  MessageHeaders,
  Nack,
  QueueConnection,
  QueueDriver,
  QueueMessage,
} from "./sources/queue/driver.ts";
export type { Envelope } from "./sources/queue/envelope.ts";
export type { DriverDefaults, QueueSourceOptions } from "./sources/queue/options.ts";
export type { QueuePublisher } from "./sources/queue/publisher.ts";
export type { GhostSignatureOptions } from "./signatures/ghost.ts";
export { ghostSignature } from "./signatures/ghost.ts";
export type { GithubSignatureOptions } from "./signatures/github.ts";
export { githubSignature } from "./signatures/github.ts";
export type { HeaderTokenOptions } from "./signatures/header-token.ts";
export { headerToken } from "./signatures/header-token.ts";
export type { HmacSignatureOptions, SignedContent } from "./signatures/hmac-signature.ts";
export { hmacSignature } from "./signatures/hmac-signature.ts";
export type { StandardWebhooksOptions } from "./signatures/standard-webhooks.ts";
export { standardWebhooks } from "./signatures/standard-webhooks.ts";

export type { KeyvStoreOptions } from "./stores/keyv.ts";
export { keyvStore } from "./stores/keyv.ts";
